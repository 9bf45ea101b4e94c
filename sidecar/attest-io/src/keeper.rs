use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_plumbing::backoff::Backoff;
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Tasks;

use crate::agent::GuestAgent;
use crate::identity::{Identity, IdentityError};

/// Pauses between attempts to renew.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Keeps our identity: issues it at start and renews it after two thirds of its validity, while sessions go on.
///
/// When the guest agent is away, the old certificate is served on until it ends, and every failed attempt is logged.
#[derive(Debug)]
pub struct IdentityKeeper {
    current: ArcSwap<Identity>,
}

impl IdentityKeeper {
    /// Issues the first identity and starts renewing it, as a task of `tasks`.
    ///
    /// # Errors
    /// When there is no first identity: nothing can be promised to anybody without one.
    pub async fn start(
        agent: GuestAgent,
        names: Vec<String>,
        validity: Duration,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, IdentityError> {
        let keeper = Self::of(Identity::issue(&agent, &names, validity).await?);
        let renewing = Arc::clone(&keeper);
        tasks.spawn("identity", async move { match renewing.renew(&agent, &names, validity).await {} });
        Ok(keeper)
    }

    /// Keeps one identity and never renews it, for programs that end before it does.
    #[must_use]
    pub fn of(identity: Identity) -> Arc<Self> {
        announce(&identity);
        Arc::new(Self { current: ArcSwap::from_pointee(identity) })
    }

    /// The identity that new sessions show.
    #[must_use]
    pub fn current(&self) -> Arc<Identity> {
        self.current.load_full()
    }

    /// Whether peers still accept the current identity's dates.
    #[must_use]
    pub fn is_current(&self) -> bool {
        unix_now() < self.current.load().not_after()
    }

    async fn renew(&self, agent: &GuestAgent, names: &[String], validity: Duration) -> Infallible {
        loop {
            tokio::time::sleep(validity / 3 * 2).await;
            let mut backoff = Backoff::new(PAUSES.0, PAUSES.1.min(validity / 10));
            loop {
                match Identity::issue(agent, names, validity).await {
                    Ok(identity) => {
                        announce(&identity);
                        metrics::counter!("identity_renewals_total", "outcome" => "renewed").increment(1);
                        self.current.store(Arc::new(identity));
                        break;
                    }
                    Err(error) => {
                        metrics::counter!("identity_renewals_total", "outcome" => "failed").increment(1);
                        let left = self.current.load().not_after().saturating_sub(unix_now());
                        tracing::warn!(%error, seconds_left = left, "our certificate could not be renewed");
                        backoff.wait().await;
                    }
                }
            }
        }
    }
}

fn announce(identity: &Identity) {
    let seconds = u32::try_from(identity.not_after()).map_or(f64::INFINITY, f64::from);
    metrics::gauge!("identity_expires_timestamp_seconds").set(seconds);
    tracing::info!(
        app_id = %identity.app().app_id,
        instance_id = %identity.app().instance_id,
        compose_hash = %identity.app().compose_hash,
        bytes = identity.certificate().len(),
        not_after = identity.not_after(),
        "our certificate is issued"
    );
}
