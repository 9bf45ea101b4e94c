//! A login that is watched on its way between driver and server, so that the server can still be another one.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::error_response::ServerError;
use postern_pgwire::frame::Message;
use postern_pgwire::login::MAX_LOGIN_MESSAGE;
use postern_plumbing::Io;
use thiserror::Error;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::choice::Said;
use crate::packets::{self, ReadError};

/// How much a server may say before it is ready. It says about 500 bytes.
const MAX_GREETING: usize = 1 << 20;

const OK: u32 = 0;
const CLEARTEXT: u32 = 3;
const SASL_FINAL: u32 = 12;

/// The driver's side of the login. Nothing that a server says reaches the driver before the server is the one, but for what
/// it asks of the driver.
#[derive(Debug)]
pub struct Login<'a, S> {
    driver: &'a mut S,
    /// What the driver has sent ahead.
    ahead: &'a mut BytesMut,
    answer: Answer,
}

/// What the driver has answered so far.
enum Answer {
    Nothing,
    /// The PasswordMessage, which another server may be given as well.
    Password(Zeroizing<Vec<u8>>),
    /// Something that is of use with one server only.
    Once,
}

/// Without the answer, which may be a password.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Password(_) => "Password([redacted])",
            Self::Once => "Once",
        })
    }
}

/// What a server said until it was ready for queries.
#[derive(Default)]
pub struct Greeting {
    /// All of it that the driver has not been told.
    pub messages: BytesMut,
    /// What it says of its kind.
    pub said: Said,
    /// The key to cancel the session's queries with.
    pub key: Option<CancelKey>,
}

/// Without the messages, one of which holds the cancel key.
impl fmt::Debug for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greeting").field("said", &self.said).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum LoginFailed {
    /// The server said no.
    #[error("{} ({})", error.message, error.sqlstate)]
    Refused {
        /// Its words.
        error: ServerError,
        /// What it had said until then.
        messages: BytesMut,
        /// Whether these were its first words.
        at_once: bool,
    },
    /// The server was gone before it said anything.
    #[error("it was gone before it answered: {0}")]
    Gone(ReadError),
    /// The server broke off, or says what nobody understands.
    #[error("{0}")]
    Server(ReadError),
    /// The server does not go on.
    #[error("it stopped in the middle of the login")]
    Late,
    /// The server talks without end.
    #[error("it sent more than 1 MiB before it was ready")]
    TooMuch,
    /// The driver broke off.
    #[error("driver: {0}")]
    Driver(ReadError),
    /// An earlier server has used up the driver's answer.
    #[error("it asks for a proof (method {0}) that the driver has given to another server already")]
    Unrepeatable(u32),
}

impl<'a, S: Io> Login<'a, S> {
    /// A login of which nothing has been asked. `ahead` is what the driver has sent behind its startup packet.
    pub fn new(driver: &'a mut S, ahead: &'a mut BytesMut) -> Self {
        Self { driver, ahead, answer: Answer::Nothing }
    }

    /// Sends the startup packet to a server and goes on to its first ReadyForQuery. The server may take `patience` for each
    /// of its messages.
    ///
    /// # Errors
    /// See [`LoginFailed`].
    pub async fn with<T: Io>(
        &mut self,
        server: &mut T,
        startup: &[u8],
        patience: Duration,
    ) -> Result<Greeting, LoginFailed> {
        let gone = |error: io::Error| LoginFailed::Gone(error.into());
        packets::write(server, startup).await.map_err(gone)?;
        let (mut buf, mut greeting) = (BytesMut::new(), Greeting::default());
        let (mut heard, mut asked) = (false, false);
        loop {
            let message = timeout(patience, packets::message(server, &mut buf, MAX_LOGIN_MESSAGE)).await;
            let failed = if heard { LoginFailed::Server } else { LoginFailed::Gone };
            let message = message.map_err(|_| LoginFailed::Late)?.map_err(failed)?;
            let at_once = !std::mem::replace(&mut heard, true);
            match (message.tag(), method(&message)) {
                (b'R', Some(method)) if ![OK, SASL_FINAL].contains(&method) => {
                    let answer = self.answer(&mut greeting, &message, method, &mut asked).await?;
                    packets::write(server, &answer).await.map_err(|error| LoginFailed::Server(error.into()))?;
                    continue;
                }
                (b'E', _) => {
                    let error = ServerError::parse(message.raw(), message.body());
                    return Err(LoginFailed::Refused { error, messages: greeting.messages, at_once });
                }
                // An earlier server has told it.
                (b'v', _) if self.has_answered() => continue,
                (b'S', _) => greeting.said.hear(message.body()),
                (b'K', _) => greeting.key = key(message.body()),
                _ => {}
            }
            greeting.messages.extend_from_slice(message.raw());
            if greeting.messages.len() > MAX_GREETING {
                return Err(LoginFailed::TooMuch);
            }
            if message.tag() == b'Z' {
                greeting.messages.extend_from_slice(&buf);
                return Ok(greeting);
            }
        }
    }

    /// Ends the login: the driver is told what the server said, and the server is sent what the driver has sent ahead.
    ///
    /// # Errors
    /// When either is gone.
    pub async fn conclude<T: Io>(self, server: &mut T, greeting: &Greeting) -> Result<(), LoginFailed> {
        let driver = packets::write(self.driver, &greeting.messages).await;
        driver.map_err(|error| LoginFailed::Driver(error.into()))?;
        if !self.ahead.is_empty() {
            let sent = packets::write(server, &self.ahead.split()).await;
            sent.map_err(|error| LoginFailed::Server(error.into()))?;
        }
        Ok(())
    }

    fn has_answered(&self) -> bool {
        !matches!(self.answer, Answer::Nothing)
    }

    /// The driver's answer to what a server asks; for a password that was asked for before, the same. `asked` says whether
    /// this server has asked before.
    async fn answer(
        &mut self,
        greeting: &mut Greeting,
        request: &Message,
        method: u32,
        asked: &mut bool,
    ) -> Result<Zeroizing<Vec<u8>>, LoginFailed> {
        match &self.answer {
            Answer::Password(password) if method == CLEARTEXT => return Ok(password.clone()),
            Answer::Nothing => {}
            Answer::Once if *asked => {}
            Answer::Password(_) | Answer::Once => return Err(LoginFailed::Unrepeatable(method)),
        }
        *asked = true;
        let question = [&greeting.messages.split()[..], request.raw()].concat();
        let failed = |error: ReadError| LoginFailed::Driver(error);
        packets::write(self.driver, &question).await.map_err(|error| failed(error.into()))?;
        let answer = packets::message(self.driver, self.ahead, MAX_LOGIN_MESSAGE).await.map_err(failed)?;
        let answer = Zeroizing::new(answer.raw().to_vec());
        self.answer = if method == CLEARTEXT { Answer::Password(answer.clone()) } else { Answer::Once };
        Ok(answer)
    }
}

/// The method of an Authentication message.
fn method(message: &Message) -> Option<u32> {
    message.body().first_chunk::<4>().map(|method| u32::from_be_bytes(*method))
}

fn key(body: &[u8]) -> Option<CancelKey> {
    let (process_id, secret) = body.split_first_chunk::<4>()?;
    CancelKey::new(u32::from_be_bytes(*process_id), secret)
}

#[cfg(test)]
mod tests;
