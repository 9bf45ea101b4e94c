//! The one verdict on admission. Gateway and sidecar both ask it, and nothing else decides.

use crate::subject::Subject;
use crate::{Block, BootInfo, Freshness, FreshnessPolicy, Refusal, View};

/// Decides whether a workload that proved `boot` may take part now.
///
/// A refusal by the contract at the head counts however old it is. An admission needs an allowing answer that is known to
/// hold until recently: for a newcomer, no longer ago than `max_view_age`, with nothing seen since that may have changed
/// it, and as many blocks deep as the rules ask for; for what is `already_admitted`, no longer ago than `view_grace`.
///
/// # Errors
/// [`NotAdmitted`], with the reason.
pub fn admit(
    boot: &BootInfo,
    view: &View,
    policy: &FreshnessPolicy,
    already_admitted: bool,
    now: u64,
) -> Result<Admission, NotAdmitted> {
    if view.head().is_none() {
        return Err(NotAdmitted::NoView);
    }
    let Some(subject) = view.subject(boot) else { return Err(NotAdmitted::NotEvaluated) };
    judge(subject, view, policy, already_admitted, now)
}

/// The same for a workload as it stands: as admitted already where its last verdict was an admission. Somebody has asked about
/// it then, so that it is followed further.
///
/// It is made for each connection, and looks the workload up once.
///
/// # Errors
/// As [`admit()`].
pub fn standing(boot: &BootInfo, view: &View, policy: &FreshnessPolicy, now: u64) -> Result<Admission, NotAdmitted> {
    let subject = view.subject(boot).inspect(|subject| subject.ask(now));
    match subject {
        _ if view.head().is_none() => Err(NotAdmitted::NoView),
        None => Err(NotAdmitted::NotEvaluated),
        Some(subject) => judge(subject, view, policy, subject.admitted, now),
    }
}

fn judge(
    subject: &Subject,
    view: &View,
    policy: &FreshnessPolicy,
    already_admitted: bool,
    now: u64,
) -> Result<Admission, NotAdmitted> {
    let block = subject.decision(already_admitted, view.rules().confirmations)?;
    let as_of = view.holds_until(subject);
    match (policy.judge(as_of, now), already_admitted) {
        (Freshness::Fresh, false) if subject.doubted.is_some() => Err(NotAdmitted::AwaitingAnswer),
        (Freshness::Fresh, false) => Ok(Admission { block, expires: as_of.saturating_add(policy.max_view_age) }),
        (Freshness::Fresh | Freshness::Grace, true) => {
            Ok(Admission { block, expires: as_of.saturating_add(policy.view_grace.max(policy.max_view_age)) })
        }
        (Freshness::Grace, false) | (Freshness::Stale, _) => {
            Err(NotAdmitted::ViewTooOld { age: now.saturating_sub(as_of) })
        }
    }
}

/// A verdict in favour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The head at which the contract was asked.
    pub block: Block,
    /// Unix seconds until which the verdict holds if nothing more is heard from the chain.
    pub expires: u64,
}

/// Why a workload is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The contract refused.
    #[error("the contract refused at {block}: {} ({:?})", .refusal.why.label(), .refusal.text)]
    Refused {
        /// What it said.
        refusal: Refusal,
        /// The head at which it was asked.
        block: Block,
    },
    /// The contract allows it at the head, but not yet as deep as the rules ask for.
    #[error("allowed at {block}, but not yet as many blocks deep as is asked for")]
    Unconfirmed {
        /// The head at which it was asked.
        block: Block,
    },
    /// The contract has not been asked about this workload.
    #[error("the contract has not answered for this workload yet")]
    NotEvaluated,
    /// Something happened on chain that may have changed the answer, and the new one is not here yet.
    #[error("the contract changed and has not been asked again yet")]
    AwaitingAnswer,
    /// No block has been agreed on since the start.
    #[error("no block of the chain has been agreed on yet")]
    NoView,
    /// What is known of the chain is too old.
    #[error("what is known of the chain is {age} s old")]
    ViewTooOld {
        /// Its age in seconds.
        age: u64,
    },
    /// As many workloads are being followed as can be.
    #[error("too many workloads are being followed")]
    TooManyWorkloads,
}

impl NotAdmitted {
    /// The word for metrics and logs.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Refused { refusal, .. } => refusal.why.label(),
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::NotEvaluated => "not_evaluated",
            Self::AwaitingAnswer => "awaiting_answer",
            Self::NoView => "no_chain_view",
            Self::ViewTooOld { .. } => "chain_view_too_old",
            Self::TooManyWorkloads => "too_many_workloads",
        }
    }

    /// What the refused peer may read.
    #[must_use]
    pub const fn public(&self) -> &'static str {
        match self {
            Self::Refused { refusal, .. } => refusal.why.public(),
            Self::Unconfirmed { .. } => "the app is allowed on chain, but not yet by enough blocks; try again shortly",
            Self::NotEvaluated | Self::AwaitingAnswer => "the chain has not answered yet; try again shortly",
            Self::NoView | Self::ViewTooOld { .. } => {
                "the view of the chain is too old to admit anybody; try again later"
            }
            Self::TooManyWorkloads => "too many workloads are being followed here; try again later",
        }
    }

    /// The head at which the chain said no, where it is the chain that says so.
    #[must_use]
    pub const fn block(&self) -> Option<&Block> {
        match self {
            Self::Refused { block, .. } | Self::Unconfirmed { block } => Some(block),
            Self::NotEvaluated
            | Self::AwaitingAnswer
            | Self::NoView
            | Self::ViewTooOld { .. }
            | Self::TooManyWorkloads => None,
        }
    }

    /// Whether the chain itself says no. Otherwise it is we who do not know enough, and live sessions are kept.
    #[must_use]
    pub const fn is_the_chains_word(&self) -> bool {
        self.block().is_some()
    }
}
