//! Our own evidence and the judgement of others', as the configuration describes them.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Appraiser, Collateral, MAX_BUNDLE_BYTES};
use postern_attest_io::agent::AgentError;
use postern_attest_io::{Attestor, GuestAgent, IdentityKeeper};
use postern_plumbing::admin::ReadinessCheck;
use postern_plumbing::backoff::Backoff;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::{Task, Tasks, maintenance};

use crate::config::{Agent, Attestation};

/// How often the collateral's file and our certificate are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Reads the collateral.
///
/// # Errors
/// Why it cannot be used, naming the file.
pub fn collateral(path: &Path) -> Result<Collateral, String> {
    let bytes = read_bundle(path)?;
    Collateral::from_json(&bytes).map_err(|error| format!("the collateral in {}: {error}", path.display()))
}

fn read_bundle(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error| format!("cannot read the collateral in {}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_BUNDLE_BYTES as u64 {
        return Err(format!("the collateral in {} has {size} bytes, more than {MAX_BUNDLE_BYTES}", path.display()));
    }
    std::fs::read(path).map_err(unreadable)
}

/// The judge of other parties' evidence.
///
/// # Errors
/// When the collateral cannot be used.
pub fn attestor(config: &Attestation) -> Result<Arc<Attestor>, String> {
    let collateral = collateral(&config.collateral)?;
    Ok(Attestor::new(Appraiser::new(config.root.clone(), config.policy.clone()), collateral))
}

/// Puts new collateral in place whenever its file changes. Collateral that cannot be used leaves the old one in force.
pub fn follow_collateral(attestor: Arc<Attestor>, path: PathBuf) -> Task<Infallible> {
    maintenance("collateral", move || follow(Arc::clone(&attestor), path.clone()))
}

async fn follow(attestor: Arc<Attestor>, path: PathBuf) -> Result<Infallible, String> {
    let mut last = None;
    loop {
        let modified = tokio::fs::metadata(&path).await.and_then(|metadata| metadata.modified()).ok();
        if last.is_some() && modified != last {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || collateral(&path)).await;
            match read.unwrap_or_else(|error| Err(error.to_string())) {
                Ok(collateral) => {
                    tracing::info!("new collateral is in force");
                    attestor.replace_collateral(collateral);
                }
                Err(error) => tracing::error!(%error, "the new collateral cannot be used; the old one stays in force"),
            }
        }
        last = modified.or(last);
        tokio::time::sleep(LOOK).await;
    }
}

/// The guest agent that the configuration names, or that is found where dstack's SDKs look.
///
/// # Errors
/// When there is none.
pub fn agent(config: &Agent) -> Result<GuestAgent, AgentError> {
    match &config.endpoint {
        Some(endpoint) => Ok(GuestAgent::new(endpoint.clone(), config.timeout)),
        None => GuestAgent::discover(config.timeout),
    }
}

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
    config: &Agent,
    readiness: ReadinessCheck,
    background: &Tasks,
    shutdown: &Shutdown,
) -> Option<Arc<IdentityKeeper>> {
    let keeper = patiently("certificate", &readiness, shutdown, async || {
        let names = config.certificate_names.clone();
        IdentityKeeper::start(agent.clone(), names, config.certificate_validity, background).await
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
