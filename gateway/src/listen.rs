//! The doors for clients.

use std::sync::Arc;

use postern_plumbing::accept;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::connection::{self, Connection};
use crate::edge::Edge;
use crate::proxy_header::ConnectionId;

/// Accepts client connections until the shutdown, and closes the door then.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    edge: Arc<Edge>,
    tasks: Tasks,
    shutdown: Shutdown,
) -> Result<(), accept::Fatal> {
    loop {
        let accepted = tokio::select! {
            accepted = accept::accept(&listener) => accepted,
            () = shutdown.triggered() => return Ok(()),
        };
        let (stream, client) = accepted?;
        // A connection that is gone already has no local address any more.
        let Ok(gateway) = stream.local_addr() else { continue };
        admit(&edge, &tasks, Connection { id: ConnectionId::next(), client, gateway, stream });
    }
}

/// Gives a connection a place, or somebody to turn it away, or neither.
fn admit(edge: &Arc<Edge>, tasks: &Tasks, connection: Connection) {
    if let Ok(place) = Semaphore::try_acquire_owned(Arc::clone(&edge.places)) {
        let edge = Arc::clone(edge);
        tasks.spawn("client connection", async move {
            let _place = place;
            connection::serve(edge, connection).await;
        });
    } else if let Ok(room) = Semaphore::try_acquire_owned(Arc::clone(&edge.standing_room)) {
        tasks.spawn("turned away", async move {
            let _room = room;
            connection::turn_away(connection).await;
        });
    } else {
        let _open = crate::metrics::connection();
        crate::metrics::refused(postern_gateway_core::refusal::Refusal::GatewayFull);
    }
}
