use postern_attest::Rejection;
use postern_attest::certificate::CertificateError;
use postern_attest_io::StateError;
use postern_attest_io::collateral::{BundleError, FetchError, NotASource, SourceFailure};
use postern_plumbing::exit;
use thiserror::Error;

use crate::verify::not_accepted::NotAccepted;

/// What was asked for was done, and the answer is no.
const NOT_GOOD: u8 = 1;

/// Why the collateral is not where it was wanted.
#[derive(Debug, Error)]
pub enum CollateralFailed {
    /// It was looked at, and is not good. The words say what it is.
    #[error("{0}")]
    NotGood(String),
    /// The state folder holds nothing that is still in force.
    #[error("the state folder holds no collateral that is in force")]
    NothingToExport,
    /// A bundle or the state folder cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// No service gave any.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What is no service was named.
    #[error("--url: {0}")]
    Source(#[from] NotASource),
    /// HTTPS cannot be spoken.
    #[error("nobody can be asked for collateral: {0}")]
    Client(String),
    /// A file that names the root or the platform cannot be used.
    #[error("{0}")]
    File(String),
    /// What should tell the kind of platform is no quote.
    #[error("the kind of platform: {0}")]
    Quote(#[from] Rejection),
    /// What should tell the kind of platform is no certificate with a quote.
    #[error("the kind of platform: {0}")]
    Certificate(#[from] CertificateError),
}

impl From<NotAccepted> for CollateralFailed {
    fn from(error: NotAccepted) -> Self {
        Self::File(error.reason.text)
    }
}

impl From<StateError> for CollateralFailed {
    fn from(error: StateError) -> Self {
        Self::Bundle(error.into())
    }
}

impl CollateralFailed {
    /// The code to exit with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Source(_) => exit::USAGE,
            Self::NotGood(_)
            | Self::NothingToExport
            | Self::Bundle(BundleError::Collateral { .. } | BundleError::RolledBack(_))
            | Self::Quote(_)
            | Self::Certificate(_) => NOT_GOOD,
            Self::Fetch(FetchError::AllFailed { failures, .. })
                if failures.iter().all(|(_, failure)| is_lie(failure)) =>
            {
                NOT_GOOD
            }
            Self::Bundle(BundleError::State(StateError::InUse(_))) => exit::TEMPFAIL,
            Self::Bundle(BundleError::State(_) | BundleError::HighWater(_) | BundleError::File { .. })
            | Self::Fetch(_)
            | Self::Client(_)
            | Self::File(_) => exit::UNAVAILABLE,
        }
    }
}

/// Whether a service answered with what Intel did not sign.
fn is_lie(failure: &SourceFailure) -> bool {
    matches!(failure, SourceFailure::Unverified(_) | SourceFailure::OtherPlatform(_) | SourceFailure::RolledBack(_))
}
