//! Why a registration is refused, as HTTP says it: dstack's `error`, and the fields of RFC 9457.

use postern_allowlist::NotAdmitted;
use postern_gateway_core::registration::RegistrationError;
use serde::Serialize;

use crate::audit::Unwritten;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What dstack's clients read.
    pub error: String,
    /// A short title.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// A sentence for the one who was refused.
    pub detail: String,
    /// One word for programs; also the metric label.
    pub reason: &'static str,
}

impl Problem {
    /// A refusal with its status, its word and its sentence.
    #[must_use]
    pub fn new(status: u16, reason: &'static str, detail: impl Into<String>) -> Self {
        let title = match status {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            409 => "Conflict",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            429 => "Too Many Requests",
            503 => "Service Unavailable",
            _ => "Error",
        };
        let detail = detail.into();
        Self { error: detail.clone(), title, status, detail, reason }
    }

    /// Whether trying again without a change may help; then the answer says when.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        const SECONDS: u32 = 5;
        matches!(self.status, 429 | 503).then_some(SECONDS)
    }
}

impl From<&NotAdmitted> for Problem {
    fn from(not_admitted: &NotAdmitted) -> Self {
        let status = match not_admitted {
            NotAdmitted::NotWelcome(_) | NotAdmitted::Refused { .. } => 403,
            NotAdmitted::EvidenceExpired { .. } => 401,
            NotAdmitted::Unconfirmed { .. }
            | NotAdmitted::NotEvaluated
            | NotAdmitted::AwaitingAnswer
            | NotAdmitted::NoView
            | NotAdmitted::ViewTooOld { .. }
            | NotAdmitted::TooManyWorkloads => 503,
        };
        Self::new(status, not_admitted.label(), not_admitted.public())
    }
}

impl From<RegistrationError> for Problem {
    fn from(error: RegistrationError) -> Self {
        let status = match error {
            RegistrationError::InstanceOfAnotherApp | RegistrationError::KeyInUse => 409,
            RegistrationError::KeyUnusable | RegistrationError::Port | RegistrationError::Ports => 400,
            RegistrationError::EvidenceExpired => 401,
            RegistrationError::Full => 503,
        };
        Self::new(status, error.label(), error.to_string())
    }
}

impl From<Unwritten> for Problem {
    fn from(_: Unwritten) -> Self {
        Self::new(503, "audit_unwritten", "the gateway admits nobody while it cannot write down whom; try again later")
    }
}
