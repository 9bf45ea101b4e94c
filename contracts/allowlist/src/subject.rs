//! One workload that somebody asked about, and what is known of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Answer, Block, Decision, NotAdmitted};

/// What a view keeps about one workload.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The last answer, if there was one.
    pub(crate) answer: Option<Answer>,
    /// When somebody asked last. Every copy of the view shares it: it says who is needed, not what is known of the chain.
    asked_at: Arc<AtomicU64>,
    /// When the last answer came; before that, when somebody began to ask.
    pub(crate) answered_at: u64,
    /// Set when something happened that may have changed the answer: the moment up to which it is known to have held.
    pub(crate) doubted: Option<u64>,
    /// The answer can still change without a new log up to this height, because the confirmed block passes the change.
    pub(crate) settles_at: u64,
    /// Whether the last verdict was an admission.
    pub(crate) admitted: bool,
}

impl Subject {
    pub(crate) fn new(now: u64) -> Self {
        let asked_at = Arc::new(AtomicU64::new(now));
        Self { answer: None, asked_at, answered_at: now, doubted: None, settles_at: 0, admitted: false }
    }

    /// Somebody asks.
    pub(crate) fn ask(&self, now: u64) {
        // Most questions come in the second of another one, and need no write.
        if self.asked_at.load(Ordering::Relaxed) < now {
            self.asked_at.store(now, Ordering::Relaxed);
        }
    }

    /// For how many seconds nobody has asked.
    pub(crate) fn idle(&self, now: u64) -> u64 {
        now.saturating_sub(self.asked_at.load(Ordering::Relaxed))
    }

    /// Something happened after the moment `as_of` that may have changed the answer. The earliest such moment counts.
    pub(crate) fn doubt(&mut self, as_of: u64) {
        self.doubted.get_or_insert(as_of);
    }

    /// The chain's own word, whatever its age.
    pub(crate) fn decision(&self) -> Result<Block, NotAdmitted> {
        let Some(answer) = &self.answer else { return Err(NotAdmitted::NotEvaluated) };
        match (&answer.latest, &answer.confirmed) {
            (Decision::Refused(refusal), _) => {
                Err(NotAdmitted::Refused { refusal: refusal.clone(), block: answer.block })
            }
            (Decision::Allowed, Decision::Refused(_)) => Err(NotAdmitted::Unconfirmed { block: answer.block }),
            (Decision::Allowed, Decision::Allowed) => Ok(answer.block),
        }
    }

    /// Up to when the answer is known to hold, if `head_as_of` is how far the whole view is known.
    ///
    /// Without the sweep an answer would be good for as long as its contract stays silent, but a contract's state may
    /// live elsewhere and change without a log of its own.
    pub(crate) fn holds_until(&self, head_as_of: u64, sweep_interval: u64) -> u64 {
        let silent_until = self.doubted.unwrap_or(head_as_of);
        silent_until.min(self.answered_at.saturating_add(sweep_interval))
    }

    /// Why the question should be put again at `head`, the most urgent reason first.
    pub(crate) fn due(&self, head: &Block, sweep_interval: u64, now: u64) -> Option<Due> {
        let Some(answer) = &self.answer else { return Some(Due::FirstAnswer) };
        if self.doubted.is_some() {
            return Some(Due::Doubt);
        }
        // An answer that came too late to admit anybody gets another chance with each new head.
        if !self.admitted && self.decision().is_ok() && answer.block.hash != head.hash {
            return Some(Due::Doubt);
        }
        (now >= self.answered_at.saturating_add(sweep_interval)).then_some(Due::Sweep)
    }
}

/// Why a question is due, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Somebody waits for the first answer.
    FirstAnswer,
    /// The answer may have changed.
    Doubt,
    /// The answer is as old as the sweep lets it become.
    Sweep,
}
