//! A small HTTP/1.1 client over any stream, with a size cap and a deadline for every answer; [`server`] is the other end.

mod connection;
pub mod server;

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
pub use hyper::{Method, StatusCode};

pub use self::connection::Connection;
use crate::Io;

/// One request.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// What is asked for: `GET`, `POST`, ...
    pub method: Method,
    /// The path and query, starting with a slash.
    pub path: &'a str,
    /// The value of the `Host` header.
    pub host: &'a str,
    /// Further headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// A JSON body; `Content-Type` says so.
    pub body: Option<Bytes>,
}

impl<'a> Request<'a> {
    /// Asks for what is at a path.
    #[must_use]
    pub fn get(host: &'a str, path: &'a str) -> Self {
        Self { method: Method::GET, path, host, headers: &[], body: None }
    }

    /// Sends JSON to a path.
    #[must_use]
    pub fn post(host: &'a str, path: &'a str, json: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, path, host, headers: &[], body: Some(json.into()) }
    }

    fn build(self) -> Result<hyper::Request<http_body_util::Full<Bytes>>, HttpError> {
        let mut builder = hyper::Request::builder().method(self.method).uri(self.path).header(HOST, self.host);
        if self.body.is_some() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in self.headers {
            builder = builder.header(*name, *value);
        }
        let body = http_body_util::Full::new(self.body.unwrap_or_default());
        builder.body(body).map_err(|error| HttpError::Request(error.to_string()))
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code. Every status is an answer; none is an error here.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// Whether the status says success (2xx).
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The request cannot be written as HTTP: a header or the path holds a forbidden character.
    #[error("the request is not valid HTTP: {0}")]
    Request(String),
    /// The far end closed before its answer was complete.
    #[error("the far end closed before its answer was complete")]
    Closed,
    /// What the far end sent is not HTTP/1.1.
    #[error("the answer is not HTTP: {0}")]
    Garbage(String),
    /// The answer's head or body is longer than allowed.
    #[error("the answer is longer than allowed ({0} bytes)")]
    TooLarge(usize),
    /// The whole answer did not arrive in time.
    #[error("no complete answer within {0:?}")]
    Deadline(Duration),
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(String),
}

/// Sends one request over a fresh stream and reads the answer, all of it within `deadline` and at most `max_body` bytes of
/// body. The stream is closed after that.
///
/// # Errors
/// When there is no complete answer in time, or it breaks a limit or the protocol.
pub async fn send<S: Io>(
    io: S,
    request: Request<'_>,
    max_body: usize,
    deadline: Duration,
) -> Result<Response, HttpError> {
    let started = tokio::time::Instant::now();
    let open = tokio::time::timeout(deadline, Connection::open(io)).await;
    let mut connection = open.map_err(|_| HttpError::Deadline(deadline))??;
    let left = deadline.saturating_sub(started.elapsed());
    match connection.send(request, max_body, left).await {
        Err(HttpError::Deadline(_)) => Err(HttpError::Deadline(deadline)),
        answer => answer,
    }
}

#[cfg(test)]
mod tests;
