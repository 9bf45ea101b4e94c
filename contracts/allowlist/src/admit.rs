//! The one verdict on admission. Gateway and sidecar both ask it, and nothing else decides.

use postern_attest::{PeerPolicy, PolicyRefusal};

use crate::subject::Subject;
use crate::{Block, BootInfo, Freshness, FreshnessPolicy, Refusal, View};

/// A workload whose evidence was believed.
#[derive(Debug, Clone, Copy)]
pub struct Proven<'a> {
    /// What it proved about itself.
    pub boot: &'a BootInfo,
    /// Until when its evidence holds, in seconds since 1970.
    pub until: u64,
}

/// What a program's own configuration says, beside the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalRules {
    /// Who is welcome at all.
    pub welcome: PeerPolicy,
    /// How old the view of the chain may be.
    pub freshness: FreshnessPolicy,
}

/// Decides whether a workload may take part now.
///
/// It must be welcome here and its evidence must hold. Then the chain is asked: a refusal by the contract at the head counts
/// however old it is. An admission needs an allowing answer that is known to hold until recently: for a newcomer, no longer
/// ago than `max_view_age`, with nothing seen since that may have changed it, and confirmed; for what is `already_admitted`,
/// no longer ago than `view_grace`.
///
/// # Errors
/// [`NotAdmitted`], with the reason.
pub fn admit(
    proven: Proven<'_>,
    view: &View,
    rules: &LocalRules,
    already_admitted: bool,
    now: u64,
) -> Result<Admission, NotAdmitted> {
    decide(proven, view, rules, |_| already_admitted, now)
}

/// The same for a workload as it stands: as admitted already where the chain's last verdict was an admission. Somebody has
/// asked about it then, so that it is followed further.
///
/// It is made for each connection, and looks the workload up once.
///
/// # Errors
/// As [`admit()`].
pub fn standing(proven: Proven<'_>, view: &View, rules: &LocalRules, now: u64) -> Result<Admission, NotAdmitted> {
    let admitted = |subject: &Subject| {
        subject.ask(now);
        subject.admitted
    };
    decide(proven, view, rules, admitted, now)
}

/// The part of the verdict for which no chain is needed: all of it where a program is configured to ask none.
///
/// # Errors
/// [`NotAdmitted`], when the workload is not welcome or its evidence does not hold.
pub fn welcome(proven: Proven<'_>, policy: &PeerPolicy, now: u64) -> Result<(), NotAdmitted> {
    policy.check_workload(&proven.boot.app_id, &proven.boot.compose_hash)?;
    if proven.until <= now { Err(NotAdmitted::EvidenceExpired { until: proven.until }) } else { Ok(()) }
}

fn decide(
    proven: Proven<'_>,
    view: &View,
    rules: &LocalRules,
    already_admitted: impl FnOnce(&Subject) -> bool,
    now: u64,
) -> Result<Admission, NotAdmitted> {
    welcome(proven, &rules.welcome, now)?;
    let subject = view.subject(proven.boot);
    let already_admitted = subject.is_some_and(already_admitted);
    if view.head().is_none() {
        return Err(NotAdmitted::NoView);
    }
    let Some(subject) = subject else { return Err(NotAdmitted::NotEvaluated) };
    let admission = by_chain(subject, view, &rules.freshness, already_admitted, now)?;
    Ok(Admission { expires: admission.expires.min(proven.until), ..admission })
}

/// What follows from the chain alone.
pub(crate) fn by_chain(
    subject: &Subject,
    view: &View,
    policy: &FreshnessPolicy,
    already_admitted: bool,
    now: u64,
) -> Result<Admission, NotAdmitted> {
    let block = match subject.decision(already_admitted) {
        // Nobody answers where nothing is heard from the chain at all: that is what the newcomer should read.
        Err(NotAdmitted::NotEvaluated) if view.freshness(policy, now) != Freshness::Fresh => {
            return Err(NotAdmitted::ViewTooOld { age: view.age(now) });
        }
        decision => decision?,
    };
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
    /// Unix seconds until which the verdict holds if nothing more is heard from the chain and the evidence is not renewed.
    pub expires: u64,
}

/// Why a workload is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// Our own configuration does not want it.
    #[error(transparent)]
    NotWelcome(#[from] PolicyRefusal),
    /// Its evidence is over.
    #[error("the evidence held until {until}")]
    EvidenceExpired {
        /// When it ended, in seconds since 1970.
        until: u64,
    },
    /// The contract refused.
    #[error("the contract refused at {block}: {} ({:?})", .refusal.why.label(), .refusal.text)]
    Refused {
        /// What it said.
        refusal: Refusal,
        /// The head at which it was asked.
        block: Block,
    },
    /// The contract allows it at the head, but that is not confirmed yet.
    #[error("allowed at {block}, but not yet at a confirmed block")]
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
            Self::NotWelcome(refusal) => refusal.label(),
            Self::EvidenceExpired { .. } => "evidence_expired",
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
            Self::NotWelcome(refusal) => refusal.public(),
            Self::EvidenceExpired { .. } => "the evidence has expired",
            Self::Refused { refusal, .. } => refusal.why.public(),
            Self::Unconfirmed { .. } => "the app is allowed on chain, but that is not confirmed yet; try again shortly",
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
            Self::NotWelcome(_)
            | Self::EvidenceExpired { .. }
            | Self::NotEvaluated
            | Self::AwaitingAnswer
            | Self::NoView
            | Self::ViewTooOld { .. }
            | Self::TooManyWorkloads => None,
        }
    }

    /// Whether it is only that we do not know enough of the chain now: trying again may help.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::NotEvaluated
            | Self::AwaitingAnswer
            | Self::NoView
            | Self::ViewTooOld { .. }
            | Self::TooManyWorkloads => true,
            Self::NotWelcome(_) | Self::EvidenceExpired { .. } | Self::Refused { .. } | Self::Unconfirmed { .. } => {
                false
            }
        }
    }

    /// Whether the chain itself says no. Nothing else that a verdict can say ends live sessions.
    #[must_use]
    pub const fn is_the_chains_word(&self) -> bool {
        self.block().is_some()
    }
}
