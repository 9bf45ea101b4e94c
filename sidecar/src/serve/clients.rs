//! Which attested clients may connect.

use std::time::Duration;

use postern_allowlist::{BootInfo, NotAdmitted};
use postern_attest::{Appraisal, PeerPolicy, PolicyRefusal};
use postern_watch::Watch;
use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;

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
        while still_allowed(chain, &boot) {
            // Another workload's change, and one that was missed, both mean: look again.
            if matches!(changes.recv().await, Err(RecvError::Closed)) {
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
fn still_allowed(chain: &Watch, boot: &BootInfo) -> bool {
    chain.current(boot).err().is_none_or(|refusal| !refusal.is_the_chains_word())
}
