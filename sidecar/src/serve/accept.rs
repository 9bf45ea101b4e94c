//! The listeners of serve mode, and what is logged and counted of each connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_pgwire::cancel::Slot;
use postern_plumbing::Io;
use postern_plumbing::accept::{self, Fatal};
use postern_plumbing::sparing::Sparing;
use postern_plumbing::tasks::Tasks;
use postern_wireguard::{TunnelListener, TunnelStream};
use tokio::net::TcpListener;

use super::arrival::Arrival;
use super::handshakes::{NoRoom, Room};
use super::proxy_header;
use super::refusal::Refusal;
use super::server::Server;
use super::session::Ended;
use super::turned_away::SPEAK;
use super::upstream::Severed;
use crate::meter;
use crate::opening::RequestError;
use crate::packets::ReadError;

/// How long a gateway may take to introduce a connection.
const PROXY_HEADER: Duration = Duration::from_secs(5);

/// How often it is looked whether some were left out.
const LOOK: Duration = Duration::from_secs(1);
/// Refusals in the log, by reason: anybody can cause them, as fast as connections can be made.
static REFUSALS: Sparing<&'static str> = Sparing::new(10, Duration::from_secs(10));

/// Accepts TCP connections for ever. While the sidecar stops they can still bring cancel requests, and all others are told
/// that it stops.
///
/// # Errors
/// When the listener is broken.
pub async fn direct(server: Arc<Server>, listener: TcpListener, sessions: Tasks) -> Result<Infallible, Fatal> {
    loop {
        let (stream, client) = accept::accept(&listener).await?;
        let arrival = Arrival::direct(Some(client));
        let Some(entered) = enter(&server, &arrival) else { continue };
        let server = Arc::clone(&server);
        sessions.spawn("connection", async move { serve(&server, stream, arrival, entered).await });
    }
}

/// Accepts connections from a tunnel for ever, as [`direct`] does.
pub async fn tunnel(server: Arc<Server>, listener: TunnelListener, slot: Slot, sessions: Tasks) -> Infallible {
    loop {
        let (stream, gateway) = listener.accept().await;
        let stranger = Arrival::stranger(slot);
        let Some(entered) = enter(&server, &stranger) else { continue };
        let server = Arc::clone(&server);
        sessions.spawn("tunnel connection", async move { introduced(&server, stream, gateway, slot, entered).await });
    }
}

/// Room for one more connection that is no session yet, or to tell it that there is none. Without either it is closed before
/// it costs a task.
fn enter(server: &Server, arrival: &Arrival) -> Option<Result<Room, NoRoom>> {
    let entered = server.handshakes.enter(arrival.source());
    if let Err(NoRoom { crowd, place: None }) = &entered {
        report_refusal(&Refusal::crowded(*crowd), arrival);
        return None;
    }
    Some(entered)
}

async fn introduced(
    server: &Server,
    mut stream: TunnelStream,
    gateway: SocketAddr,
    slot: Slot,
    entered: Result<Room, NoRoom>,
) {
    let patience = if entered.is_ok() { PROXY_HEADER } else { SPEAK };
    let refuse = |refusal| report_refusal(&refusal, &Arrival::stranger(slot));
    match tokio::time::timeout(patience, proxy_header::read(&mut stream)).await {
        Ok(Ok(header)) => {
            tracing::debug!(%gateway, host = header.host, connection = header.connection, "introduced");
            let arrival = Arrival::tunnel(header, slot);
            let entered = entered.and_then(|room| server.handshakes.assign(room, arrival.source()));
            serve(server, stream, arrival, entered).await;
        }
        Ok(Err(error)) => refuse(Refusal::ProxyHeader(error)),
        Err(_) => refuse(Refusal::Deadline),
    }
}

async fn serve<S: Io>(server: &Server, stream: S, arrival: Arrival, entered: Result<Room, NoRoom>) {
    match entered {
        Ok(room) => connection(server, stream, arrival, room).await,
        Err(NoRoom { crowd, place }) => {
            let refusal = Refusal::crowded(crowd);
            report_refusal(&refusal, &arrival);
            if let Some(_place) = place {
                server.turn_away(stream, &arrival, &refusal).await;
            }
        }
    }
}

/// Serves a connection and reports how it ended. Its `room` is given back when it becomes a session.
pub async fn connection<S: Io>(server: &Server, stream: S, arrival: Arrival, room: Room) {
    metrics::counter!("postern_sidecar_connections_total", "way" => arrival.way).increment(1);
    let connection = arrival.connection.as_deref().unwrap_or_default();
    let client = arrival.client.map(tracing::field::display);
    tracing::debug!(client, way = arrival.way, connection, "connection");
    match server.connection(stream, &arrival, room).await {
        Ok(Ended::Cancel) => {}
        Ok(Ended::Session { role, end: Err(Severed { cause, told }) }) => {
            meter::cut(cause.label(), told);
            tracing::warn!(role, client, connection, told, "session cut: {cause}");
        }
        Ok(Ended::Session { role, end: Ok(end) }) => {
            let error = end.error.map(|error| error.to_string());
            let (to_postgres, to_client) = (end.to_upstream, end.to_client);
            tracing::info!(role, client, connection, to_postgres, to_client, error, "session ended");
        }
        Err(refusal) => report_refusal(&refusal, &arrival),
    }
}

fn report_refusal(refusal: &Refusal, arrival: &Arrival) {
    let (reason, way) = (refusal.label(), arrival.way);
    let client = arrival.client.map(tracing::field::display);
    metrics::counter!("postern_sidecar_refusals_total", "reason" => reason, "way" => way).increment(1);
    if matches!(refusal, Refusal::Request(RequestError::Read(ReadError::Closed))) {
        // Health checks connect and go.
        tracing::debug!(reason, way, client, detail = %refusal, "connection closed");
    } else if let Some(left_out) = REFUSALS.turn(reason, Instant::now()) {
        tracing::info!(reason, way, client, left_out, detail = %refusal, "connection refused");
    } else {
        tracing::trace!(reason, way, client, detail = %refusal, "connection refused, one of many");
    }
}

/// Tells of the refusals that were left out of the log, for ever, each time that no more of their kind come.
pub async fn tell_left_out() -> Infallible {
    loop {
        for (reason, left_out) in REFUSALS.left_out(Instant::now()) {
            tracing::info!(reason, left_out, "more connections were refused");
        }
        tokio::time::sleep(LOOK).await;
    }
}
