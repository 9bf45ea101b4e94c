//! The client's side of a Postgres login, from our StartupMessage to the first ReadyForQuery.

mod scram;

use std::fmt;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;
use thiserror::Error;

pub use self::scram::ExchangeError;
use self::scram::{Proved, Start};
use crate::cancel::CancelKey;
use crate::error_response::ServerError;
use crate::frame::{Message, Summary};
use crate::scram::{MECHANISM, NONCE, Password};

/// Largest message that a login reads. ParameterStatus and NoticeResponse are the longest, and short.
pub const MAX_LOGIN_MESSAGE: usize = 65_536;

const OK: u32 = 0;
const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;

/// What to do after a message from Postgres. What it carries is not printed: it may be the proof that we know the password.
#[derive(PartialEq, Eq)]
pub enum Step {
    /// Send these bytes to Postgres.
    Send(Bytes),
    /// Pass this message on to the client.
    Forward(Bytes),
    /// Postgres named its cancel key; pass on one of our own.
    Key(CancelKey),
    /// The message was for us alone.
    Nothing,
    /// The session is ready; pass this ReadyForQuery on and stop parsing.
    Ready(Bytes),
    /// Postgres said no, and will close. `before_login`: while it still judged our own password, so that the client is
    /// not to blame.
    Refused {
        /// What it said.
        error: ServerError,
        /// Whether the login itself failed.
        before_login: bool,
    },
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(message) => write!(f, "Send({})", Summary(message)),
            Self::Forward(message) => write!(f, "Forward({})", Summary(message)),
            Self::Key(key) => f.debug_tuple("Key").field(key).finish(),
            Self::Nothing => f.write_str("Nothing"),
            Self::Ready(message) => write!(f, "Ready({})", Summary(message)),
            Self::Refused { error, before_login } => {
                f.debug_struct("Refused").field("error", error).field("before_login", before_login).finish()
            }
        }
    }
}

/// Why a login cannot go on. All of these are faults of Postgres or of its configuration, never of the client.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum LoginError {
    /// Postgres let us in without proof on either side: `trust` in its pg_hba.conf, or `peer` where that was not expected.
    #[error("Postgres asked for no password; its pg_hba.conf must say scram-sha-256")]
    NoPassword,
    /// Postgres asked for something weaker or stranger than SCRAM-SHA-256.
    #[error("Postgres asked for authentication method {0} where scram-sha-256 was expected")]
    Method(u32),
    /// SASL without SCRAM-SHA-256.
    #[error("Postgres does not offer SCRAM-SHA-256")]
    Mechanism,
    /// The exchange failed: wrong nonce, wrong server signature, or bytes that are no SCRAM.
    #[error("SCRAM-SHA-256 with Postgres failed: {0}")]
    Scram(#[from] ExchangeError),
    /// A message that has no place here.
    #[error("unexpected message type {0} from Postgres during login")]
    Unexpected(u8),
    /// BackendKeyData of an impossible length.
    #[error("Postgres sent a malformed cancel key")]
    Key,
}

/// One login with SCRAM-SHA-256, or with nothing at all, as a state machine over messages.
pub struct Login {
    state: State,
}

enum State {
    Unasked,
    Start(Start),
    Challenge(Start),
    Signature(Proved),
    Proven,
    LoggedIn,
    Over,
}

impl Login {
    /// A login with this password, and a random nonce. The user and database stand in the StartupMessage that the caller has
    /// sent.
    #[must_use]
    pub fn new(password: &Password, nonce: &[u8; NONCE]) -> Self {
        Self { state: State::Start(Start::new(password.clone(), nonce)) }
    }

    /// A login to a Postgres that knows us by our user on the machine, which is `peer` in its pg_hba.conf, and asks for nothing.
    /// That it would ask as little of others has to be ruled out by other means.
    #[must_use]
    pub const fn unasked() -> Self {
        Self { state: State::Unasked }
    }

    /// Takes the next message from Postgres.
    ///
    /// # Errors
    /// See [`LoginError`]; after an error, as after [`Step::Ready`] and [`Step::Refused`], every further message is one.
    pub fn receive(&mut self, message: &Message) -> Result<Step, LoginError> {
        let state = std::mem::replace(&mut self.state, State::Over);
        let (state, step) = match (state, message.tag()) {
            (State::Over, tag) => return Err(LoginError::Unexpected(tag)),
            (state, b'E') => {
                let error = ServerError::parse(message.raw(), message.body());
                (State::Over, Step::Refused { error, before_login: !matches!(state, State::LoggedIn) })
            }
            (State::LoggedIn, tag) => logged_in(tag, message)?,
            (state, b'R') => authenticate(state, message)?,
            (_, tag) => return Err(LoginError::Unexpected(tag)),
        };
        self.state = state;
        Ok(step)
    }
}

fn logged_in(tag: u8, message: &Message) -> Result<(State, Step), LoginError> {
    match tag {
        b'S' | b'N' => Ok((State::LoggedIn, Step::Forward(message.raw().clone()))),
        b'K' => {
            let key = CancelKey::from_body(message.body()).ok_or(LoginError::Key)?;
            Ok((State::LoggedIn, Step::Key(key)))
        }
        b'Z' => Ok((State::Over, Step::Ready(message.raw().clone()))),
        _ => Err(LoginError::Unexpected(tag)),
    }
}

fn authenticate(state: State, message: &Message) -> Result<(State, Step), LoginError> {
    let (method, data) = message.body().split_first_chunk::<4>().ok_or(LoginError::Unexpected(b'R'))?;
    let unwritable = |_| ExchangeError::Malformed;
    match (state, u32::from_be_bytes(*method)) {
        (State::Start(start), SASL) => {
            let offered = data.split(|byte| *byte == 0).any(|name| name == MECHANISM.as_bytes());
            if !offered {
                return Err(LoginError::Mechanism);
            }
            let mut reply = BytesMut::new();
            frontend::sasl_initial_response(MECHANISM, start.message().as_bytes(), &mut reply).map_err(unwritable)?;
            Ok((State::Challenge(start), Step::Send(reply.freeze())))
        }
        (State::Challenge(start), SASL_CONTINUE) => {
            let (proved, proof) = start.prove(data)?;
            let mut reply = BytesMut::new();
            frontend::sasl_response(proof.as_bytes(), &mut reply).map_err(unwritable)?;
            Ok((State::Signature(proved), Step::Send(reply.freeze())))
        }
        (State::Signature(proved), SASL_FINAL) => {
            proved.check(data)?;
            Ok((State::Proven, Step::Nothing))
        }
        (State::Proven | State::Unasked, OK) => Ok((State::LoggedIn, Step::Forward(message.raw().clone()))),
        (_, OK) => Err(LoginError::NoPassword),
        (_, method) => Err(LoginError::Method(method)),
    }
}

#[cfg(test)]
mod scram_server;
#[cfg(test)]
mod tests;
