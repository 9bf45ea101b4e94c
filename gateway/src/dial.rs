//! From a route to a connection to one of its instances.

use std::time::Duration;

use postern_gateway_core::refusal::Refusal;
use postern_gateway_core::route::Route;
use postern_gateway_core::select::select;
use postern_gateway_core::table::Candidate;
use postern_wireguard::{ConnectError, TunnelStream};
use tokio::time::{Instant, sleep};

use crate::edge::Edge;
use crate::metrics;
use crate::proxy_header::ConnectionId;
use crate::sessions::Session;

/// How many instances are tried.
const ATTEMPTS: usize = 2;
/// How often an instance is tried whose tunnel is just being built.
const RETRY: Duration = Duration::from_millis(100);

/// A connection to an instance.
#[derive(Debug)]
pub struct Dialled {
    /// The session, which is live from before the connection was made.
    pub session: Session,
    /// The connection.
    pub stream: TunnelStream,
    /// Whether the instance expects a PROXY header.
    pub proxy_header: bool,
}

/// Connects to one of the instances of a route, and to another one if the first does not answer.
///
/// # Errors
/// Why the client is refused.
pub async fn dial(edge: &Edge, id: ConnectionId, route: &Route) -> Result<Dialled, Refusal> {
    let mut candidates = edge.candidates(id, route)?;
    let mut refusal = Refusal::Unreachable;
    for _attempt in 0..ATTEMPTS {
        let load = |candidate: &Candidate| edge.sessions.load(&candidate.instance.id);
        let Some(chosen) = select(&candidates, load, rand::random()) else { break };
        let candidate = candidates.swap_remove(chosen);
        match attempt(edge, id, &candidate).await {
            Ok(dialled) => return Ok(dialled),
            Err(Refusal::AppFull) => return Err(Refusal::AppFull),
            Err(reason) => refusal = reason,
        }
    }
    Err(refusal)
}

async fn attempt(edge: &Edge, id: ConnectionId, candidate: &Candidate) -> Result<Dialled, Refusal> {
    let session = edge.sessions.open(candidate.instance.app, candidate.instance.id)?;
    // From here on a revocation cuts the session; one that came just before is seen by this look.
    let admission = edge.still_admitted(candidate)?;
    match session.uncut(connect(edge, candidate)).await? {
        Ok(stream) => {
            edge.tell_allowed(id, &candidate.instance, &admission);
            Ok(Dialled { session, stream, proxy_header: candidate.proxy_header })
        }
        Err(error) => {
            let instance = candidate.instance.id;
            tracing::warn!(connection = %id, %instance, address = %candidate.address, %error, "cannot reach an instance");
            Err(Refusal::Unreachable)
        }
    }
}

/// Connects to an instance within one deadline.
///
/// # Errors
/// What the tunnel says.
pub async fn connect(edge: &Edge, candidate: &Candidate) -> Result<TunnelStream, ConnectError> {
    let started = Instant::now();
    loop {
        let left = edge.limits.connect.saturating_sub(started.elapsed());
        match edge.tunnel.connect(candidate.address, left).await {
            // Its key is known and its place is not: it has registered and will speak through the tunnel any moment.
            Err(ConnectError::NoEndpoint) if left > RETRY => sleep(RETRY).await,
            connected => {
                metrics::dialled(connected.is_ok(), started.elapsed());
                return connected;
            }
        }
    }
}
