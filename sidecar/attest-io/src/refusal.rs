use postern_attest::certificate::CertificateError;
use postern_attest::{PolicyRefusal, Rejection};

/// Why a peer's certificate does not make it a peer.
///
/// `Display` is the private detail. A peer may read [`PeerRefused::public`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// It showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// Its certificate is an ordinary one.
    #[error("the peer's certificate carries no quote")]
    NoQuote,
    /// Its certificate carries evidence that cannot be read.
    #[error(transparent)]
    Certificate(CertificateError),
    /// Its evidence is not believed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It is who it says it is, and not who was expected.
    #[error(transparent)]
    NotExpected(#[from] PolicyRefusal),
    /// Too many certificates are waiting for their appraisal.
    #[error("too many certificates are waiting for their appraisal")]
    Busy,
    /// Where it calls from has shown too many certificates that nobody had seen before.
    #[error("too many unknown certificates have come from the peer's network")]
    SourceLimited,
    /// The appraisal broke off.
    #[error("the appraisal broke off")]
    Failed,
}

impl From<CertificateError> for PeerRefused {
    fn from(error: CertificateError) -> Self {
        if error == CertificateError::NoQuote { Self::NoQuote } else { Self::Certificate(error) }
    }
}

impl PeerRefused {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::NoQuote => "no_quote",
            Self::Certificate(error) => error.label(),
            Self::Rejected(rejection) => rejection.label(),
            Self::NotExpected(refusal) => refusal.label(),
            Self::Busy => "busy",
            Self::SourceLimited => "source_limited",
            Self::Failed => "failed",
        }
    }

    /// A sentence that the peer may read.
    #[must_use]
    pub fn public(&self) -> &'static str {
        match self {
            Self::NoCertificate => "a certificate with a TDX quote is required, and none was shown",
            Self::NoQuote => "the certificate carries no TDX quote",
            Self::Certificate(error) => error.public(),
            Self::Rejected(rejection) => rejection.public(),
            Self::NotExpected(refusal) => refusal.public(),
            Self::Busy => "too many certificates are waiting for their appraisal; try again",
            Self::SourceLimited => "too many unknown certificates have come from this network; try again later",
            Self::Failed => "the certificate could not be appraised; try again",
        }
    }

    /// Whether this says nothing about the evidence, so that it may be believed a moment later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy | Self::SourceLimited | Self::Failed | Self::Rejected(Rejection::CollateralPending(_)) => true,
            Self::NoCertificate | Self::NoQuote | Self::Certificate(_) | Self::Rejected(_) | Self::NotExpected(_) => {
                false
            }
        }
    }
}
