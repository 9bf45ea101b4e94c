//! What all connections of serve mode share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postern_attest_io::{Acceptor, Attestor};
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::roles::RoleMap;
use postern_plumbing::secret::Secret;
use postern_plumbing::shutdown::Shutdown;
use tokio::sync::Semaphore;

use super::cancels::Cancels;
use super::clients::Clients;
use super::throttle::Throttle;
use crate::postgres::Socket;
use crate::postgres::supervise::Watched;

/// Cancel requests that are worked on at a time.
const CANCELS_AT_A_TIME: usize = 32;
/// What a wrong cancel key costs its sender. With 32 at a time that is 320 guesses per second, against keys of 44 unknown
/// bits in protocol 3.0 and 268 in 3.2.
const WRONG_CANCEL: Duration = Duration::from_millis(100);
/// How long Postgres may take to act on a cancel request.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);

/// The sidecar in serve mode.
#[derive(Debug)]
pub struct Server {
    /// The TLS side.
    pub acceptor: Acceptor,
    /// The judge of evidence, who is asked again while sessions last.
    pub attestor: Arc<Attestor>,
    /// Which clients may connect.
    pub clients: Clients,
    /// Which secret opens which role.
    pub roles: RoleMap,
    /// The password of each role in Postgres.
    pub passwords: BTreeMap<String, Secret>,
    /// Where Postgres listens.
    pub socket: Socket,
    /// What is known of Postgres.
    pub postgres: Watched,
    /// Bounds on connections.
    pub limits: Limits,
    /// Raised when no new sessions are to begin.
    pub draining: Shutdown,
    /// The sessions' cancel keys.
    pub cancels: Cancels,
    /// Delays for wrong secrets.
    pub throttle: Throttle,
    /// Room for connections that are not sessions yet.
    pub handshakes: Arc<Semaphore>,
    /// Room for sessions.
    pub sessions: Arc<Semaphore>,
    /// Room for cancel requests.
    pub cancelling: Semaphore,
}

/// Bounds on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time from the first byte to ReadyForQuery.
    pub handshake: Duration,
    /// How many connections may be on the way to a session.
    pub max_handshakes: usize,
    /// How many sessions there may be.
    pub max_sessions: usize,
    /// Whether direct TLS needs ALPN, as PostgreSQL 17 demands.
    pub require_alpn: bool,
}

impl Limits {
    /// Room for connections that are not sessions yet, and room for sessions.
    #[must_use]
    pub fn room(&self) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let room = |size: usize| Arc::new(Semaphore::new(size.min(Semaphore::MAX_PERMITS)));
        (room(self.max_handshakes), room(self.max_sessions))
    }
}

impl Server {
    /// Room for as many cancel requests as are worked on at a time.
    #[must_use]
    pub const fn cancel_room() -> Semaphore {
        Semaphore::const_new(CANCELS_AT_A_TIME)
    }

    /// Carries out a cancel request. Its sender is never answered, and learns nothing from the time it takes.
    pub async fn cancel(&self, key: &CancelKey) {
        let Ok(_room) = self.cancelling.acquire().await else { return };
        let outcome = match self.cancels.resolve(key) {
            None => {
                tokio::time::sleep(WRONG_CANCEL).await;
                "unknown_key"
            }
            Some(real) => match tokio::time::timeout(CANCEL_DEADLINE, self.socket.cancel(&real)).await {
                Ok(Ok(())) => "done",
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a cancel request did not reach Postgres");
                    "failed"
                }
                Err(_) => "timeout",
            },
        };
        metrics::counter!("postern_sidecar_cancels_total", "outcome" => outcome).increment(1);
        tracing::debug!(outcome, "cancel request");
    }
}
