//! The doors for clients.

use std::net::SocketAddr;
use std::sync::Arc;

use postern_gateway_core::refusal::Refusal;
use postern_plumbing::accept;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use crate::connection::{self, Connection};
use crate::metrics;
use crate::proxy_header::ConnectionId;
use crate::shards::{Arrival, Post, Shared};

/// Accepts client connections until the shutdown, and closes the door then. The listener is one of [`accept::listen`].
///
/// # Errors
/// When the listener breaks.
pub async fn serve(listener: TcpListener, post: Post, shared: Shared) -> Result<(), accept::Fatal> {
    // The address of most listeners is that of all their connections.
    let address = listener.local_addr().ok().filter(|address| !address.ip().is_unspecified());
    loop {
        let accepted = tokio::select! {
            accepted = accept::next(&listener) => accepted,
            () = shared.shutdown.triggered() => return Ok(()),
        };
        let (stream, client) = accepted?;
        if let Some(stream) = post.hand_on(client, stream) {
            receive(&shared, &post, client, stream, address);
        }
    }
}

/// Takes the connections that other threads hand over, until the shutdown.
pub async fn handed_over(mut inbox: mpsc::Receiver<Arrival>, post: Post, shared: Shared) {
    while let Some(Arrival { client, stream }) = inbox.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => receive(&shared, &post, client, stream, None),
            Err(error) => tracing::debug!(%error, "a connection was lost"),
        }
    }
}

fn receive(shared: &Shared, post: &Post, client: SocketAddr, stream: TcpStream, address: Option<SocketAddr>) {
    // A connection that is gone already has no local address any more.
    let Some(gateway) = address.or_else(|| stream.local_addr().ok()) else { return };
    admit(shared, post, Connection { id: ConnectionId::next(), client, gateway, stream, opening: None });
}

/// Gives a connection a place, or somebody to turn it away, or neither.
fn admit(shared: &Shared, post: &Post, mut connection: Connection) {
    let edge = &shared.edge;
    // Whoever comes through a load balancer is counted once it was introduced.
    if !edge.introduces(connection.client.ip()) {
        connection.opening = edge.openings.enter(connection.client.ip());
        if connection.opening.is_none() {
            return turn_away(shared, connection, Refusal::NetworkFull);
        }
    }
    let Ok(place) = Semaphore::try_acquire_owned(Arc::clone(&edge.places)) else {
        return turn_away(shared, connection, Refusal::GatewayFull);
    };
    let serving = connection::serve(Arc::clone(edge), connection, (place, post.live()));
    shared.connections.spawn("client connection", serving);
}

fn turn_away(shared: &Shared, mut connection: Connection, refusal: Refusal) {
    connection.opening = None;
    if let Ok(room) = Semaphore::try_acquire_owned(Arc::clone(&shared.edge.standing_room)) {
        shared.connections.spawn("turned away", async move {
            let _room = room;
            connection::turn_away(connection, refusal).await;
        });
    } else {
        let _open = metrics::connection();
        metrics::refused(refusal);
    }
}
