//! Everything that a connection in serve mode can be refused for.

use std::io;

use bytes::Bytes;
use postern_allowlist::NotAdmitted;
use postern_attest_io::{PeerRefused, TlsRefused};
use postern_pgwire::authentication::PasswordError;
use postern_pgwire::authentication::scram::ScramError;
use postern_pgwire::error_response::{ErrorResponse, ServerError};
use postern_pgwire::login::LoginError;
use postern_pgwire::opening::OpeningError;
use postern_pgwire::sqlstate::SqlState;
use postern_pgwire::startup::StartupError;
use thiserror::Error;

use super::handshakes::Crowd;
use super::places::Full;
use super::proxy_header::ProxyHeaderError;
use crate::opening::RequestError;
use crate::packets::ReadError;
use crate::postgres::login::LoginFailed;

/// Why a connection came to no session. `Display` is the private detail, for our log.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Not ready in time.
    #[error("not ready for queries within the deadline")]
    Deadline,
    /// The connection through the tunnel was not introduced.
    #[error(transparent)]
    ProxyHeader(#[from] ProxyHeaderError),
    /// The client's opening failed: garbage, an early end, encryption asked for twice.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A session without TLS.
    #[error("a startup packet came in plaintext")]
    Plaintext,
    /// TLS could not be established.
    #[error("TLS: {0}")]
    Tls(TlsRefused),
    /// TLS at once, without the ALPN protocol that the configuration requires.
    #[error("direct TLS without ALPN")]
    Alpn,
    /// The client's evidence was refused.
    #[error("evidence: {0}")]
    Peer(PeerRefused),
    /// The client is attested, and may not connect.
    #[error("client: {0}")]
    NotAllowed(#[from] NotAdmitted),
    /// A replication connection, as a role that may not have one.
    #[error("a replication connection")]
    Replication,
    /// The answer to the password request was no password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The answer to the password request could not be read.
    #[error("password message: {0}")]
    PasswordRead(ReadError),
    /// The client's part of SCRAM makes no sense, or its TLS session does not end here.
    #[error("SCRAM: {0}")]
    Scram(#[from] ScramError),
    /// A role that no secret opens, and no rule for the client.
    #[error("no rule opens the role to the client, and no secret does")]
    NoRule {
        /// What the client called itself.
        user: String,
    },
    /// Unknown role, or wrong secret. Nobody learns which.
    #[error("no such role with this secret")]
    Credentials {
        /// What the client called itself.
        user: String,
    },
    /// As many connections on the way to a session as the limits allow.
    #[error("too many connections are not sessions yet")]
    TooManyHandshakes,
    /// As many connections on the way to a session as one source may have.
    #[error("too many connections from there are not sessions yet")]
    TooManyOfSource,
    /// As many sessions as the limits allow, beside those that are kept free for other roles.
    #[error("too many sessions")]
    TooManySessions,
    /// As many sessions as the role may have.
    #[error("too many sessions of role `{0}`")]
    TooManyOfRole(String),
    /// The sidecar is stopping.
    #[error("the sidecar is stopping")]
    Draining,
    /// Postgres has not been provisioned yet, or must not be served.
    #[error("Postgres is not ready: {0}")]
    PostgresNotReady(&'static str),
    /// Postgres does not answer on its socket.
    #[error("Postgres cannot be reached: {0}")]
    PostgresAway(io::Error),
    /// The login to Postgres failed.
    #[error(transparent)]
    PostgresLogin(LoginFailed),
    /// The connection to the client failed.
    #[error("client connection: {0}")]
    Client(#[from] io::Error),
}

impl Refusal {
    /// There is no room for a connection that is no session yet.
    #[must_use]
    pub fn crowded(crowd: Crowd) -> Self {
        match crowd {
            Crowd::Everybody => Self::TooManyHandshakes,
            Crowd::Source => Self::TooManyOfSource,
        }
    }

    /// There is no room for a session of `role`.
    #[must_use]
    pub fn full(full: Full, role: &str) -> Self {
        match full {
            Full::All => Self::TooManySessions,
            Full::Role => Self::TooManyOfRole(role.to_owned()),
        }
    }

    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::ProxyHeader(_) => "proxy_header",
            Self::Request(RequestError::Read(ReadError::Closed)) => "closed",
            Self::Request(RequestError::Read(_)) => "opening",
            Self::Request(RequestError::Encryption) => "encryption_repeated",
            Self::Request(RequestError::EarlyBytes) => "early_bytes",
            Self::Plaintext => "plaintext",
            Self::Tls(refused) => refused.label(),
            Self::Alpn => "alpn",
            Self::Peer(refused) => refused.label(),
            Self::NotAllowed(refused) => refused.label(),
            Self::Replication => "replication",
            Self::Password(_) | Self::PasswordRead(_) => "password_message",
            Self::Scram(ScramError::Binding | ScramError::Negotiation) => "channel_binding",
            Self::Scram(_) => "scram",
            Self::NoRule { .. } => "no_rule",
            Self::Credentials { .. } => "credentials",
            Self::TooManyHandshakes => "too_many_handshakes",
            Self::TooManyOfSource => "too_many_of_source",
            Self::TooManySessions => "too_many_sessions",
            Self::TooManyOfRole(_) => "too_many_of_role",
            Self::Draining => "draining",
            Self::PostgresNotReady(_) => "postgres_not_ready",
            Self::PostgresAway(_) => "postgres_away",
            Self::PostgresLogin(LoginFailed::Refused { before_login: false, .. }) => "postgres_refused",
            Self::PostgresLogin(_) => "postgres_login",
            Self::Client(_) => "client_gone",
        }
    }

    /// What the client is told; `None` when it is not told anything, because it speaks no Postgres or is gone.
    #[must_use]
    pub fn response(&self) -> Option<Bytes> {
        if let Self::PostgresLogin(LoginFailed::Refused { error, before_login, messages }) = self
            && let Some(raw) = passed_on(error, *before_login)
        {
            return Some([&messages[..], raw].concat().into());
        }
        self.own_response().map(|response| response.encode())
    }

    fn own_response(&self) -> Option<ErrorResponse> {
        let fatal = |sqlstate, message: &str| Some(ErrorResponse::fatal(sqlstate, message));
        let unattested = |public: &str| fatal(SqlState::INVALID_AUTHORIZATION, &format!("client refused: {public}"));
        match self {
            Self::Request(RequestError::Read(ReadError::Opening(error))) => malformed_opening(error),
            Self::ProxyHeader(_) | Self::Request(_) | Self::Tls(_) | Self::Client(_) => None,
            Self::Deadline => fatal(SqlState::QUERY_CANCELED, "canceling authentication due to timeout"),
            Self::Plaintext => fatal(SqlState::INVALID_AUTHORIZATION, "this server requires TLS")
                .map(|response| response.hint("Connect with sslmode=require and a client certificate with a quote.")),
            Self::Alpn => fatal(SqlState::PROTOCOL_VIOLATION, "direct TLS requires the ALPN protocol \"postgresql\""),
            Self::Peer(PeerRefused::SourceLimited) => {
                fatal(SqlState::TOO_MANY_CONNECTIONS, PeerRefused::SourceLimited.public())
            }
            Self::Peer(refused) if refused.is_temporary() => fatal(SqlState::CANNOT_CONNECT_NOW, refused.public()),
            Self::Peer(refused) => unattested(refused.public()),
            Self::NotAllowed(refused) if refused.is_temporary() => {
                fatal(SqlState::CANNOT_CONNECT_NOW, refused.public())
            }
            Self::NotAllowed(refused) => unattested(refused.public()),
            Self::Replication => fatal(SqlState::NOT_SUPPORTED, "replication connections are not offered to this role"),
            Self::Password(error) => fatal(SqlState::PROTOCOL_VIOLATION, &error.to_string()),
            Self::PasswordRead(_) => fatal(SqlState::PROTOCOL_VIOLATION, "invalid password packet"),
            Self::Scram(error) => fatal(error.sqlstate(), &error.to_string()),
            Self::NoRule { user } => fatal(
                SqlState::INVALID_AUTHORIZATION,
                &format!("role \"{user}\" is open to certain attested clients only, and this client is none of them"),
            ),
            Self::Credentials { user } => {
                fatal(SqlState::INVALID_PASSWORD, &format!("password authentication failed for user \"{user}\""))
            }
            Self::TooManyHandshakes => {
                fatal(SqlState::TOO_MANY_CONNECTIONS, "too many connections are being established; try again")
            }
            Self::TooManyOfSource => fatal(
                SqlState::TOO_MANY_CONNECTIONS,
                "too many connections from this address are being established; try again",
            ),
            Self::TooManySessions => fatal(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already"),
            Self::TooManyOfRole(role) => {
                fatal(SqlState::TOO_MANY_CONNECTIONS, &format!("too many connections for role \"{role}\""))
            }
            Self::Draining => fatal(SqlState::ADMIN_SHUTDOWN, "the sidecar is shutting down"),
            Self::PostgresNotReady(why) => away(why),
            Self::PostgresAway(_) => away("Postgres is not running, or is starting."),
            Self::PostgresLogin(failed) => Some(login_failed(failed)),
        }
    }
}

fn away(detail: &str) -> Option<ErrorResponse> {
    Some(ErrorResponse::fatal(SqlState::CANNOT_CONNECT_NOW, "the database cannot be reached now").detail(detail))
}

fn malformed_opening(error: &OpeningError) -> Option<ErrorResponse> {
    let sqlstate = match error {
        OpeningError::Foreign => return None,
        OpeningError::Startup(StartupError::Version(..)) => SqlState::NOT_SUPPORTED,
        OpeningError::Length(_) | OpeningError::Code(_) | OpeningError::Startup(_) => SqlState::PROTOCOL_VIOLATION,
    };
    Some(ErrorResponse::fatal(sqlstate, error.to_string()))
}

/// Postgres' own words, where they concern the client: everything after the login, and before it everything but the
/// judgement of our password and the news that it is starting.
fn passed_on(error: &ServerError, before_login: bool) -> Option<&Bytes> {
    let about_us = error.sqlstate.starts_with("28") || error.sqlstate == SqlState::CANNOT_CONNECT_NOW.code();
    (!before_login || !about_us).then_some(&error.raw)
}

fn login_failed(failed: &LoginFailed) -> ErrorResponse {
    let message = "the sidecar could not log in to the database";
    match failed {
        LoginFailed::Refused { error, .. } if error.sqlstate == SqlState::CANNOT_CONNECT_NOW.code() => {
            ErrorResponse::fatal(SqlState::CANNOT_CONNECT_NOW, "the database cannot be reached now")
                .detail(format!("Postgres says: {}.", error.message))
        }
        LoginFailed::Read(_) => ErrorResponse::fatal(SqlState::CANNOT_CONNECT_NOW, message)
            .detail("Postgres closed the connection, or is not Postgres."),
        LoginFailed::Protocol(LoginError::Unexpected(b'v')) => {
            ErrorResponse::fatal(SqlState::CANNOT_CONNECT_NOW, "the database cannot be reached now")
                .detail("It speaks an older protocol than it did a minute ago.")
                .hint("Connect again.")
        }
        LoginFailed::Refused { .. } | LoginFailed::Protocol(_) | LoginFailed::TooMuch => {
            ErrorResponse::fatal(SqlState::CONNECTION_FAILURE, message).detail("The sidecar's log says why.")
        }
    }
}

#[cfg(test)]
mod tests;
