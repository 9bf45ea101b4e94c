//! Which attested clients may connect.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use postern_allowlist::{Admission, BootInfo, NotAdmitted, Proven, welcome};
use postern_attest::{Appraisal, PeerPolicy};
use postern_watch::{Change, Clock, Watch};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

/// How often a connected client is asked about at least, so that the chain is watched for it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Who knows what the chain allows: in earnest [`Watch`], in tests a table.
pub trait Chain: fmt::Debug + Send + Sync {
    /// Asks about a workload and follows it from then on.
    fn evaluate<'a>(&'a self, proven: Proven<'a>, deadline: Duration) -> Answer<'a>;

    /// What is known about a workload that was asked about.
    ///
    /// # Errors
    /// Why it is not admitted.
    fn current(&self, proven: Proven<'_>) -> Result<Admission, NotAdmitted>;

    /// Verdicts that turn into their opposite.
    fn changes(&self) -> broadcast::Receiver<Change>;
}

/// An answer of the chain that is on its way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Admission, NotAdmitted>> + Send + 'a>>;

impl Chain for Watch {
    fn evaluate<'a>(&'a self, proven: Proven<'a>, deadline: Duration) -> Answer<'a> {
        Box::pin(Self::evaluate(self, proven, deadline))
    }

    fn current(&self, proven: Proven<'_>) -> Result<Admission, NotAdmitted> {
        Self::current(self, proven)
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        Self::changes(self)
    }
}

/// The rules for clients: which apps, and whether the chain must allow them.
pub struct Clients {
    policy: PeerPolicy,
    chain: Option<Arc<dyn Chain>>,
    clock: Clock,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("policy", &self.policy).field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl Clients {
    /// Clients that `policy` permits, and `chain` as well where there is one. `clock` is the time by which their evidence is
    /// judged.
    #[must_use]
    pub fn new(policy: PeerPolicy, chain: Option<Arc<dyn Chain>>, clock: Clock) -> Self {
        Self { policy, chain, clock }
    }

    /// Judges a client. `None` is a client without evidence, which only gets here when the configuration says so.
    ///
    /// # Errors
    /// Why it may not connect.
    pub async fn check(&self, peer: Option<&Appraisal>, deadline: Duration) -> Result<(), NotAdmitted> {
        let Some(peer) = peer else { return Ok(()) };
        let boot = BootInfo::from(peer);
        let proven = Proven { boot: &boot, until: peer.valid_until };
        match &self.chain {
            Some(chain) => chain.evaluate(proven, deadline).await.map(drop),
            None => welcome(proven, &self.policy, (self.clock)()),
        }
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

/// Whether the chain's last word is not a refusal. That we know too little does not end a session.
async fn still_allowed(chain: &dyn Chain, boot: &BootInfo) -> bool {
    // A session may outlast the evidence that opened it; it is judged again in its own time.
    let proven = Proven { boot, until: u64::MAX };
    let verdict = match chain.current(proven) {
        // The watch has forgotten the client, as after a leap of the clock.
        Err(NotAdmitted::NotEvaluated) => chain.evaluate(proven, Duration::ZERO).await,
        known => known,
    };
    verdict.err().is_none_or(|refusal| !refusal.is_the_chains_word())
}

#[cfg(test)]
pub(super) mod tests;
