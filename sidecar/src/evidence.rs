//! Our own evidence, which takes a guest agent that may come up after us.

use std::sync::Arc;
use std::time::Duration;

use postern_attest_io::{GuestAgent, IdentityKeeper};
use postern_plumbing::admin::ReadinessCheck;
use postern_plumbing::backoff::Backoff;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;

use crate::config::Common;

/// How often our certificate is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Asks the guest agent until it answers; `None` when the shutdown comes first. A guest that is starting may bring its agent
/// up after us.
pub async fn patiently<T, E: std::fmt::Display>(
    what: &'static str,
    readiness: &ReadinessCheck,
    shutdown: &Shutdown,
    ask: impl AsyncFn() -> Result<T, E>,
) -> Option<T> {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
    loop {
        let answer = tokio::select! {
            answer = ask() => answer,
            () = shutdown.triggered() => return None,
        };
        match answer {
            Ok(answer) => return Some(answer),
            Err(error) => {
                tracing::warn!(%error, what, "waiting for the guest agent");
                readiness.not_ready(error.to_string());
            }
        }
        tokio::select! {
            () = backoff.wait() => {}
            () = shutdown.triggered() => return None,
        }
    }
}

/// Our certificate, renewed in place; `None` when the shutdown comes before there is one.
pub async fn identity(
    agent: &GuestAgent,
    config: &Common,
    readiness: ReadinessCheck,
    background: &Tasks,
    shutdown: &Shutdown,
) -> Option<Arc<IdentityKeeper>> {
    let keeper = patiently("certificate", &readiness, shutdown, async || {
        let names = config.certificate_names.clone();
        IdentityKeeper::start(agent.clone(), names, config.agent.certificate_validity, background).await
    })
    .await?;
    readiness.ready();
    let watched = Arc::clone(&keeper);
    background.spawn("identity readiness", async move {
        loop {
            tokio::time::sleep(LOOK).await;
            if watched.is_current() {
                readiness.ready();
            } else {
                readiness.not_ready("our certificate has expired and could not be renewed");
            }
        }
    });
    Some(keeper)
}
