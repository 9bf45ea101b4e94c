//! One simulated CVM, as far as its registration goes.

use std::time::Duration;

use postern_plumbing::backoff::Backoff;

use super::control::Bounds;

/// Where a CVM stands with the gateway that it dialled last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no connection.
    Away,
    /// It is being judged.
    Opening,
    /// The chain is being asked about it.
    Asking,
    /// Its registration is being written.
    Writing,
    /// It can be reached.
    Registered,
}

/// A CVM.
#[derive(Debug, Clone)]
pub(super) struct Cvm {
    pub(super) stage: Stage,
    /// The gateway that it goes to, once it has chosen one.
    pub(super) home: Option<usize>,
    /// Counts its connections, so that what concerns an earlier one is recognised.
    pub(super) attempt: u32,
    /// The gateway that remembers its evidence.
    pub(super) judged_at: Option<usize>,
    /// The gateway that asks the chain about it, and the one that follows what the chain says.
    pub(super) asked_at: Option<usize>,
    pub(super) followed_at: Option<usize>,
    /// The gateway that has it written into the registry, and whether that is done.
    pub(super) written_at: Option<(usize, bool)>,
    /// Whether the chain forbids it.
    pub(super) revoked: bool,
    /// When its sessions were cut.
    pub(super) cut: Option<Duration>,
    /// When it was registered last.
    pub(super) since: Duration,
    /// Its pauses after attempts that failed, and after those that the chain had refused.
    pub(super) backoff: Backoff,
    pub(super) refused: Backoff,
}

impl Cvm {
    pub(super) fn new(bounds: &Bounds) -> Self {
        let backoff = |pauses: (Duration, Duration)| Backoff::new(pauses.0, pauses.1);
        Self {
            stage: Stage::Away,
            home: None,
            attempt: 0,
            judged_at: None,
            asked_at: None,
            followed_at: None,
            written_at: None,
            revoked: false,
            cut: None,
            since: Duration::ZERO,
            backoff: backoff(bounds.pauses),
            refused: backoff(bounds.refused_pauses),
        }
    }

    /// Whether it is still at the connection and the stage at which an event found it.
    pub(super) fn is_at(&self, attempt: u32, stage: Stage) -> bool {
        self.attempt == attempt && self.stage == stage
    }
}
