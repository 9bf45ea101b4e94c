//! Everything for which the application's driver gets no session in connect mode, told in its own protocol.

use std::io;

use postern_attest_io::ConnectRefused;
use postern_pgwire::error_response::ErrorResponse;
use postern_pgwire::sqlstate::SqlState;
use rustls::AlertDescription;
use thiserror::Error;

use crate::opening::RequestError;
use crate::packets::ReadError;

/// Why the driver gets no session.
#[derive(Debug, Error)]
pub enum Failure {
    /// The driver's own opening failed.
    #[error("driver: {0}")]
    Request(#[from] RequestError),
    /// The server's address does not answer.
    #[error("{place} cannot be reached: {source}")]
    Unreachable {
        /// The server.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS failed, or the server is not what it must be.
    #[error("{place}: {source}")]
    Refused {
        /// The server.
        place: String,
        /// Why there is no session.
        source: ConnectRefused,
    },
    /// It took too long.
    #[error("no connection to {place} within the deadline")]
    Deadline {
        /// The server.
        place: String,
    },
    /// The server closed before it answered.
    #[error("{place} broke off: {source}")]
    Broken {
        /// The server.
        place: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Failure {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Request(RequestError::Read(ReadError::Closed)) => "closed",
            Self::Request(_) => "opening",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { source, .. } => source.label(),
            Self::Deadline { .. } => "deadline",
            Self::Broken { .. } => "broken",
        }
    }

    /// What the driver is told; `None` when it speaks no Postgres or is gone. The driver belongs to the application that
    /// we serve, so it may know the details.
    #[must_use]
    pub fn response(&self) -> Option<ErrorResponse> {
        let failed = |message: String| ErrorResponse::fatal(SqlState::UNABLE_TO_CONNECT, message);
        match self {
            Self::Request(RequestError::Read(ReadError::Opening(error))) => {
                Some(ErrorResponse::fatal(SqlState::PROTOCOL_VIOLATION, error.to_string()))
            }
            Self::Request(_) => None,
            Self::Unreachable { .. } | Self::Deadline { .. } | Self::Broken { .. } => Some(failed(self.to_string())),
            Self::Refused { place, source: source @ ConnectRefused::Server(refused) } if !refused.is_temporary() => {
                Some(
                    ErrorResponse::fatal(
                        SqlState::INVALID_AUTHORIZATION,
                        format!("{place} is refused: {}", source.public()),
                    )
                    .detail(refused.to_string()),
                )
            }
            Self::Refused { place, source } => {
                Some(failed(format!("{place}: {}", source.public())).detail(in_words(source)))
            }
        }
    }
}

/// What the other side's TLS said, where it said something that has a meaning in Postern.
pub(crate) fn in_words(refused: &ConnectRefused) -> String {
    let ConnectRefused::Handshake(error) = refused else { return refused.to_string() };
    let meaning = match alert(error) {
        Some(AlertDescription::UnrecognisedName) => "the gateway knows no app by this name (alert unrecognized_name)",
        Some(AlertDescription::AccessDenied) => "the chain does not admit the app (alert access_denied)",
        Some(AlertDescription::InternalError) => "the gateway cannot reach the app now (alert internal_error)",
        Some(AlertDescription::MissingExtension) => "the gateway needs a host name (alert missing_extension)",
        Some(AlertDescription::NoApplicationProtocol) => {
            "the server does not speak Postgres (alert no_application_protocol)"
        }
        Some(other) => return format!("the server's TLS said {other:?}"),
        None => return error.to_string(),
    };
    meaning.to_owned()
}

fn alert(error: &io::Error) -> Option<AlertDescription> {
    let inner: &(dyn std::error::Error + Send + Sync) = error.get_ref()?;
    let tls = inner.downcast_ref::<rustls::Error>().or_else(|| inner.source()?.downcast_ref());
    if let rustls::Error::AlertReceived(alert) = tls? { Some(*alert) } else { None }
}

#[cfg(test)]
mod tests {
    use std::io;

    use postern_attest_io::{ConnectRefused, PeerRefused};
    use rustls::AlertDescription;

    use super::Failure;

    fn encoded(source: ConnectRefused) -> String {
        let failure = Failure::Refused { place: "db:5432".to_owned(), source };
        String::from_utf8_lossy(&failure.response().unwrap().encode()).into_owned()
    }

    #[test]
    fn alerts_are_put_into_words() {
        let alert = |alert| {
            let error = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::AlertReceived(alert));
            encoded(ConnectRefused::Handshake(error))
        };
        for (description, words) in [
            (AlertDescription::UnrecognisedName, "knows no app by this name"),
            (AlertDescription::AccessDenied, "does not admit the app"),
            (AlertDescription::InternalError, "cannot reach the app"),
            (AlertDescription::HandshakeFailure, "HandshakeFailure"),
        ] {
            let text = alert(description);
            assert!(text.contains("C08001") && text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_server_that_is_not_believed_is_an_authorization_failure() {
        let text = encoded(ConnectRefused::Server(PeerRefused::NoQuote));
        assert!(text.contains("C28000") && text.contains("no TDX quote"), "{text}");
        let text = encoded(ConnectRefused::Server(PeerRefused::Busy));
        assert!(text.contains("C08001") && text.contains("try again"), "{text}");
    }
}
