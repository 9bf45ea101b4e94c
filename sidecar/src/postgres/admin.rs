//! A superuser's session, for the few statements that the sidecar runs itself.

use std::time::Duration;

use bytes::BytesMut;
use postern_pgwire::error_response::ServerError;
use postern_pgwire::frame::Message;
use postern_pgwire::login::Login;
use postern_pgwire::scram;
use postern_plumbing::secret::Secret;
use postgres_protocol::message::frontend;
use thiserror::Error;
use tokio::net::UnixStream;

use super::Socket;
use super::login::{LoginFailed, log_in_by};
use crate::packets::{self, ReadError};

/// How long opening a session may take.
const OPEN: Duration = Duration::from_secs(5);
/// Largest message in answer to a statement.
const MAX_MESSAGE: usize = 1 << 20;

/// How a role shows Postgres who it is.
#[derive(Clone, Debug)]
pub enum Proof {
    /// By SCRAM.
    Password(Secret),
    /// By our user on this machine, which the server asks the system for.
    Peer,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    buf: BytesMut,
}

/// Why a session or a statement failed.
#[derive(Debug, Error)]
pub enum AdminError {
    /// Nobody listens on the socket.
    #[error("cannot reach Postgres at {path}: {source}")]
    Unreachable {
        /// The socket.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The login failed.
    #[error("as role `{role}`: {source}")]
    Login {
        /// The role that was to log in.
        role: String,
        /// Why it could not.
        source: Box<LoginFailed>,
    },
    /// No session in time.
    #[error("Postgres does not answer the login of role `{0}`")]
    Silent(String),
    /// A statement failed. Its text is not repeated: it may hold a verifier.
    #[error("Postgres refused to {what}: {} ({})", error.message, error.sqlstate)]
    Statement {
        /// What the statement was for.
        what: &'static str,
        /// What Postgres said.
        error: ServerError,
    },
    /// The connection broke.
    #[error("the session with Postgres broke: {0}")]
    Read(#[from] ReadError),
}

impl Session {
    /// Opens a session as `role` in `database`.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn open(socket: &Socket, role: &str, proof: &Proof, database: &str) -> Result<Self, AdminError> {
        let opening = Self::log_in(socket, role, proof, database);
        tokio::time::timeout(OPEN, opening).await.unwrap_or_else(|_| Err(AdminError::Silent(role.to_owned())))
    }

    async fn log_in(socket: &Socket, role: &str, proof: &Proof, database: &str) -> Result<Self, AdminError> {
        let unreachable = |source| AdminError::Unreachable { path: socket.path().display().to_string(), source };
        let mut stream = socket.connect().await.map_err(unreachable)?;
        let mut startup = BytesMut::new();
        let parameters = [("user", role), ("database", database), ("application_name", "postern-sidecar")];
        frontend::startup_message(parameters, &mut startup).map_err(ReadError::Io)?;
        let mut buf = BytesMut::new();
        let login = match proof {
            Proof::Password(password) => {
                Login::new(&scram::Password::new(password.expose().as_bytes()), &rand::random())
            }
            Proof::Peer => Login::unasked(),
        };
        log_in_by(login, &mut stream, &mut buf, &startup)
            .await
            .map_err(|failed| AdminError::Login { role: role.to_owned(), source: Box::new(failed) })?;
        Ok(Self { stream, buf })
    }

    /// Runs statements in one transaction; what they return is dropped. `what` completes "refused to ..." in errors.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn execute(&mut self, what: &'static str, sql: &str) -> Result<(), AdminError> {
        self.last_row(what, sql).await.map(drop)
    }

    /// Runs statements in one transaction and returns the last row, as DataRow. `what` completes "refused to ..." in errors.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn last_row(&mut self, what: &'static str, sql: &str) -> Result<Option<Message>, AdminError> {
        let mut query = BytesMut::new();
        frontend::query(sql, &mut query).map_err(ReadError::Io)?;
        packets::write(&mut self.stream, &query).await.map_err(ReadError::Io)?;
        let (mut failed, mut row) = (None, None);
        loop {
            let message = packets::message(&mut self.stream, &mut self.buf, MAX_MESSAGE).await?;
            match message.tag() {
                b'E' => failed = Some(ServerError::parse(message.raw(), message.body())),
                b'D' => row = Some(message),
                b'Z' => break,
                _ => {}
            }
        }
        failed.map_or(Ok(row), |error| Err(AdminError::Statement { what, error }))
    }
}
