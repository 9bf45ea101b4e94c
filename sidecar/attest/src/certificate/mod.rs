//! The RA-TLS certificate: how evidence is laid into X.509 extensions, and how it is read back.
//!
//! Nothing here is a verdict. A certificate that reads well says what its holder claims; the claim is judged by the
//! appraiser.

mod app_info;
mod attestation;
mod der;
mod encode;
mod msgpack;
mod read;
#[cfg(test)]
mod tests;
mod usage;

use dcap_qvl::quote::Quote;
use postern_identity::AppId;
use rustls_pki_types::CertificateDer;
use subtle::ConstantTimeEq;
use webpki::EndEntityCert;

use crate::event_log::{EventLog, EventLogError};
use crate::report_data::{legacy_report_data, report_data};

pub use app_info::AppInfo;
pub use attestation::Attestation;
pub use encode::{Extension, ExtensionError, extensions};
pub(crate) use read::marks;
pub use read::{evidence, evidence_of_chain};
pub use usage::Usage;

/// A certificate of more bytes than this is refused unread. TLS itself ends at 64 KiB per handshake message.
pub const MAX_CERTIFICATE_BYTES: usize = 60 * 1024;

/// What a certificate claims: a quote, the log that explains it, and the key that the quote has to vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evidence {
    /// The raw TDX quote, with the zero bytes with which real guests pad it.
    pub quote: Vec<u8>,
    /// The guest's event log.
    pub event_log: EventLog,
    /// The application that extension `.3` names, if there is one. A hint for peers that cannot read event logs.
    pub claimed_app_id: Option<AppId>,
    /// What extension `.9` says about the application, if it is there. The issuer's word; a self-signed certificate may say
    /// anything here.
    pub claimed_app_info: Option<AppInfo>,
    /// What extension `.4` says the certificate is for, if it is there.
    pub usage: Option<Usage>,
    /// The certificate's DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Start of the certificate's validity, seconds since 1970.
    pub not_before: u64,
    /// End of the certificate's validity, seconds since 1970.
    pub not_after: u64,
    /// SHA-256 of the certificate's DER form.
    pub fingerprint: [u8; 32],
    /// What was shown; `None` where its signature was looked at before.
    pub(crate) shown: Option<Shown>,
}

/// A certificate, and the ones above it that its holder showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) above: Vec<CertificateDer<'static>>,
}

/// How a quote vouches for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `SHA-512("ratls-cert:" || SPKI)`.
    RaTls,
    /// `SHA-256(SPKI)`, padded with zeros. It does not say what it was made for, and is believed only on request.
    Legacy,
}

impl Evidence {
    /// How the quote, taken at its word, vouches for the certificate's key; `None` if it does not. The comparisons take the
    /// same time wherever the two differ.
    #[must_use]
    pub fn binding(&self) -> Option<Binding> {
        let quote = Quote::parse(&self.quote).ok()?;
        let found = &quote.report.as_td10()?.report_data;
        let is = |expected: [u8; 64]| bool::from(found.ct_eq(&expected));
        match (is(report_data(&self.spki)), is(legacy_report_data(&self.spki))) {
            (true, _) => Some(Binding::RaTls),
            (false, true) => Some(Binding::Legacy),
            (false, false) => None,
        }
    }

    /// Whether the quote, taken at its word, vouches for the certificate's key as it has to.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.binding() == Some(Binding::RaTls)
    }

    /// Whether the certificate says that somebody else signed it. Where it was appraised, that is the pinned KMS.
    #[must_use]
    pub fn is_issued(&self) -> bool {
        let Some(shown) = &self.shown else { return false };
        EndEntityCert::try_from(&shown.leaf).is_ok_and(|leaf| leaf.issuer() != leaf.subject())
    }

    /// The evidence of a peer whose session goes on. What bounds handshakes no longer counts: the certificate's own end, and
    /// who signed it, which was looked at when the session began.
    #[must_use]
    pub fn of_a_live_session(self) -> Self {
        Self { not_after: u64::MAX, shown: None, ..self }
    }
}

/// Why no evidence can be read from a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The certificate is larger than this crate reads.
    #[error("the certificate has {found} bytes, of at most {MAX_CERTIFICATE_BYTES}")]
    TooLarge {
        /// How many bytes it has.
        found: usize,
    },
    /// The bytes are not a DER certificate.
    #[error("not an X.509 certificate: {0}")]
    NotX509(String),
    /// Something follows where nothing may follow.
    #[error("{bytes} bytes follow {what}")]
    TrailingBytes {
        /// After what.
        what: &'static str,
        /// How many bytes.
        bytes: usize,
    },
    /// The validity lies before 1970.
    #[error("the certificate's validity lies before 1970")]
    Dates,
    /// An extension that carries evidence stands twice.
    #[error("extension {0} appears twice")]
    Duplicate(&'static str),
    /// An ordinary certificate: no extension carries a quote.
    #[error("the certificate carries no quote")]
    NoQuote,
    /// The quote of `.1` is not explained by an event log in `.2`.
    #[error("the certificate carries a quote but no event log")]
    NoEventLog,
    /// The event log cannot be read.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    /// An extension's content is not what its kind asks for.
    #[error("extension {extension} is malformed: {detail}")]
    Malformed {
        /// Which extension.
        extension: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// The attestation is of a version or a platform that this crate does not read.
    #[error("extension .8 carries {0}, which is not supported")]
    Unsupported(&'static str),
    /// Two extensions tell different stories, so that two verifiers could come to different verdicts.
    #[error("extensions .1 and .2 disagree with .8 about the {0}")]
    Contradiction(&'static str),
}

impl CertificateError {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "certificate_too_large",
            Self::NotX509(_) => "certificate_not_x509",
            Self::TrailingBytes { .. } => "certificate_trailing_bytes",
            Self::Dates => "certificate_dates",
            Self::Duplicate(_) => "extension_duplicate",
            Self::NoQuote => "no_quote",
            Self::NoEventLog => "no_event_log",
            Self::EventLog(_) => "event_log_malformed",
            Self::Malformed { .. } => "extension_malformed",
            Self::Unsupported(_) => "attestation_unsupported",
            Self::Contradiction(_) => "extensions_contradict",
        }
    }

    /// A sentence that the peer may read.
    #[must_use]
    pub fn public(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "the certificate is larger than 60 KiB",
            Self::NotX509(_) => "the certificate is not a DER X.509 certificate",
            Self::TrailingBytes { .. } => "the certificate has trailing bytes",
            Self::Dates => "the certificate's validity cannot be read",
            Self::Duplicate(_) => "the certificate carries an RA-TLS extension twice",
            Self::NoQuote => "the certificate carries no TDX quote",
            Self::NoEventLog => "the certificate carries a quote without an event log",
            Self::EventLog(_) => "the certificate's event log cannot be read",
            Self::Malformed { .. } => "an RA-TLS extension of the certificate is malformed",
            Self::Unsupported(_) => "the certificate's attestation is of a kind that is not supported",
            Self::Contradiction(_) => "the certificate's RA-TLS extensions contradict each other",
        }
    }
}
