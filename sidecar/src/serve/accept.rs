//! The listeners of serve mode, and what is logged and counted of each connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_pgwire::cancel::Slot;
use postern_plumbing::Io;
use postern_plumbing::accept::{self, Fatal};
use postern_plumbing::tasks::Tasks;
use postern_wireguard::{TunnelListener, TunnelStream};
use tokio::net::TcpListener;
use tokio::sync::OwnedSemaphorePermit;

use super::arrival::Arrival;
use super::proxy_header;
use super::refusal::Refusal;
use super::server::Server;
use super::session::Ended;
use crate::opening::RequestError;
use crate::packets::ReadError;

/// How long a gateway may take to introduce a connection.
const PROXY_HEADER: Duration = Duration::from_secs(5);

/// Accepts TCP connections for ever. While the sidecar stops they can still bring cancel requests, and all others are told
/// that it stops.
///
/// # Errors
/// When the listener is broken.
pub async fn direct(server: Arc<Server>, listener: TcpListener, sessions: Tasks) -> Result<Infallible, Fatal> {
    loop {
        let (stream, client) = accept::accept(&listener).await?;
        let Some(room) = room(&server, "direct") else { continue };
        let server = Arc::clone(&server);
        sessions.spawn("connection", async move {
            connection(&server, stream, Arrival::direct(Some(client)), room).await;
        });
    }
}

/// Accepts connections from a tunnel for ever, as [`direct`] does.
pub async fn tunnel(server: Arc<Server>, listener: TunnelListener, slot: Slot, sessions: Tasks) -> Infallible {
    loop {
        let (stream, gateway) = listener.accept().await;
        let Some(room) = room(&server, "tunnel") else { continue };
        let server = Arc::clone(&server);
        sessions.spawn("tunnel connection", async move {
            introduced(&server, stream, gateway, slot, room).await;
        });
    }
}

/// Room for one more connection that is no session yet. Without it the connection is closed before it costs a task: nothing
/// can be told to a client that has not spoken.
fn room(server: &Server, way: &'static str) -> Option<OwnedSemaphorePermit> {
    let room = Arc::clone(&server.handshakes).try_acquire_owned();
    room.map_err(|_| report_refusal(&Refusal::TooManyHandshakes, way, None)).ok()
}

async fn introduced(
    server: &Server,
    mut stream: TunnelStream,
    gateway: SocketAddr,
    slot: Slot,
    room: OwnedSemaphorePermit,
) {
    let header = tokio::time::timeout(PROXY_HEADER, proxy_header::read(&mut stream)).await;
    match header {
        Ok(Ok(header)) => {
            tracing::debug!(%gateway, host = header.host, connection = header.connection, "introduced");
            connection(server, stream, Arrival::tunnel(header, slot), room).await;
        }
        Ok(Err(error)) => report_refusal(&Refusal::ProxyHeader(error), "tunnel", None),
        Err(_) => report_refusal(&Refusal::Deadline, "tunnel", None),
    }
}

/// Serves a connection and reports how it ended. Its `room` is given back when it becomes a session.
pub async fn connection<S: Io>(server: &Server, stream: S, arrival: Arrival, room: OwnedSemaphorePermit) {
    metrics::counter!("postern_sidecar_connections_total", "way" => arrival.way).increment(1);
    let connection = arrival.connection.as_deref().unwrap_or_default();
    let client = arrival.client.map(tracing::field::display);
    tracing::debug!(client, way = arrival.way, connection, "connection");
    match server.connection(stream, &arrival, room).await {
        Ok(Ended::Cancel) => {}
        Ok(Ended::Session { role, end: Err(cut) }) => {
            metrics::counter!("postern_sidecar_sessions_cut_total", "reason" => cut.label()).increment(1);
            tracing::warn!(role, client, connection, "session cut: {cut}");
        }
        Ok(Ended::Session { role, end: Ok(end) }) => {
            let error = end.error.map(|error| error.to_string());
            let (to_postgres, to_client) = (end.to_upstream, end.to_client);
            tracing::info!(role, client, connection, to_postgres, to_client, error, "session ended");
        }
        Err(refusal) => report_refusal(&refusal, arrival.way, arrival.client),
    }
}

fn report_refusal(refusal: &Refusal, way: &'static str, client: Option<SocketAddr>) {
    let reason = refusal.label();
    let client = client.map(tracing::field::display);
    metrics::counter!("postern_sidecar_refusals_total", "reason" => reason, "way" => way).increment(1);
    let closed = matches!(refusal, Refusal::Request(RequestError::Read(ReadError::Closed)));
    // Health checks connect and go, and whoever sends a flood must not fill the log with it.
    if closed || matches!(refusal, Refusal::TooManyHandshakes) {
        tracing::debug!(reason, way, client, detail = %refusal, "connection closed");
    } else {
        tracing::info!(reason, way, client, detail = %refusal, "connection refused");
    }
}
