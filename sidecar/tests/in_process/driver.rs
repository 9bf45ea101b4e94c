//! A Postgres driver that can also be rude.

use bytes::BytesMut;
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::error_response::ServerError;
use postern_pgwire::frame::Message;
use postern_pgwire::negotiation::Version;
use postern_plumbing::Io;
use postern_sidecar::packets::{self, ReadError};
use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt;

use crate::world::READ_SECRET;

/// SSLRequest.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// GSSENCRequest.
pub(crate) const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// One connection of the driver.
#[derive(Debug)]
pub(crate) struct Driver<S> {
    pub(crate) stream: S,
    buf: BytesMut,
    /// The key that came with the session.
    pub(crate) key: Option<CancelKey>,
    /// The server's parameters.
    pub(crate) parameters: Vec<Vec<u8>>,
    /// NegotiateProtocolVersion, if it came where it belongs: before anything else.
    pub(crate) negotiated: Option<Message>,
}

/// A startup packet of this version with these parameters.
pub(crate) fn startup_of(version: Version, parameters: &[(&str, &str)]) -> BytesMut {
    let mut packet = startup(parameters);
    packet[4..8].copy_from_slice(&version.code().to_be_bytes());
    packet
}

/// A startup packet of protocol 3.0 with these parameters.
pub(crate) fn startup(parameters: &[(&str, &str)]) -> BytesMut {
    let mut packet = BytesMut::new();
    frontend::startup_message(parameters.iter().copied(), &mut packet).unwrap();
    packet
}

impl<S: Io> Driver<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buf: BytesMut::new(), key: None, parameters: Vec::new(), negotiated: None }
    }

    /// Logs in as the reader with its secret.
    pub(crate) async fn reader(stream: S) -> Result<Self, ServerError> {
        Self::log_in(stream, &startup(&[("user", "teesql_read")]), READ_SECRET).await
    }

    /// Starts a session and answers the request for a password.
    pub(crate) async fn log_in(stream: S, startup: &[u8], password: &str) -> Result<Self, ServerError> {
        let mut driver = Self::new(stream);
        driver.stream.write_all(startup).await.unwrap();
        driver.stream.flush().await.unwrap();
        let mut first = true;
        loop {
            let message = driver.next().await.unwrap();
            match (message.tag(), message.body()) {
                (b'v', _) if std::mem::replace(&mut first, false) => driver.negotiated = Some(message),
                (b'R', [0, 0, 0, 3]) => {
                    first = false;
                    driver.password(password).await;
                }
                (b'R', [0, 0, 0, 0]) => {}
                (b'S', parameter) => driver.parameters.push(parameter.to_vec()),
                (b'K', [a, b, c, d, secret @ ..]) => {
                    driver.key = CancelKey::new(u32::from_be_bytes([*a, *b, *c, *d]), secret);
                }
                (b'Z', _) => return Ok(driver),
                (b'E', body) => return Err(ServerError::parse(message.raw(), body)),
                (tag, _) => panic!("unexpected message {tag}"),
            }
        }
    }

    /// Sends a password.
    pub(crate) async fn password(&mut self, password: &str) {
        let mut message = BytesMut::new();
        frontend::password_message(password.as_bytes(), &mut message).unwrap();
        self.send(&message).await;
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<Message, ReadError> {
        packets::message(&mut self.stream, &mut self.buf, 10_000_000).await
    }

    /// The error that comes next; then the connection must end.
    pub(crate) async fn refusal(&mut self) -> ServerError {
        let message = self.next().await.unwrap();
        assert_eq!(message.tag(), b'E');
        let error = ServerError::parse(message.raw(), message.body());
        assert!(self.next().await.is_err(), "a refused connection ends");
        error
    }

    /// Asks a query without waiting for its answer.
    pub(crate) async fn ask(&mut self, sql: &str) {
        let mut query = BytesMut::new();
        frontend::query(sql, &mut query).unwrap();
        self.send(&query).await;
    }

    /// The answer to a query, up to ReadyForQuery: what was completed, or the error.
    pub(crate) async fn answer(&mut self) -> Result<Vec<u8>, ServerError> {
        let answer = self.next().await.unwrap();
        assert_eq!(self.next().await.unwrap().tag(), b'Z');
        match answer.tag() {
            b'C' => Ok(answer.body().to_vec()),
            _ => Err(ServerError::parse(answer.raw(), answer.body())),
        }
    }

    /// Reads whatever a query brings, up to ReadyForQuery; the error, if there was one.
    pub(crate) async fn until_ready(&mut self) -> Result<(), ServerError> {
        let mut outcome = Ok(());
        loop {
            let message = self.next().await.unwrap();
            match message.tag() {
                b'E' => outcome = Err(ServerError::parse(message.raw(), message.body())),
                b'Z' => return outcome,
                _ => {}
            }
        }
    }

    /// Asks a query and returns its answer.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<u8>, ServerError> {
        self.ask(sql).await;
        self.answer().await
    }
}

/// The code and the message of a refusal.
pub(crate) fn words(error: &ServerError) -> (&str, &str) {
    (error.sqlstate.as_str(), error.message.as_str())
}
