//! A kept connection: several requests, one after the other, and word when the far end closes.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use super::{HttpError, Request, Response};
use crate::Io;
use crate::tasks::Task;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// A kept HTTP/1.1 connection. It is closed when dropped.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    closed: CancellationToken,
    _driver: Task<()>,
}

impl Connection {
    /// Takes over a stream. Nothing is sent yet.
    ///
    /// # Errors
    /// When the stream cannot be used at all.
    pub async fn open<S: Io>(io: S) -> Result<Self, HttpError> {
        let (sender, connection) =
            Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(io)).await.map_err(|error| refine(&error))?;
        let closed = CancellationToken::new();
        let gone = closed.clone().drop_guard();
        let driver = Task::spawn("http connection", async move {
            let _gone = gone;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP connection broke");
            }
        });
        Ok(Self { sender, closed, _driver: driver })
    }

    /// Sends one request and reads the answer: all of it within `deadline`, and at most `max_body` bytes of body. After an
    /// error the connection is of no more use.
    ///
    /// # Errors
    /// When there is no complete answer in time, or it breaks a limit or the protocol.
    pub async fn send(
        &mut self,
        request: Request<'_>,
        max_body: usize,
        deadline: Duration,
    ) -> Result<Response, HttpError> {
        let request = request.build()?;
        let exchange = async {
            self.sender.ready().await.map_err(|error| refine(&error))?;
            let answer = self.sender.send_request(request).await.map_err(|error| refine(&error))?;
            let status = answer.status().as_u16();
            Ok(Response { status, body: read_body(answer.into_body(), max_body).await? })
        };
        tokio::time::timeout(deadline, exchange).await.map_err(|_| HttpError::Deadline(deadline))?
    }

    /// Waits until the far end has closed, or the connection broke.
    pub async fn closed(&mut self) {
        self.closed.cancelled().await;
    }
}

async fn read_body(mut body: Incoming, max: usize) -> Result<Bytes, HttpError> {
    if body.size_hint().lower() > max as u64 {
        return Err(HttpError::TooLarge(max));
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| refine(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if whole.len() + data.len() > max {
            return Err(HttpError::TooLarge(max));
        }
        whole.extend_from_slice(data);
    }
    Ok(whole.freeze())
}

fn refine(error: &hyper::Error) -> HttpError {
    if error.is_parse_too_large() {
        HttpError::TooLarge(MAX_HEAD)
    } else if error.is_parse() {
        HttpError::Garbage(error.to_string())
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        HttpError::Closed
    } else if error.is_user() {
        HttpError::Request(error.to_string())
    } else {
        refine_io(error)
    }
}

/// What breaks while a body is read comes wrapped as an I/O error, also when it is no fault of the stream.
fn refine_io(error: &hyper::Error) -> HttpError {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let text = source.map_or_else(|| error.to_string(), ToString::to_string);
    match source.map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof) => HttpError::Closed,
        Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => HttpError::Garbage(text),
        _ => HttpError::Io(text),
    }
}
