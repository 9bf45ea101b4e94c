//! Everything for which the application's driver gets no session in connect mode, told in its own protocol.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use postern_attest_io::ConnectRefused;
use postern_pgwire::error_response::{ErrorResponse, ServerError};
use postern_pgwire::sqlstate::SqlState;
use rustls::AlertDescription;
use thiserror::Error;

use super::choice::SessionAttrs;
use super::login::LoginFailed;
use crate::opening::RequestError;
use crate::packets::ReadError;

/// Why the driver gets no session.
#[derive(Debug, Error)]
pub enum Failure {
    /// The driver's own opening failed.
    #[error("driver: {0}")]
    Request(#[from] RequestError),
    /// The driver did not say in time what it wants.
    #[error("the driver did not open a session in time")]
    Silent,
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
    /// The server is verified, and the login failed.
    #[error("{place}: {source}")]
    Login {
        /// The server.
        place: String,
        /// Why.
        source: LoginFailed,
    },
    /// The server is verified, and is of another kind than the driver is to have.
    #[error("{place} is not {wanted}")]
    Unsuitable {
        /// The server.
        place: String,
        /// The kind.
        wanted: SessionAttrs,
    },
    /// None of several servers will do.
    #[error("{}", list(failures))]
    Nowhere {
        /// What kind is wanted.
        wanted: SessionAttrs,
        /// Why each will not do.
        failures: Vec<Arc<Failure>>,
    },
}

impl Failure {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Request(RequestError::Read(ReadError::Closed)) => "closed",
            Self::Request(_) => "opening",
            Self::Silent => "silent",
            Self::Unreachable { .. } => "unreachable",
            Self::Refused { source, .. } => source.label(),
            Self::Deadline { .. } => "deadline",
            Self::Broken { .. } => "broken",
            Self::Login { source: LoginFailed::Refused { .. }, .. } => "login_refused",
            Self::Login { source: LoginFailed::Driver(_), .. } => "closed",
            Self::Login { .. } => "login",
            Self::Unsuitable { .. } => "unsuitable",
            Self::Nowhere { .. } => "nowhere",
        }
    }

    /// Whether it may be over within a moment, so that it is worth waiting for. What a server has proven to be, or failed to
    /// prove, does not change so soon.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Deadline { .. } | Self::Broken { .. } => true,
            Self::Refused { source, .. } => match source {
                // What a gateway says of an app that it knows, it says again.
                ConnectRefused::Handshake(error) => !matches!(
                    alert(error),
                    Some(AlertDescription::AccessDenied | AlertDescription::NoApplicationProtocol)
                ),
                ConnectRefused::Deadline(_) => true,
                ConnectRefused::Server(refused) => refused.is_temporary(),
                ConnectRefused::Name(_) | ConnectRefused::Resumed => false,
            },
            Self::Login { source, .. } => match source {
                LoginFailed::Gone(_) | LoginFailed::Server(_) => true,
                LoginFailed::Refused { error, .. } => serves_nobody(error),
                LoginFailed::Late | LoginFailed::TooMuch | LoginFailed::Driver(_) | LoginFailed::Unrepeatable(_) => {
                    false
                }
            },
            Self::Request(_) | Self::Silent | Self::Unsuitable { .. } | Self::Nowhere { .. } => false,
        }
    }

    /// Whether the driver closed the connection before there was a session, as health checks do.
    #[must_use]
    pub fn is_the_drivers_end(&self) -> bool {
        matches!(
            self,
            Self::Request(RequestError::Read(ReadError::Closed))
                | Self::Login { source: LoginFailed::Driver(ReadError::Closed), .. }
        )
    }

    /// Whether time ran out.
    #[must_use]
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Deadline { .. } | Self::Refused { source: ConnectRefused::Deadline(_), .. })
    }

    /// Whether another server may do where this one does not, as libpq sees it: not when the server has spoken for itself,
    /// unless it says that it cannot serve anybody now, or is about to end.
    #[must_use]
    pub fn leaves_others(&self) -> bool {
        match self {
            Self::Login { source, .. } => match source {
                LoginFailed::Refused { error, .. } => serves_nobody(error),
                LoginFailed::Driver(_) => false,
                LoginFailed::Gone(_)
                | LoginFailed::Server(_)
                | LoginFailed::Late
                | LoginFailed::TooMuch
                | LoginFailed::Unrepeatable(_) => true,
            },
            Self::Request(_) | Self::Silent | Self::Nowhere { .. } => false,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Deadline { .. }
            | Self::Broken { .. }
            | Self::Unsuitable { .. } => true,
        }
    }

    /// What the driver is told; `None` when it speaks no Postgres or is gone. The driver belongs to the application that
    /// we serve, so it may know the details. What a server says for itself is passed on as it is.
    #[must_use]
    pub fn response(&self) -> Option<Bytes> {
        if let Self::Login { source: LoginFailed::Refused { error, messages, .. }, .. } = self {
            return Some([&messages[..], &error.raw].concat().into());
        }
        self.own_response().map(|response| response.encode())
    }

    fn own_response(&self) -> Option<ErrorResponse> {
        let failed = |message: String| ErrorResponse::fatal(self.sqlstate(), message);
        match self {
            Self::Request(RequestError::Read(ReadError::Opening(error))) => {
                Some(ErrorResponse::fatal(SqlState::PROTOCOL_VIOLATION, error.to_string()))
            }
            Self::Request(_) | Self::Silent | Self::Login { source: LoginFailed::Driver(_), .. } => None,
            Self::Unreachable { .. }
            | Self::Deadline { .. }
            | Self::Broken { .. }
            | Self::Login { .. }
            | Self::Unsuitable { .. } => Some(failed(self.to_string())),
            Self::Nowhere { wanted, failures } => {
                let servers = format!("none of the {} servers", failures.len());
                let message = if *wanted == SessionAttrs::Any {
                    format!("{servers} will do")
                } else {
                    format!("{servers} is there and {wanted}")
                };
                Some(failed(message).detail(self.to_string()))
            }
            Self::Refused { place, source: source @ ConnectRefused::Server(refused) } => {
                Some(failed(format!("{place} is refused: {}", source.public())).detail(refused.to_string()))
            }
            Self::Refused { place, source } => {
                Some(failed(format!("{place}: {}", source.public())).detail(in_words(source)))
            }
        }
    }
}

impl Failure {
    /// libpq goes on to the next of its own hosts for one code alone, "cannot connect now". It stands for all that may go
    /// better elsewhere or later; a server that is not what it must be is no such case.
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Refused { source: ConnectRefused::Server(refused), .. } if !refused.is_temporary() => {
                SqlState::INVALID_AUTHORIZATION
            }
            Self::Unsuitable { .. } => SqlState::CANNOT_CONNECT_NOW,
            Self::Nowhere { failures, .. } => {
                let all = |code| failures.iter().all(|failure| failure.sqlstate() == code);
                let any = |code| failures.iter().any(|failure| failure.sqlstate() == code);
                match () {
                    () if all(SqlState::INVALID_AUTHORIZATION) => SqlState::INVALID_AUTHORIZATION,
                    () if any(SqlState::CANNOT_CONNECT_NOW) => SqlState::CANNOT_CONNECT_NOW,
                    () => SqlState::UNABLE_TO_CONNECT,
                }
            }
            Self::Login { source: LoginFailed::Refused { .. }, .. } => SqlState::CANNOT_CONNECT_NOW,
            Self::Request(_)
            | Self::Silent
            | Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Deadline { .. }
            | Self::Broken { .. }
            | Self::Login { .. } => {
                if self.may_pass() {
                    SqlState::CANNOT_CONNECT_NOW
                } else {
                    SqlState::UNABLE_TO_CONNECT
                }
            }
        }
    }
}

/// Whether a server that refused a login would refuse all: it is starting, or has no database, or is about to end.
fn serves_nobody(error: &ServerError) -> bool {
    [SqlState::CANNOT_CONNECT_NOW, SqlState::ADMIN_SHUTDOWN].iter().any(|state| error.sqlstate == state.code())
}

fn list(failures: &[Arc<Failure>]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What the other side's TLS said, where it said something that has a meaning in Postern.
pub(crate) fn in_words(refused: &ConnectRefused) -> String {
    let ConnectRefused::Handshake(error) = refused else { return refused.to_string() };
    let meaning = match alert(error) {
        Some(AlertDescription::UnrecognisedName) => "the gateway knows no app by this name (alert unrecognized_name)",
        Some(AlertDescription::AccessDenied) => "the chain does not admit the app (alert access_denied)",
        Some(AlertDescription::InternalError) => {
            "the gateway cannot reach the app now, what it knows of the chain is too old, or there is no room (alert internal_error)"
        }
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
mod tests;
