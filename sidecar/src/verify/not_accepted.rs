use std::error::Error;
use std::io;

use postern_attest::certificate::CertificateError;
use postern_attest::event_log::EventLogError;
use postern_attest::{IssuerError, PolicyRefusal, Rejection};
use postern_attest_io::{ConnectRefused, PeerRefused};

use super::report::{Statement, Verdict};
use crate::connect::failure;

/// Why something is not accepted, and whether that says something about it or only about us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotAccepted {
    pub(crate) verdict: Verdict,
    pub(crate) reason: Statement,
}

impl NotAccepted {
    pub(super) fn refused(code: &'static str, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Refused, reason: Statement::new(code, text) }
    }

    pub(super) fn unknown(code: &'static str, text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Unknown, reason: Statement::new(code, text) }
    }
}

impl From<Rejection> for NotAccepted {
    fn from(rejection: Rejection) -> Self {
        let ours = matches!(
            rejection,
            Rejection::UnknownPlatform(_)
                | Rejection::CollateralPending(_)
                | Rejection::CollateralNotCurrent { .. }
                | Rejection::Issuer(IssuerError::NotPinned)
        );
        let say = if ours { Self::unknown } else { Self::refused };
        say(rejection.label(), rejection.to_string())
    }
}

impl From<PeerRefused> for NotAccepted {
    fn from(refused: PeerRefused) -> Self {
        match refused {
            PeerRefused::Rejected(rejection) => rejection.into(),
            PeerRefused::Busy | PeerRefused::SourceLimited | PeerRefused::Failed => {
                Self::unknown(refused.label(), refused.to_string())
            }
            PeerRefused::NoCertificate
            | PeerRefused::NoQuote
            | PeerRefused::Certificate(_)
            | PeerRefused::NotExpected(_) => Self::refused(refused.label(), refused.to_string()),
        }
    }
}

impl From<CertificateError> for NotAccepted {
    fn from(error: CertificateError) -> Self {
        PeerRefused::from(error).into()
    }
}

impl From<EventLogError> for NotAccepted {
    fn from(error: EventLogError) -> Self {
        Rejection::from(error).into()
    }
}

impl From<PolicyRefusal> for NotAccepted {
    fn from(refusal: PolicyRefusal) -> Self {
        Self::refused(refusal.label(), refusal.to_string())
    }
}

impl From<ConnectRefused> for NotAccepted {
    fn from(refused: ConnectRefused) -> Self {
        let code = refused.label();
        match refused {
            ConnectRefused::Server(refused) => refused.into(),
            ConnectRefused::Handshake(error) if misbehaved(&error) => {
                Self::refused(code, format!("the server does not prove that it holds its certificate's key: {error}"))
            }
            ConnectRefused::Resumed => Self::refused(code, refused.to_string()),
            ConnectRefused::Name(_) | ConnectRefused::Deadline(_) | ConnectRefused::Handshake(_) => {
                Self::unknown(code, failure::in_words(&refused))
            }
        }
    }
}

/// Whether the handshake failed for what the server showed, and not on the way to it.
fn misbehaved(error: &io::Error) -> bool {
    let Some(inner) = error.get_ref() else { return false };
    let inner: &(dyn Error + 'static) = inner;
    matches!(inner.downcast_ref::<rustls::Error>(), Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use postern_attest::Fmspc;

    use super::*;

    #[test]
    fn what_says_nothing_about_the_peer_is_not_held_against_it() {
        let tls = |error| ConnectRefused::Handshake(io::Error::new(io::ErrorKind::InvalidData, error));
        let bad_signature = rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature);
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName);
        for (refused, verdict) in [
            (ConnectRefused::Deadline(Duration::ZERO), Verdict::Unknown),
            (ConnectRefused::Resumed, Verdict::Refused),
            (tls(bad_signature), Verdict::Refused),
            (tls(alert), Verdict::Unknown),
            (ConnectRefused::Server(PeerRefused::NoQuote), Verdict::Refused),
            (ConnectRefused::Server(PeerRefused::Busy), Verdict::Unknown),
            (ConnectRefused::Server(Rejection::Debug.into()), Verdict::Refused),
            (ConnectRefused::Server(Rejection::UnknownPlatform(Fmspc([0; 6])).into()), Verdict::Unknown),
        ] {
            let words = refused.to_string();
            assert_eq!(NotAccepted::from(refused).verdict, verdict, "{words}");
        }
    }
}
