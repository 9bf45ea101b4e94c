//! Which attested clients may connect.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use postern_allowlist::{Admission, BootInfo, NotAdmitted};
use postern_attest::{Appraisal, PeerPolicy, PolicyRefusal};
use postern_watch::{Change, Watch};
use thiserror::Error;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

/// How often a connected client is asked about at least, so that the chain is watched for it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Who knows what the chain allows: in earnest [`Watch`], in tests a table.
pub trait Chain: fmt::Debug + Send + Sync {
    /// Asks about a workload and follows it from then on.
    fn evaluate(&self, boot: BootInfo, deadline: Duration) -> Answer<'_>;

    /// What is known about a workload that was asked about.
    ///
    /// # Errors
    /// Why it is not admitted.
    fn current(&self, boot: &BootInfo) -> Result<Admission, NotAdmitted>;

    /// Verdicts that turn into their opposite.
    fn changes(&self) -> broadcast::Receiver<Change>;
}

/// An answer of the chain that is on its way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Admission, NotAdmitted>> + Send + 'a>>;

impl Chain for Watch {
    fn evaluate(&self, boot: BootInfo, deadline: Duration) -> Answer<'_> {
        Box::pin(Self::evaluate(self, boot, deadline))
    }

    fn current(&self, boot: &BootInfo) -> Result<Admission, NotAdmitted> {
        Self::current(self, boot)
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        Self::changes(self)
    }
}

/// The rules for clients: which apps, and whether the chain must allow them.
#[derive(Debug)]
pub struct Clients {
    policy: PeerPolicy,
    chain: Option<Arc<dyn Chain>>,
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
    pub fn new(policy: PeerPolicy, chain: Option<Arc<dyn Chain>>) -> Self {
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

    /// The clients that the configuration names.
    #[must_use]
    pub fn policy(&self) -> &PeerPolicy {
        &self.policy
    }

    /// Waits until the chain takes back what it allowed to this client; for ever where no chain is asked.
    pub async fn revoked(&self, peer: Option<&Appraisal>) {
        let (Some(chain), Some(peer)) = (&self.chain, peer) else { return std::future::pending().await };
        let boot = BootInfo::from(peer);
        let mut changes = chain.changes();
        while still_allowed(chain.as_ref(), &boot).await {
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
async fn still_allowed(chain: &dyn Chain, boot: &BootInfo) -> bool {
    let verdict = match chain.current(boot) {
        // The watch has forgotten the client, as after a leap of the clock.
        Err(NotAdmitted::NotEvaluated) => chain.evaluate(boot.clone(), Duration::ZERO).await,
        known => known,
    };
    verdict.err().is_none_or(|refusal| !refusal.is_the_chains_word())
}

#[cfg(test)]
pub(super) mod tests;
