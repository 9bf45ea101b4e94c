//! What all connections of serve mode share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_attest_io::{Acceptor, Attestor, IdentityKeeper};
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::scram::Password;
use postern_plumbing::shutdown::Shutdown;

use super::authenticate::Authentication;
use super::cancel_room::CancelRoom;
use super::cancels::Cancels;
use super::clients::Clients;
use super::dialect::Dialect;
use super::handshakes::Handshakes;
use super::identities::Identities;
use super::places::Places;
use super::throttle::Throttle;
use crate::postgres::Socket;
use crate::postgres::pool::Pool;
use crate::postgres::supervise::Watched;
use crate::secrets::Roles;

/// How long a cancel request may take, from its place in the queue until Postgres has acted on it.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);

/// The sidecar in serve mode.
#[derive(Debug)]
pub struct Server {
    /// The TLS side.
    pub acceptor: Acceptor,
    /// The certificates that the TLS side shows.
    pub keeper: Arc<IdentityKeeper>,
    /// The judge of evidence, who is asked again while sessions last.
    pub attestor: Arc<Attestor>,
    /// Which clients may connect.
    pub clients: Clients,
    /// Which secret opens which role.
    pub roles: Arc<Roles>,
    /// What clients that need a secret are asked for.
    pub authentication: Authentication,
    /// Which clients need no secret.
    pub identities: Identities,
    /// The password of each role in Postgres.
    pub passwords: BTreeMap<String, Password>,
    /// Where Postgres listens.
    pub socket: Socket,
    /// What is known of Postgres.
    pub postgres: Watched,
    /// Connections to it that sessions have left.
    pub pool: Arc<Pool>,
    /// Bounds on connections.
    pub limits: Limits,
    /// Raised when no new sessions are to begin.
    pub draining: Shutdown,
    /// The newest protocol that Postgres speaks.
    pub dialect: Dialect,
    /// The sessions' cancel keys.
    pub cancels: Cancels,
    /// Room for cancel requests.
    pub cancel_room: CancelRoom,
    /// Delays for wrong secrets.
    pub throttle: Throttle,
    /// Room for connections that are not sessions yet.
    pub handshakes: Handshakes,
    /// Room for sessions.
    pub places: Places,
    /// The roles that may open replication connections.
    pub replicators: BTreeSet<String>,
}

/// Bounds on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The time from the first byte to ReadyForQuery.
    pub handshake: Duration,
    /// How many connections may be on the way to a session.
    pub max_handshakes: usize,
    /// How many of them may come from one address, or from one IPv6 network of 64 bits.
    pub max_handshakes_of_source: usize,
    /// How many sessions there may be.
    pub max_sessions: usize,
    /// Whether direct TLS needs ALPN, as PostgreSQL 17 demands.
    pub require_alpn: bool,
}

impl Server {
    /// Carries out a cancel request from `source`. Its sender is never answered: the end of its connection is the sign that
    /// Postgres has acted on it, or that nobody will.
    pub async fn cancel(&self, key: &CancelKey, source: Option<IpAddr>) {
        let cancelled = tokio::time::timeout(CANCEL_DEADLINE, self.try_cancel(key, source)).await;
        let outcome = cancelled.unwrap_or("timeout");
        metrics::counter!("postern_sidecar_cancels_total", "outcome" => outcome).increment(1);
        let client = source.map(tracing::field::display);
        tracing::debug!(outcome, client, "cancel request");
    }

    async fn try_cancel(&self, key: &CancelKey, source: Option<IpAddr>) -> &'static str {
        let Some(place) = self.cancel_room.enter(source).await else { return "failed" };
        let Some(real) = self.cancels.resolve(key) else {
            place.was_wrong().await;
            return "unknown_key";
        };
        match self.socket.cancel(&real).await {
            Ok(()) => "done",
            Err(error) => {
                tracing::warn!(%error, "a cancel request did not reach Postgres");
                "failed"
            }
        }
    }
}
