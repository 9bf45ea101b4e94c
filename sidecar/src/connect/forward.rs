//! One driver connection in connect mode.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postern_attest_io::PeerRefused;
use postern_pgwire::boundary::Boundary;
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::error_response::ErrorResponse;
use postern_pgwire::sqlstate::SqlState;
use postern_plumbing::Io;
use postern_plumbing::relay::RelayEnd;
use postern_plumbing::tasks::Tasks;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::choice::{Balance, SessionAttrs};
use super::failure::Failure;
use super::keys::{Kept, Keys};
use super::target::{Counted, Target, Verified};
use crate::deadline::Deadline;
use crate::meter::{self, Meter};
use crate::opening::{self, Request};
use crate::packets;
use crate::serve::upstream::{Severed, Upstream, carry};

/// How many drivers may be on the way to a session.
const HANDSHAKES: usize = 512;

/// Carries the connections of one local port to its servers.
#[derive(Debug)]
pub struct Forwarder {
    /// The servers.
    pub targets: Vec<Arc<Target>>,
    /// Which of them a driver is to have.
    pub wanted: SessionAttrs,
    /// In which order they are tried.
    pub balance: Balance,
    /// From the driver's first byte to the verified server's first answer, and to the end of a login that is watched.
    pub deadline: Duration,
    /// How long one server may take, to connect and for each step of a login that is watched.
    pub attempt: Duration,
    /// How long a driver waits for a server that is away or about to end.
    pub patience: Duration,
    /// Raised when a server is found to be away, or back.
    pub changed: Arc<Notify>,
    /// The sessions' cancel keys.
    pub keys: Keys,
    /// Room for connections that are not sessions yet.
    pub handshakes: Arc<Semaphore>,
}

/// How a driver's connection ended that was not refused.
#[derive(Debug)]
pub enum Ended {
    /// It brought a cancel request, for this many sessions.
    Cancel(usize),
    /// It was a session.
    Session(RelayEnd),
    /// It was a session until the server was judged again.
    Cut(Severed<PeerRefused>),
}

/// A session that is ready for the rest of what both sides have to say.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) verified: Verified,
    /// What the driver has heard of the server.
    pub(super) heard: Boundary,
    pub(super) counted: Counted,
    pub(super) kept: Option<Kept>,
}

impl Forwarder {
    /// Room for as many connections as may be on the way to a session.
    #[must_use]
    pub fn handshake_room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(HANDSHAKES))
    }

    /// Carries one connection until it ends. `room` is held for as long as it is no session.
    ///
    /// # Errors
    /// Why there was no session. The driver has been told.
    pub async fn connection<S: Io>(&self, mut driver: S, room: OwnedSemaphorePermit) -> Result<Ended, Arc<Failure>> {
        let deadline = Deadline::after(self.deadline);
        match Box::pin(self.establish(&mut driver, deadline)).await {
            Ok(Established::Cancelled(sessions)) => Ok(Ended::Cancel(sessions)),
            Ok(Established::Session(session)) => {
                drop(room);
                let Session { verified, heard, counted, kept: _kept } = *session;
                let Verified { server, evidence, .. } = verified;
                let (peer, mut server) = (server.peer, Upstream::new(server.stream, heard));
                let meter = Meter::start(["to_server", "to_driver"]);
                let cut = evidence.disbelieved(peer.as_deref(), counted.peer());
                let end = carry(&mut driver, &mut server, &meter.progress, cut, last_words).await;
                Ok(end.map_or_else(Ended::Cut, Ended::Session))
            }
            Err(failure) => {
                packets::refuse(&mut driver, failure.response().as_deref()).await;
                Err(failure)
            }
        }
    }

    async fn establish<S: Io>(&self, driver: &mut S, deadline: Deadline) -> Result<Established, Arc<Failure>> {
        let mut buf = BytesMut::new();
        let request = deadline.limit(opening::request(driver, &mut buf)).await;
        let request = request.map_err(|_| Failure::Silent)?.map_err(Failure::from)?;
        match request {
            Request::Cancel(key) => Ok(Established::Cancelled(self.cancel(&key, deadline).await?)),
            Request::Startup(startup) => {
                let session = if self.watches() {
                    Box::pin(self.choose(driver, &startup, &mut buf, deadline)).await
                } else {
                    Box::pin(self.reach(driver, &startup, &buf, deadline)).await
                };
                Ok(Established::Session(Box::new(session?)))
            }
        }
    }

    /// Carries a cancel request to the servers that have given its key out, and says to how many sessions. Where logins are
    /// not watched there is one server, and it knows.
    async fn cancel(&self, key: &CancelKey, deadline: Deadline) -> Result<usize, Arc<Failure>> {
        if let ([only], false) = (self.targets.as_slice(), self.watches()) {
            only.cancel(key, None, deadline).await?;
            return Ok(1);
        }
        let holders = self.keys.holders(key);
        for holder in &holders {
            if let Some(target) = self.targets.get(holder.target) {
                target.cancel(key, Some(holder.instance), deadline).await?;
            }
        }
        Ok(holders.len())
    }
}

/// What a driver is told whose session is cut.
fn last_words(refused: &PeerRefused) -> ErrorResponse {
    let words = format!("terminating connection: the server's evidence is no longer good enough: {}", refused.public());
    ErrorResponse::fatal(SqlState::ADMIN_SHUTDOWN, words)
}

/// What a driver's opening has come to.
enum Established {
    Cancelled(usize),
    Session(Box<Session>),
}

/// Serves one driver in a task of its own, or closes its connection at once where too many are on the way to a session.
pub fn serve<S: Io>(forwarder: &Arc<Forwarder>, driver: S, sessions: &Tasks) {
    let Ok(room) = Arc::clone(&forwarder.handshakes).try_acquire_owned() else {
        let reason = "too_many_handshakes";
        metrics::counter!("postern_sidecar_refusals_total", "reason" => reason, "way" => "connect").increment(1);
        tracing::debug!(reason, "connection closed");
        return;
    };
    let forwarder = Arc::clone(forwarder);
    sessions.spawn("driver", async move { report(&forwarder, driver, room).await });
}

async fn report<S: Io>(forwarder: &Forwarder, driver: S, room: OwnedSemaphorePermit) {
    metrics::counter!("postern_sidecar_connections_total", "way" => "connect").increment(1);
    match forwarder.connection(driver, room).await {
        Ok(Ended::Cancel(sessions)) => {
            let outcome = if sessions > 0 { "forwarded" } else { "unknown_key" };
            metrics::counter!("postern_sidecar_cancels_total", "outcome" => outcome).increment(1);
        }
        Ok(Ended::Cut(Severed { cause, told })) => {
            meter::cut(cause.label(), told);
            tracing::warn!(told, "session cut: the server's evidence is no longer good enough: {cause}");
        }
        Ok(Ended::Session(end)) => {
            let error = end.error.map(|error| error.to_string());
            tracing::info!(to_server = end.to_upstream, to_driver = end.to_client, error, "session ended");
        }
        Err(failure) => {
            let reason = failure.label();
            metrics::counter!("postern_sidecar_refusals_total", "reason" => reason, "way" => "connect").increment(1);
            if failure.is_the_drivers_end() {
                tracing::debug!(reason, "connection closed by the driver");
            } else {
                tracing::warn!(reason, detail = %failure, "no session");
            }
        }
    }
}
