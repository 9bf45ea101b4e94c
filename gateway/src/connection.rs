//! One client connection, from its first byte to its last.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use postern_gateway_core::hello::ClientHello;
use postern_gateway_core::opening::{Opening, Step};
use postern_gateway_core::refusal::{Refusal, Speaking};
use postern_pgwire::cancel::CancelKey;
use postern_plumbing::relay::relay_sockets;
use postern_plumbing::sparing::Sparing;
use postern_wireguard::TunnelStream;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cancel;
use crate::dial;
use crate::edge::Edge;
use crate::metrics;
use crate::openings;
use crate::proxy_header::{ConnectionId, ProxyHeader};
use crate::sessions::Session;

/// How long a refused client has to take its refusal, and how much more it may send meanwhile.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: usize = 256 * 1024;
/// How much is read of a client at a time until its opening is complete.
const READ: usize = 4 * 1024;

/// Refusals in the log, by reason: anybody can cause them, as fast as connections can be made.
static REFUSALS: Sparing<&'static str> = Sparing::new(10, Duration::from_secs(10));

/// A client connection.
#[derive(Debug)]
pub struct Connection {
    /// Its name in the logs.
    pub id: ConnectionId,
    /// Where it comes from.
    pub client: SocketAddr,
    /// Where it arrived.
    pub gateway: SocketAddr,
    /// The socket.
    pub stream: TcpStream,
    /// Its place among those that are not opened yet, as long as it is one.
    pub opening: Option<openings::Place>,
}

/// How an opening ended well.
enum Opened {
    Hello(ClientHello),
    Cancel(CancelKey),
}

/// A session that can be relayed, and what is left of its connection.
struct Begun {
    id: ConnectionId,
    client: TcpStream,
    session: Session,
    upstream: TunnelStream,
}

/// Serves a connection until it ends. Until then `held` is kept.
///
/// There may be thousands of sessions, and they may last for days: what serves one is small, and what its beginning took has
/// been given back by then.
pub fn serve<H: Send>(edge: Arc<Edge>, connection: Connection, held: H) -> impl Future<Output = ()> + Send + use<H> {
    let opening = Box::pin(opened(Arc::clone(&edge), connection));
    // A block in a plain function: an asynchronous function would hold its arguments twice.
    async move {
        let (_held, _open) = (&held, metrics::connection());
        let Some(begun) = opening.await else { return };
        carry(&edge, begun).await;
    }
}

/// Opens a connection, as far as a session. Of a cancel request, and of a client that is refused, nothing is left.
async fn opened(edge: Arc<Edge>, mut connection: Connection) -> Option<Box<Begun>> {
    match begin(&edge, &mut connection).await {
        Ok(Some((session, upstream))) => {
            let Connection { id, stream: client, .. } = connection;
            Some(Box::new(Begun { id, client, session, upstream }))
        }
        Ok(None) => None,
        Err((refusal, speaking)) => {
            Box::pin(refuse(connection, refusal, speaking)).await;
            None
        }
    }
}

/// Everything up to the first byte that is relayed. A cancel request ends before.
async fn begin(
    edge: &Edge,
    connection: &mut Connection,
) -> Result<Option<(Session, TunnelStream)>, (Refusal, Speaking)> {
    let mut opening = edge.opening(connection.client.ip());
    let opened = match timeout(edge.limits.opening, open(edge, connection, &mut opening)).await {
        Ok(opened) => opened,
        Err(_) => Err(Refusal::Timeout),
    };
    connection.opening = None;
    let speaking = opening.speaking();
    let begun = match opened {
        // In boxes: those who are slow to open, or never do, need none of it.
        Ok(Opened::Hello(hello)) => Box::pin(session(edge, connection, opening, &hello)).await.map(Some),
        Ok(Opened::Cancel(key)) => Box::pin(cancel::forward(edge, connection, &key)).await.map(|()| None),
        Err(refusal) => Err(refusal),
    };
    begun.map_err(|refusal| (refusal, speaking))
}

/// Tells a client that there is no place for it, in its own language.
pub async fn turn_away(mut connection: Connection, refusal: Refusal) {
    let _open = metrics::connection();
    let mut first = [0];
    let speaking = match timeout(FAREWELL, connection.stream.read(&mut first)).await {
        Ok(Ok(1)) if first == [postern_gateway_core::hello::FIRST_BYTE] => Speaking::Tls,
        Ok(Ok(1)) => Speaking::Postgres,
        Ok(_) | Err(_) => Speaking::Nothing,
    };
    refuse(connection, refusal, speaking).await;
}

/// Tells of the refusals that were left out of the log, once nothing more of their kind comes.
pub fn tell_left_out(now: Instant) {
    for (reason, left_out) in REFUSALS.left_out(now) {
        tracing::info!(reason, left_out, "more connections were refused");
    }
}

async fn open(edge: &Edge, connection: &mut Connection, opening: &mut Opening) -> Result<Opened, Refusal> {
    loop {
        let mut step = receive(&mut connection.stream, opening).await?;
        if let Step::Introduced(ends) = step {
            if let Some(ends) = ends {
                (connection.client, connection.gateway) = (ends.client, ends.server);
                connection.opening = edge.openings.enter(ends.client.ip());
                if connection.opening.is_none() {
                    return Err(Refusal::NetworkFull);
                }
            }
            step = opening.feed(&[]);
        }
        match step {
            Step::NeedMore | Step::Introduced(_) => {}
            Step::Reply(byte) => connection.stream.write_all(&[byte]).await.map_err(|_| Refusal::ClientGone)?,
            Step::Hello(hello) => return Ok(Opened::Hello(hello)),
            Step::Cancel(key) => return Ok(Opened::Cancel(key)),
            Step::Refuse(refusal) => return Err(refusal),
        }
    }
}

/// Waits for the client's next bytes. Who keeps silent holds no buffer.
async fn receive(stream: &mut TcpStream, opening: &mut Opening) -> Result<Step, Refusal> {
    let received = poll_fn(|cx| -> Poll<io::Result<Option<Step>>> {
        let mut space = [MaybeUninit::uninit(); READ];
        let mut chunk = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut chunk))?;
        let step = (!chunk.filled().is_empty()).then(|| opening.feed(chunk.filled()));
        Poll::Ready(Ok(step))
    });
    received.await.ok().flatten().ok_or(Refusal::ClientGone)
}

async fn session(
    edge: &Edge,
    connection: &Connection,
    opening: Opening,
    hello: &ClientHello,
) -> Result<(Session, TunnelStream), Refusal> {
    let route = edge.domain.parse(&hello.server_name).map_err(|error| {
        tracing::debug!(connection = %connection.id, %error, "no route");
        Refusal::NoRoute
    })?;
    let dialled = dial::dial(edge, connection.id, &route).await?;
    let (session, mut upstream) = (dialled.session, dialled.stream);
    let header = ProxyHeader {
        id: connection.id,
        client: connection.client,
        gateway: connection.gateway,
        authority: Some(hello.server_name.as_str()),
        negotiated: opening.negotiated(),
    };
    let header = dialled.proxy_header.then_some(&header);
    let introduced = timeout(edge.limits.connect, introduce(&mut upstream, header, opening));
    // A client whose instance was revoked at this moment is told so, rather than cut off without a word.
    let opened = session.uncut(introduced).await?;
    if !matches!(opened, Ok(Ok(()))) {
        return Err(Refusal::Unreachable);
    }
    Ok((session, upstream))
}

/// Sends the header, then what the client has sent so far: in one write, as two would be two packets.
async fn introduce(upstream: &mut TunnelStream, header: Option<&ProxyHeader<'_>>, opening: Opening) -> io::Result<()> {
    let received = opening.into_received();
    let first = match header {
        Some(header) => {
            let mut first = header.encode(received.len())?;
            first.extend_from_slice(&received);
            first
        }
        None => received,
    };
    upstream.write_all(&first).await?;
    upstream.flush().await
}

async fn carry(edge: &Edge, mut begun: Box<Begun>) {
    let Begun { id, client, session, upstream } = &mut *begun;
    let _open = metrics::session();
    let relayed = tokio::select! {
        biased;
        () = session.cut() => None,
        end = relay_sockets(client, upstream, session.progress(), &edge.pipes) => Some(end),
    };
    let progress = session.progress();
    let (to_upstream, to_client) = (progress.to_upstream(), progress.to_client());
    match relayed {
        None => tracing::debug!(connection = %id, to_upstream, to_client, "session cut"),
        Some(end) => {
            let error = end.error.map(|error| error.to_string());
            tracing::debug!(connection = %id, to_upstream, to_client, error, "session ended");
        }
    }
}

/// Tells the client, counts, and closes so that the client can read what it was told.
async fn refuse(mut connection: Connection, refusal: Refusal, speaking: Speaking) {
    metrics::refused(refusal);
    let (client, reason) = (connection.client, refusal.label());
    if refusal == Refusal::ClientGone {
        // Health checks connect and go.
        tracing::debug!(connection = %connection.id, %client, reason, "{}", refusal.public());
    } else {
        // Who it was is nobody's business in an ordinary log.
        if let Some(left_out) = REFUSALS.turn(reason, Instant::now()) {
            tracing::info!(connection = %connection.id, reason, left_out, "connection refused: {}", refusal.public());
        }
        tracing::debug!(connection = %connection.id, %client, "the refused client");
    }
    let wire = refusal.wire(speaking);
    let farewell = farewell(&mut connection.stream, &wire);
    // Whoever does not read its refusal loses it.
    if timeout(FAREWELL, farewell).await.is_err() {
        tracing::trace!(connection = %connection.id, "the client did not take its refusal in time");
    }
}

/// Closing a socket that holds unread bytes resets the connection, and the reset may overtake the refusal. So the rest is
/// read and thrown away.
async fn farewell(stream: &mut TcpStream, wire: &[u8]) -> io::Result<()> {
    stream.write_all(wire).await?;
    stream.shutdown().await?;
    let mut buffer = vec![0; READ];
    let mut left = FAREWELL_BYTES;
    while left > 0 {
        match stream.read(&mut buffer).await? {
            0 => break,
            count => left = left.saturating_sub(count),
        }
    }
    Ok(())
}
