//! Which attested clients may connect.

use std::time::Duration;

use postern_allowlist::{BootInfo, NotAdmitted};
use postern_attest::{Appraisal, PeerPolicy, PolicyRefusal};
use postern_watch::Watch;
use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

/// How often a connected client is asked about at least, so that the chain is watched for it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// The rules for clients: which apps, and whether the chain must allow them.
#[derive(Debug)]
pub struct Clients {
    policy: PeerPolicy,
    chain: Option<Watch>,
}

/// Why an attested client may not connect.
#[derive(Debug, Error)]
pub enum ClientRefused {
    /// It is not one of those that the configuration names.
    #[error(transparent)]
    Policy(#[from] PolicyRefusal),
    /// The chain does not allow it, or could not be asked.
    #[error(transparent)]
    Chain(#[from] NotAdmitted),
}

impl Clients {
    /// Clients that `policy` permits, and `chain` as well where there is one.
    #[must_use]
    pub const fn new(policy: PeerPolicy, chain: Option<Watch>) -> Self {
        Self { policy, chain }
    }

    /// Judges a client. `None` is a client without evidence, which only gets here when the configuration says so.
    ///
    /// # Errors
    /// See [`ClientRefused`].
    pub async fn check(&self, peer: Option<&Appraisal>, deadline: Duration) -> Result<(), ClientRefused> {
        let Some(peer) = peer else { return Ok(()) };
        self.policy.check(peer)?;
        if let Some(chain) = &self.chain {
            chain.evaluate(BootInfo::from(peer), deadline).await?;
        }
        Ok(())
    }

    /// Waits until the chain takes back what it allowed to this client; for ever where no chain is asked.
    pub async fn revoked(&self, peer: Option<&Appraisal>) {
        let (Some(chain), Some(peer)) = (&self.chain, peer) else { return std::future::pending().await };
        let boot = BootInfo::from(peer);
        let mut changes = chain.changes();
        while still_allowed(chain, &boot).await {
            // Another workload's change, one that was missed and a minute without any all mean: look again.
            if matches!(timeout(LOOK_AGAIN, changes.recv()).await, Ok(Err(RecvError::Closed))) {
                return std::future::pending().await;
            }
        }
    }
}

impl ClientRefused {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Policy(refusal) => refusal.label(),
            Self::Chain(refusal) => refusal.label(),
        }
    }

    /// A sentence that the client may read.
    #[must_use]
    pub fn public(&self) -> &'static str {
        match self {
            Self::Policy(refusal) => refusal.public(),
            Self::Chain(refusal) => refusal.public(),
        }
    }

    /// Whether trying again later may help: nobody has judged the client yet.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Chain(refusal) if !refusal.is_the_chains_word())
    }
}

/// Whether the chain's last word is not a refusal. That we know too little does not end a session.
async fn still_allowed(chain: &Watch, boot: &BootInfo) -> bool {
    let verdict = match chain.current(boot) {
        // The watch has forgotten the client, as after a leap of the clock.
        Err(NotAdmitted::NotEvaluated) => chain.evaluate(boot.clone(), Duration::ZERO).await,
        known => known,
    };
    verdict.err().is_none_or(|refusal| !refusal.is_the_chains_word())
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use postern_attest::AppIdentity;
    use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, Register};
    use postern_plumbing::shutdown::Shutdown;
    use postern_plumbing::tasks::Tasks;
    use postern_watch::{Address, WatchConfig};
    use tokio::time::{Instant, timeout};

    use super::*;

    /// The runtime's time, which the test lets pass at once.
    fn clock() -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        1_000_000 + START.get_or_init(Instant::now).elapsed().as_secs()
    }

    fn peer() -> Appraisal {
        Appraisal {
            identity: AppIdentity {
                app_id: AppId([1; 20]),
                compose_hash: ComposeHash([2; 32]),
                instance_id: InstanceId([3; 20]),
                os_image_hash: None,
                key_provider: Vec::new(),
            },
            device_id: DeviceId([5; 32]),
            mrtd: Register([9; 48]),
            rtmr: [Register([9; 48]); 4],
            mr_aggregated: [6; 32],
            mr_system: [7; 32],
            tcb_status: "UpToDate".to_owned(),
            advisory_ids: Vec::new(),
            fingerprint: [9; 32],
            valid_until: u64::MAX,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_chain_is_watched_for_a_client_for_as_long_as_it_is_connected() {
        let mut config = WatchConfig::new(vec!["http://127.0.0.1:1".parse().unwrap()], Address::ZERO);
        (config.clock, config.poll_interval) = (clock, Duration::from_secs(5));
        let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
        let watch = Watch::start(config, &tasks, shutdown.clone()).unwrap();
        let clients = Clients::new(PeerPolicy::default(), Some(watch.clone()));
        let peer = peer();
        assert!(clients.check(Some(&peer), Duration::ZERO).await.is_err(), "nobody answers");

        let hours = Duration::from_secs(2 * 3_600);
        assert!(timeout(hours, clients.revoked(Some(&peer))).await.is_err(), "not knowing is no revocation");
        assert_eq!(watch.workloads(), 1);
        tokio::time::sleep(hours).await;
        assert_eq!(watch.workloads(), 0, "it is gone, and nobody asks");
        shutdown.trigger();
    }
}
