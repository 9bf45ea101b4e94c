//! The client of dstack's guest agent: JSON over a Unix socket, or over HTTP where a simulator is configured.

mod answers;
mod endpoint;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use postern_attest::event_log::{EventLog, EventLogError};
use postern_plumbing::http::{self, HttpError, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, Zeroizing};

pub use answers::{Info, Version};
pub use endpoint::{AgentEndpoint, NotAnAgentEndpoint, SIMULATOR_VARIABLE};

/// The longest answer that is read. A full event log with boot events has some 20 KiB.
const MAX_ANSWER: usize = 1024 * 1024;

/// The client of one guest agent. Every call opens its own connection and ends within the timeout.
#[derive(Clone, Debug)]
pub struct GuestAgent {
    endpoint: AgentEndpoint,
    timeout: Duration,
}

/// A quote, with the event log that explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteResponse {
    /// The raw quote.
    pub quote: Vec<u8>,
    /// The guest's event log, boot events included.
    pub event_log: EventLog,
}

/// Why the guest agent did not help.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No guest agent was found.
    #[error("there is no guest agent: {SIMULATOR_VARIABLE} is not set, and none of these sockets exists: {}", .0.join(", "))]
    NotFound(Vec<String>),
    /// The environment names an endpoint that is none.
    #[error("{SIMULATOR_VARIABLE}: {0}")]
    Endpoint(#[from] NotAnAgentEndpoint),
    /// The guest agent cannot be reached.
    #[error("cannot reach the guest agent at {endpoint}: {source}")]
    Unreachable {
        /// Where it should be.
        endpoint: AgentEndpoint,
        /// What the system said.
        source: std::io::Error,
    },
    /// The guest agent gave no complete answer.
    #[error("the guest agent did not answer {call}: {source}")]
    NoAnswer {
        /// The method that was called.
        call: &'static str,
        /// Why not.
        source: HttpError,
    },
    /// The guest agent refused.
    #[error("the guest agent refused {call} with status {status}: {text}")]
    Refused {
        /// The method that was called.
        call: &'static str,
        /// The HTTP status.
        status: u16,
        /// The start of what it said.
        text: String,
    },
    /// The answer is not what the method promises.
    #[error("the guest agent's answer to {call} cannot be read: {detail}")]
    Answer {
        /// The method that was called.
        call: &'static str,
        /// What is wrong; never any of the answer.
        detail: String,
    },
    /// The event log of a quote cannot be read.
    #[error("the guest agent's event log cannot be read: {0}")]
    EventLog(#[from] EventLogError),
}

impl GuestAgent {
    /// A client of the agent at `endpoint`. Each call, connecting included, takes at most `timeout`.
    #[must_use]
    pub fn new(endpoint: AgentEndpoint, timeout: Duration) -> Self {
        Self { endpoint, timeout }
    }

    /// A client of the agent that dstack's SDKs would find: the one that `DSTACK_SIMULATOR_ENDPOINT` names, or else the
    /// first of the usual sockets that exists.
    ///
    /// # Errors
    /// When the variable holds no endpoint, or there is neither variable nor socket.
    pub fn discover(timeout: Duration) -> Result<Self, AgentError> {
        AgentEndpoint::discover().map(|endpoint| Self::new(endpoint, timeout))
    }

    /// Where the agent is.
    #[must_use]
    pub fn endpoint(&self) -> &AgentEndpoint {
        &self.endpoint
    }

    /// What the agent says about the application. Nobody vouches for it; a verifier looks at a quote instead.
    ///
    /// # Errors
    /// When the agent does not answer, or not with an application.
    pub async fn info(&self) -> Result<Info, AgentError> {
        self.call("Info", &serde_json::json!({})).await
    }

    /// The agent's version.
    ///
    /// # Errors
    /// When the agent does not answer; older agents do not know the method.
    pub async fn version(&self) -> Result<Version, AgentError> {
        self.call("Version", &serde_json::json!({})).await
    }

    /// A quote over `report_data`.
    ///
    /// # Errors
    /// When the agent does not answer, or not with a quote and a readable event log.
    pub async fn quote(&self, report_data: &[u8; 64]) -> Result<QuoteResponse, AgentError> {
        let request = serde_json::json!({ "report_data": hex::encode(report_data) });
        let answer: answers::Quote = self.call("GetQuote", &request).await?;
        Ok(QuoteResponse { quote: answer.quote, event_log: EventLog::from_json(answer.event_log.as_bytes())? })
    }

    /// The application's key for `path`, the same in every instance. `purpose` only enters the agent's signature over the
    /// public key, which is not asked for here.
    ///
    /// # Errors
    /// When the agent does not answer, or not with a key of 32 bytes.
    pub async fn key(&self, path: &str, purpose: &str) -> Result<Zeroizing<[u8; 32]>, AgentError> {
        const CALL: &str = "GetKey";
        let body = self.send(CALL, &serde_json::json!({ "path": path, "purpose": purpose })).await?;
        let key = answers::key(&body).map_err(|detail| AgentError::Answer { call: CALL, detail });
        if let Ok(mut bytes) = body.try_into_mut() {
            bytes.as_mut().zeroize();
        }
        key
    }

    async fn call<T: DeserializeOwned>(&self, call: &'static str, request: &impl Serialize) -> Result<T, AgentError> {
        let body = self.send(call, request).await?;
        serde_json::from_slice(&body).map_err(|error| AgentError::Answer { call, detail: error.to_string() })
    }

    async fn send(&self, call: &'static str, request: &impl Serialize) -> Result<Bytes, AgentError> {
        let unreadable = |error: serde_json::Error| AgentError::Answer { call, detail: error.to_string() };
        let json = serde_json::to_vec(request).map_err(unreadable)?;
        let started = tokio::time::Instant::now();
        let stream = tokio::time::timeout(self.timeout, self.endpoint.connect())
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|source| AgentError::Unreachable { endpoint: self.endpoint.clone(), source })?;
        let left = self.timeout.saturating_sub(started.elapsed());
        let path = self.endpoint.path_of(call);
        let request = Request::post(self.endpoint.host(), &path, json);
        let answer = http::send(stream, request, MAX_ANSWER, left)
            .await
            .map_err(|source| AgentError::NoAnswer { call, source })?;
        if !answer.is_success() {
            let text = answers::refusal(&answer.body);
            return Err(AgentError::Refused { call, status: answer.status, text });
        }
        Ok(answer.body)
    }
}
