use postern_attest::{CollateralError, Fmspc};

use crate::high_water::CollateralRolledBack;

/// Why no source gave collateral.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Every source was asked, as often as was allowed.
    #[error("no source gave collateral for FMSPC {fmspc}: {}", list(.failures))]
    AllFailed {
        /// The kind of platform.
        fmspc: Fmspc,
        /// What the last attempt at each source came to.
        failures: Vec<(String, SourceFailure)>,
    },
    /// It is being fetched, for longer than the caller would wait.
    #[error("the collateral for FMSPC {0} is still being fetched")]
    Pending(Fmspc),
    /// It was asked for a moment ago, in vain.
    #[error("collateral for FMSPC {0} was asked for a moment ago, in vain")]
    FailedRecently(Fmspc),
    /// Too many kinds of platform are asked for at the same time.
    #[error("collateral for too many kinds of platform is being fetched")]
    Busy,
}

/// What is wrong with one source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceFailure {
    /// It cannot be reached, or its answer broke off or took too long.
    #[error("{0}")]
    Transport(String),
    /// It answered with another status than success.
    #[error("{what} came with HTTP status {status}")]
    Status {
        /// What was asked for.
        what: &'static str,
        /// The status.
        status: u16,
    },
    /// An answer is larger than any such document.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        what: &'static str,
        /// How much is read at most.
        limit: usize,
    },
    /// An answer is not what was asked for.
    #[error("{what} cannot be read: {detail}")]
    Malformed {
        /// What was asked for.
        what: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// It gave the collateral of another kind of platform.
    #[error("it gave collateral for FMSPC {0}")]
    OtherPlatform(Fmspc),
    /// It gave collateral that is not in force or was made up.
    #[error(transparent)]
    Unverified(#[from] CollateralError),
    /// It gave collateral from before what was accepted already.
    #[error(transparent)]
    RolledBack(#[from] CollateralRolledBack),
}

impl SourceFailure {
    /// Whether asking again in a moment may help.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Malformed { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::TooLarge { .. } | Self::OtherPlatform(_) | Self::Unverified(_) | Self::RolledBack(_) => false,
        }
    }

    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Transport(_) => "transport",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed { .. } => "malformed",
            Self::OtherPlatform(_) => "other_platform",
            Self::Unverified(_) => "unverified",
            Self::RolledBack(_) => "rolled_back",
        }
    }
}

fn list(failures: &[(String, SourceFailure)]) -> String {
    failures.iter().map(|(source, failure)| format!("{source}: {failure}")).collect::<Vec<_>>().join("; ")
}
