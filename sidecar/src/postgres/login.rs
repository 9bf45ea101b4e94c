//! Logging in to Postgres over an open connection.

use std::io;

use bytes::{Bytes, BytesMut};
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::error_response::ServerError;
use postern_pgwire::login::{Login, LoginError, MAX_LOGIN_MESSAGE, Step};
use postern_pgwire::scram::Password;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::packets::{self, ReadError};

/// How much Postgres may say before it is ready. It says about 500 bytes.
const MAX_GREETING: usize = 1 << 20;

/// What Postgres said on the way to its first ReadyForQuery.
#[derive(Debug)]
pub struct Greeting {
    /// AuthenticationOk, parameters and notices, as they came.
    pub messages: BytesMut,
    /// The key to cancel this session's queries with.
    pub key: Option<CancelKey>,
    /// ReadyForQuery, as it came.
    pub ready: Bytes,
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum LoginFailed {
    /// The connection failed or brought no message.
    #[error("Postgres broke off the login: {0}")]
    Read(#[from] ReadError),
    /// Postgres speaks SCRAM wrong, or nothing of the kind.
    #[error(transparent)]
    Protocol(#[from] LoginError),
    /// Postgres said no.
    #[error("Postgres refused the session: {} ({})", error.message, error.sqlstate)]
    Refused {
        /// Its words.
        error: ServerError,
        /// Whether it refused the login itself, so that the client is not to blame.
        before_login: bool,
        /// What it had said until then.
        messages: BytesMut,
    },
    /// Postgres talks without end.
    #[error("Postgres sent more than 1 MiB before it was ready")]
    TooMuch,
}

impl From<io::Error> for LoginFailed {
    fn from(error: io::Error) -> Self {
        Self::Read(error.into())
    }
}

/// Sends `startup`, logs in with SCRAM and waits for ReadyForQuery. Bytes behind it stay in `buf`.
///
/// # Errors
/// See [`LoginFailed`].
pub async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    buf: &mut BytesMut,
    startup: &[u8],
    password: &Password,
) -> Result<Greeting, LoginFailed> {
    log_in_by(Login::new(password, &rand::random()), stream, buf, startup).await
}

/// The same by any kind of login.
///
/// # Errors
/// See [`LoginFailed`].
pub async fn log_in_by<S: AsyncRead + AsyncWrite + Unpin>(
    mut login: Login,
    stream: &mut S,
    buf: &mut BytesMut,
    startup: &[u8],
) -> Result<Greeting, LoginFailed> {
    packets::write(stream, startup).await?;
    let mut messages = BytesMut::new();
    let mut key = None;
    loop {
        let message = packets::message(stream, buf, MAX_LOGIN_MESSAGE).await?;
        match login.receive(&message)? {
            Step::Send(reply) => packets::write(stream, &reply).await?,
            Step::Forward(said) => messages.extend_from_slice(&said),
            Step::Key(named) => key = Some(named),
            Step::Nothing => {}
            Step::Ready(ready) => return Ok(Greeting { messages, key, ready }),
            Step::Refused { error, before_login } => {
                return Err(LoginFailed::Refused { error, before_login, messages });
            }
        }
        if messages.len() > MAX_GREETING {
            return Err(LoginFailed::TooMuch);
        }
    }
}
