//! Moves bytes both ways between two streams until both halves have closed.
//!
//! The directions are independent: when one side says that it will send no more, the other side is told so, and may go on
//! sending. A direction owns memory only while its destination is slower than its source; an idle relay owns none.
//!
//! Between two sockets of the kernel, bulk goes through pipes and is never copied here (splice(2)).

mod direction;
mod last;
mod pipes;
mod receive;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use self::direction::{Flow, Stopped, Way};
pub use self::pipes::Pipes;

/// How long a relay may go on after one side broke, to deliver what the other side still has to hear: a Postgres that gives
/// up says why before it closes, and the client should read it even when its own next bytes could not be delivered any
/// more, or when the connection was reset right behind the words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How much a relay has moved so far, readable by others while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    to_upstream: AtomicU64,
    to_client: AtomicU64,
}

impl Progress {
    /// Bytes that the upstream has taken.
    #[must_use]
    pub fn to_upstream(&self) -> u64 {
        self.to_upstream.load(Ordering::Relaxed)
    }

    /// Bytes that the client has taken.
    #[must_use]
    pub fn to_client(&self) -> u64 {
        self.to_client.load(Ordering::Relaxed)
    }
}

/// How a relay ended, and what it moved.
#[derive(Debug)]
pub struct RelayEnd {
    /// Bytes that the upstream took from this relay.
    pub to_upstream: u64,
    /// Bytes that the client took from this relay.
    pub to_client: u64,
    /// What broke; `None` when both sides closed in order.
    pub error: Option<RelayError>,
}

/// One side of a relay broke.
#[derive(Debug, thiserror::Error)]
#[error("{} {}: {source}", direction.doing(), side.name())]
pub struct RelayError {
    /// The side that broke.
    pub side: Side,
    /// What was being done with it.
    pub direction: Direction,
    /// What it said.
    pub source: io::Error,
}

/// One of the two streams of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one who connected.
    Client,
    /// The one who serves.
    Upstream,
}

impl Side {
    /// The name of the side, for logs and metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

/// What was being done with a side when it broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Bytes were awaited from it.
    Read,
    /// Bytes were being given to it.
    Write,
}

impl Direction {
    /// The name of the direction, for metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Read => "reading from the",
            Self::Write => "writing to the",
        }
    }
}

/// A stream that may be nothing but a socket of the kernel.
pub trait MaybeSocket {
    /// The socket, if the stream's bytes are the socket's: then they may be taken from and given to either.
    fn socket(&self) -> Option<&TcpStream>;
}

impl MaybeSocket for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// Relays between `client` and `upstream` until both have closed, or one of them breaks. The caller drops both streams
/// after that; a relay that is dropped early has moved what `progress` says.
pub fn relay<'a, A, B>(
    client: &'a mut A,
    upstream: &'a mut B,
    progress: &'a Progress,
) -> impl Future<Output = RelayEnd> + use<'a, A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    Both::new(client, upstream, progress, Kernel { client: |_| None, upstream: |_| None, pipes: None }).relay()
}

/// The same, where both may be sockets: then bulk goes from one to the other through one of `pipes`, while there are any.
pub fn relay_sockets<'a, A, B>(
    client: &'a mut A,
    upstream: &'a mut B,
    progress: &'a Progress,
    pipes: &'a Pipes,
) -> impl Future<Output = RelayEnd> + use<'a, A, B>
where
    A: AsyncRead + AsyncWrite + MaybeSocket + Unpin,
    B: AsyncRead + AsyncWrite + MaybeSocket + Unpin,
{
    Both::new(client, upstream, progress, Kernel { client: A::socket, upstream: B::socket, pipes: Some(pipes) }).relay()
}

struct Both<'a, A, B> {
    client: &'a mut A,
    upstream: &'a mut B,
    /// From the client to the upstream.
    up: Flow<'a>,
    /// From the upstream to the client.
    down: Flow<'a>,
    kernel: Kernel<'a, A, B>,
}

/// What the kernel can do without us.
struct Kernel<'a, A, B> {
    client: fn(&A) -> Option<&TcpStream>,
    upstream: fn(&B) -> Option<&TcpStream>,
    pipes: Option<&'a Pipes>,
}

impl<'a, A, B> Both<'a, A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    fn new(client: &'a mut A, upstream: &'a mut B, progress: &'a Progress, kernel: Kernel<'a, A, B>) -> Self {
        let (up, down) = (Flow::new(&progress.to_upstream), Flow::new(&progress.to_client));
        Self { client, upstream, up, down, kernel }
    }

    /// A block in a plain function: an asynchronous function would hold `self` twice, as its argument and as its variable.
    fn relay(self) -> impl Future<Output = RelayEnd> + use<'a, A, B> {
        let mut both = self;
        async move {
            let error = both.run().await.err();
            RelayEnd { to_upstream: both.up.moved(), to_client: both.down.moved(), error }
        }
    }

    async fn run(&mut self) -> Result<(), RelayError> {
        let error = match poll_fn(|cx| self.poll(cx)).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Who cannot be written to may still have something to say. Who cannot be read has said its last.
        let rest = poll_fn(|cx| match (error.direction, error.side) {
            (Direction::Write, Side::Client) => self.poll_up(cx),
            (Direction::Write, Side::Upstream) => self.poll_down(cx),
            (Direction::Read, Side::Client) => self.poll_delivery_up(cx),
            (Direction::Read, Side::Upstream) => self.poll_delivery_down(cx),
        });
        // In a box: few relays need it, and a timer is as large as all the rest of one.
        if let Ok(Err(later)) = Box::pin(tokio::time::timeout(LAST_WORDS, rest)).await {
            tracing::trace!(%later, "the other direction broke as well");
        }
        Err(error)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        let up = self.poll_up(cx)?;
        let down = self.poll_down(cx)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        let (flow, way) = self.up();
        flow.poll(cx, way).map_err(|stopped| stopped.between(Side::Client, Side::Upstream))
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        let (flow, way) = self.down();
        flow.poll(cx, way).map_err(|stopped| stopped.between(Side::Upstream, Side::Client))
    }

    fn poll_delivery_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        let (flow, way) = self.up();
        flow.poll_deliver(cx, way).map_err(|stopped| stopped.between(Side::Client, Side::Upstream))
    }

    fn poll_delivery_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        let (flow, way) = self.down();
        flow.poll_deliver(cx, way).map_err(|stopped| stopped.between(Side::Upstream, Side::Client))
    }

    fn up(&mut self) -> (&mut Flow<'a>, Way<'_, A, B>) {
        let Kernel { client, upstream, pipes } = self.kernel;
        let (from, to) = (Pin::new(&mut *self.client), Pin::new(&mut *self.upstream));
        (&mut self.up, Way { from, to, from_socket: client, to_socket: upstream, pipes })
    }

    fn down(&mut self) -> (&mut Flow<'a>, Way<'_, B, A>) {
        let Kernel { client, upstream, pipes } = self.kernel;
        let (from, to) = (Pin::new(&mut *self.upstream), Pin::new(&mut *self.client));
        (&mut self.down, Way { from, to, from_socket: upstream, to_socket: client, pipes })
    }
}

impl Stopped {
    fn between(self, from: Side, to: Side) -> RelayError {
        match self {
            Self::Reading(source) => RelayError { side: from, direction: Direction::Read, source },
            Self::Writing(source) => RelayError { side: to, direction: Direction::Write, source },
        }
    }
}

#[cfg(test)]
mod tests;
