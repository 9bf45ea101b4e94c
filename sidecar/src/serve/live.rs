//! A session that is ready for queries, until its end.

use std::sync::Arc;

use postern_attest::Appraisal;
use postern_attest_io::PeerRefused;
use postern_pgwire::error_response::ErrorResponse;
use postern_pgwire::sqlstate::SqlState;
use postern_plumbing::Io;
use thiserror::Error;

use super::backend::Attached;
use super::places::Place;
use super::reappraisal::Evidence;
use super::server::Server;
use super::session::Ended;
use super::upstream::carry;
use crate::meter::Meter;

/// Why a session was cut that was allowed to begin.
#[derive(Debug, Error)]
pub enum Cut {
    /// The chain took its permission back.
    #[error("the chain no longer allows the client")]
    Chain,
    /// Judged again, the client was refused.
    #[error("the client's evidence is no longer good enough: {0}")]
    Evidence(PeerRefused),
}

impl Cut {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Evidence(refused) => refused.label(),
        }
    }

    /// What the client is told.
    #[must_use]
    pub fn response(&self) -> ErrorResponse {
        let why = match self {
            Self::Chain => "the chain no longer allows this client".to_owned(),
            Self::Evidence(refused) => format!("the client's evidence is no longer good enough: {}", refused.public()),
        };
        ErrorResponse::fatal(SqlState::ADMIN_SHUTDOWN, format!("terminating connection: {why}"))
    }
}

/// What a session is made of, but for the client's side.
#[derive(Debug)]
pub struct Session {
    /// The role that the client has logged in as.
    pub role: String,
    /// What the client has proved.
    pub peer: Option<Arc<Appraisal>>,
    /// Postgres, which is ready.
    pub attached: Attached,
    /// Room for the session.
    pub place: Place,
}

/// A session with its client.
#[derive(Debug)]
pub struct Live<S> {
    /// The client's side.
    pub client: S,
    /// The other side, and what the session has taken.
    pub session: Session,
    /// What the client has shown.
    pub evidence: Evidence,
}

impl<S: Io> Live<S> {
    /// Moves bytes both ways until both sides have closed, Postgres has been gone for a moment, or the client is no longer one
    /// of those that may be here.
    pub async fn relay(self: Box<Self>, server: &Server) -> Ended {
        let Self { mut client, session, evidence } = *self;
        let Session { role, peer, mut attached, place } = session;
        let meter = Meter::start(["to_postgres", "to_client"]);
        tracing::debug!(role, "session established");
        let peer = peer.as_deref();
        let cut = async {
            tokio::select! {
                () = server.clients.revoked(peer) => Cut::Chain,
                refused = evidence.disbelieved(peer, server.clients.policy()) => Cut::Evidence(refused),
            }
        };
        let end = carry(&mut client, &mut attached.upstream, &meter.progress, cut, Cut::response).await;
        if end.is_ok() {
            // Postgres is not done with the session until it has forgotten it. An idle one holds no space for that.
            drop(client);
            Box::pin(server.detach(attached)).await;
        }
        drop(place);
        Ended::Session { role, end }
    }
}
