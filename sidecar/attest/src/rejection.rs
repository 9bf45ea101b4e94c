use crate::collateral::Fmspc;
use crate::event_log::EventLogError;
use crate::issuer::IssuerError;

/// Why evidence is not believed.
///
/// `Display` is the private detail, for our own log. A peer may read [`Rejection::public`], which tells nothing about
/// measurements or about what else was checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The certificate is not valid yet.
    #[error("the certificate is valid from {not_before}, and it is {now}")]
    NotYetValid {
        /// Start of its validity, seconds since 1970.
        not_before: u64,
        /// The time of the appraisal.
        now: u64,
    },
    /// The certificate is no longer valid.
    #[error("the certificate was valid until {not_after}, and it is {now}")]
    Expired {
        /// End of its validity, seconds since 1970.
        not_after: u64,
        /// The time of the appraisal.
        now: u64,
    },
    /// The quote cannot be read.
    #[error("the quote cannot be read: {0}")]
    MalformedQuote(String),
    /// The quote says that a part of it is of a kind that TD quotes do not have.
    #[error("the quote has another kind of {0} than TD quotes")]
    QuoteKind(&'static str),
    /// The quote is not one of a TD.
    #[error("the quote is not a TDX quote")]
    NotTdx,
    /// The TD can be debugged by its host.
    #[error("the TD is in debug mode")]
    Debug,
    /// The TD can be moved to another host.
    #[error("the TD is migratable")]
    Migratable,
    /// Another TD is bound to this one and can reach into it.
    #[error("the TD is bound to a service TD")]
    ServiceTd,
    /// Another attribute makes the TD untrustworthy.
    #[error("the TD's attributes are not acceptable: {0}")]
    Attributes(&'static str),
    /// The quote vouches for another key: it was copied.
    #[error("the quote's report data is not bound to the certificate's key")]
    KeyNotBound,
    /// The quote vouches for the key in the legacy form, which has to be asked for.
    #[error("the quote is bound to the certificate's key in the legacy form, SHA-256 of it, which is not accepted")]
    LegacyBinding,
    /// Nobody who counts signed the certificate.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The event log contradicts itself or does not identify an application.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    /// The event log is not the one that the quote's RTMR3 measured.
    #[error("the event log does not replay to the quote's RTMR3")]
    EventLogNotMeasured,
    /// Extension `.3` names another application than the event log.
    #[error("extension .3 names another app id than the event log")]
    AppIdContradicted,
    /// Extension `.9` describes another application than the event log.
    #[error("extension .9 describes another application than the event log")]
    AppInfoContradicted,
    /// No collateral is known for the platform.
    #[error("there is no collateral for FMSPC {0}")]
    UnknownPlatform(Fmspc),
    /// No collateral is known for the platform yet; it has been asked for.
    #[error("the collateral for FMSPC {0} is still being fetched")]
    CollateralPending(Fmspc),
    /// The collateral is too old or not in force yet.
    #[error("the collateral for FMSPC {fmspc} is in force from {from} to {until}, and it is {now}")]
    CollateralNotCurrent {
        /// The kind of platform.
        fmspc: Fmspc,
        /// Start, seconds since 1970.
        from: u64,
        /// End, seconds since 1970.
        until: u64,
        /// The time of the appraisal.
        now: u64,
    },
    /// The chain of signatures does not lead to the trusted root.
    #[error("the quote is not signed under the trusted root: {0}")]
    OtherRoot(String),
    /// The platform, or a key on its chain, is revoked.
    #[error("the platform is revoked: {0}")]
    Revoked(String),
    /// The TD's report is not signed by the key that the quote carries.
    #[error("the TD's report is not signed by the quote's own key: {0}")]
    QuoteSignature(String),
    /// The quoting enclave's report is not signed by the platform, or vouches for another key.
    #[error("the platform's quoting enclave does not vouch for the quote's key: {0}")]
    QuotingEnclave(String),
    /// The quote does not verify for another reason.
    #[error("the quote does not verify: {0}")]
    Unverified(String),
    /// The platform's TCB status is not accepted.
    #[error("the platform's TCB status is {0}")]
    TcbStatus(String),
    /// Another rule about platforms is not met.
    #[error("the platform does not meet the policy: {0}")]
    TcbPolicy(String),
}

impl Rejection {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotYetValid { .. } => "certificate_not_yet_valid",
            Self::Expired { .. } => "certificate_expired",
            Self::MalformedQuote(_) => "quote_malformed",
            Self::QuoteKind(_) => "quote_kind",
            Self::NotTdx => "not_tdx",
            Self::Debug => "debug_td",
            Self::Migratable => "migratable_td",
            Self::ServiceTd => "service_td",
            Self::Attributes(_) => "td_attributes",
            Self::KeyNotBound => "key_not_bound",
            Self::LegacyBinding => "legacy_binding",
            Self::Issuer(error) => error.label(),
            Self::EventLog(_) => "event_log",
            Self::EventLogNotMeasured => "event_log_not_measured",
            Self::AppIdContradicted => "app_id_contradicted",
            Self::AppInfoContradicted => "app_info_contradicted",
            Self::UnknownPlatform(_) => "unknown_platform",
            Self::CollateralPending(_) => "collateral_pending",
            Self::CollateralNotCurrent { .. } => "collateral_not_current",
            Self::OtherRoot(_) => "other_root",
            Self::Revoked(_) => "revoked",
            Self::QuoteSignature(_) => "quote_signature",
            Self::QuotingEnclave(_) => "quoting_enclave",
            Self::Unverified(_) => "quote_unverified",
            Self::TcbStatus(_) => "tcb_status",
            Self::TcbPolicy(_) => "tcb_policy",
        }
    }

    /// A sentence that the peer may read.
    #[must_use]
    pub fn public(&self) -> &'static str {
        match self {
            Self::NotYetValid { .. } => "the certificate is not valid yet",
            Self::Expired { .. } => "the certificate has expired",
            Self::MalformedQuote(_) => "the quote cannot be read",
            Self::QuoteKind(_) => "the quote has parts that TDX quotes do not have",
            Self::NotTdx => "the quote is not a TDX quote",
            Self::Debug => "the quote is that of a TD in debug mode",
            Self::Migratable => "the quote is that of a migratable TD",
            Self::ServiceTd => "the quote is that of a TD bound to a service TD",
            Self::Attributes(_) => "the quote is that of a TD with unacceptable attributes",
            Self::KeyNotBound => "the quote does not vouch for the key of the certificate",
            Self::LegacyBinding => "the quote vouches for the key in a legacy form that is not accepted",
            Self::Issuer(error) => error.public(),
            Self::EventLog(_) => "the event log does not identify an application",
            Self::EventLogNotMeasured => "the event log is not the one that the quote measured",
            Self::AppIdContradicted => "the certificate names another application than the event log",
            Self::AppInfoContradicted => "the certificate describes another application than the event log",
            Self::UnknownPlatform(_) => "no collateral is known for the quote's platform",
            Self::CollateralPending(_) => "the collateral for the quote's platform is being fetched; try again",
            Self::CollateralNotCurrent { .. } => "the collateral for the quote's platform is not current",
            Self::OtherRoot(_) => "the quote is not signed under the trusted root",
            Self::Revoked(_) => "the quote's platform is revoked",
            Self::QuoteSignature(_) => "the quote's signature is wrong",
            Self::QuotingEnclave(_) => "the platform does not vouch for the quote's key",
            Self::Unverified(_) => "the quote does not verify",
            Self::TcbStatus(_) => "the TCB status of the quote's platform is not accepted",
            Self::TcbPolicy(_) => "the quote's platform does not meet the policy",
        }
    }

    /// Sorts the text of a verification that failed before policy was asked. dcap-qvl has no error type; its version is
    /// pinned, and tests hold each of these texts.
    pub(crate) fn of_verification(detail: &str) -> Self {
        // Some of its causes go on for lines, with paths of source files.
        let detail = detail.lines().next().unwrap_or_default().to_owned();
        let says = |words: &[&str]| words.iter().any(|word| detail.contains(word));
        if says(&["CertRevoked", "Revoked"]) {
            Self::Revoked(detail)
        } else if says(&["UnknownIssuer", "InvalidCrlSignatureForPublicKey", "InvalidSignatureForPublicKey"]) {
            Self::OtherRoot(detail)
        } else if says(&["ISV enclave report signature is invalid"]) {
            Self::QuoteSignature(detail)
        } else if says(&["Signature is invalid for qe_report", "QE report hash mismatch"]) {
            Self::QuotingEnclave(detail)
        } else {
            Self::Unverified(detail)
        }
    }
}
