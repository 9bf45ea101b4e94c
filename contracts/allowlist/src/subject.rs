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
    /// The height up to which the chain was confirmed at the last answer.
    confirmed_at: u64,
    /// Set when something happened that may have changed the answer: the moment up to which it is known to have held.
    pub(crate) doubted: Option<u64>,
    /// The height of the last head that may have changed the answer. Until the chain is confirmed up to there, the answer can
    /// still change without a new log.
    pub(crate) changed_at: u64,
    /// The height at which the contract was last heard to refuse at the head; no higher than the head has been since.
    refused_at: Option<u64>,
    /// Whether the last verdict was an admission.
    pub(crate) admitted: bool,
}

impl Subject {
    pub(crate) fn new(now: u64) -> Self {
        let asked_at = Arc::new(AtomicU64::new(now));
        Self {
            answer: None,
            asked_at,
            answered_at: now,
            confirmed_at: 0,
            doubted: None,
            changed_at: 0,
            refused_at: None,
            admitted: false,
        }
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

    /// Whether the answer can change with the confirmed block alone, when that moves on from a height.
    pub(crate) const fn is_unsettled(&self, confirmed: u64) -> bool {
        confirmed < self.changed_at
    }

    /// Takes an answer, given at a head at which the chain was confirmed up to a height.
    pub(crate) fn hear(&mut self, answer: Answer, confirmed_at: u64, now: u64) {
        let number = answer.block.number;
        if self.answer.is_none() {
            self.changed_at = self.changed_at.max(number);
        }
        if answer.latest != Decision::Allowed {
            self.refused_at = Some(number);
        }
        self.answer = Some(answer);
        (self.answered_at, self.confirmed_at) = (now, confirmed_at);
        self.doubted = None;
    }

    /// Whether a refusal is remembered from above `height`.
    pub(crate) fn was_refused_above(&self, height: u64) -> bool {
        self.refused_at.is_some_and(|refused_at| refused_at > height)
    }

    /// The head went down to `height`. A refusal above it may have been one of the part that both chains share.
    pub(crate) fn lower(&mut self, height: u64) {
        self.refused_at = self.refused_at.map(|refused_at| refused_at.min(height));
    }

    /// The chain's own word, whatever its age.
    ///
    /// What is admitted already loses that only by a refusal at the head: an allowance that came back before the refusal
    /// was seen is no reason to end anything some blocks later, when the confirmed block passes it.
    pub(crate) fn decision(&self, already_admitted: bool) -> Result<Block, NotAdmitted> {
        let Some(Answer { block, latest, confirmed }) = &self.answer else { return Err(NotAdmitted::NotEvaluated) };
        if let Decision::Refused(refusal) = latest {
            return Err(NotAdmitted::Refused { refusal: refusal.clone(), block: *block });
        }
        // The confirmed block may lie before a refusal that was seen at the head in between.
        let refused_since = self.refused_at.is_some_and(|refused_at| self.confirmed_at < refused_at);
        if !already_admitted && (*confirmed != Some(Decision::Allowed) || refused_since) {
            return Err(NotAdmitted::Unconfirmed { block: *block });
        }
        Ok(*block)
    }

    /// Up to when the answer is known to hold, if `head_as_of` is how far the whole view is known.
    ///
    /// Without the sweep an answer would be good for as long as its contract stays silent, but a contract's state may
    /// live elsewhere and change without a log of its own.
    pub(crate) fn holds_until(&self, head_as_of: u64, sweep_interval: u64) -> u64 {
        let silent_until = self.doubted.unwrap_or(head_as_of);
        silent_until.min(self.answered_at.saturating_add(sweep_interval))
    }

    /// Why the question should be put again at `head`, the most urgent reason first. Its turn to be swept comes
    /// `sweep_after` seconds after an answer.
    pub(crate) fn due(&self, head: &Block, sweep_after: impl FnOnce() -> u64, now: u64) -> Option<Due> {
        let Some(answer) = &self.answer else { return Some(Due::FirstAnswer) };
        if self.doubted.is_some() {
            return Some(Due::Doubt);
        }
        // An allowance that came too late or is not deep enough to admit anybody gets another chance with each new head.
        if !self.admitted && answer.latest == Decision::Allowed && answer.block.hash != head.hash {
            return Some(Due::Doubt);
        }
        (now >= self.answered_at.saturating_add(sweep_after())).then_some(Due::Sweep)
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
