//! What the gateway asks of the chain, and what it does when the chain changes its mind.

mod changes;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use postern_allowlist::{Admission, BootInfo, Freshness, NotAdmitted, Proven};
use postern_gateway_core::refusal::Refusal;
use postern_watch::{Change, Watch};
use tokio::sync::broadcast;

pub use self::changes::{Ended, follow};

/// An answer that is on its way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Admission, NotAdmitted>> + Send + 'a>>;

/// Who knows what the chain allows: in earnest [`Watch`], in tests a table.
pub trait Chain: fmt::Debug + Send + Sync + 'static {
    /// Asks the chain about a newcomer and follows the answer from then on, until it is forgotten.
    fn evaluate<'a>(&'a self, proven: Proven<'a>, deadline: Duration) -> Answer<'a>;

    /// What is known about a workload that was asked about. Called for every connection: it neither waits nor locks.
    ///
    /// # Errors
    /// Why it is not admitted, or cannot be known to be.
    fn current(&self, proven: Proven<'_>) -> Result<Admission, NotAdmitted>;

    /// The verdicts that turn into their opposite from now on.
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// Stops following a workload.
    fn forget(&self, boot: &BootInfo);

    /// How fresh everything known is.
    fn freshness(&self) -> Freshness;
}

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

    fn forget(&self, boot: &BootInfo) {
        Self::forget(self, boot);
    }

    fn freshness(&self) -> Freshness {
        Self::freshness(self)
    }
}

/// How a client is told that an app is not admitted.
#[must_use]
pub fn refusal(not_admitted: &NotAdmitted) -> Refusal {
    match not_admitted {
        NotAdmitted::NotWelcome(_) => Refusal::UnknownApp,
        // It registers anew with fresh evidence, or is gone within a second.
        NotAdmitted::EvidenceExpired { .. } => Refusal::Unreachable,
        NotAdmitted::Refused { .. } | NotAdmitted::Unconfirmed { .. } => Refusal::NotAdmitted,
        NotAdmitted::NoView | NotAdmitted::ViewTooOld { .. } => Refusal::ChainStale,
        NotAdmitted::NotEvaluated | NotAdmitted::AwaitingAnswer | NotAdmitted::TooManyWorkloads => {
            Refusal::ChainUnknown
        }
    }
}
