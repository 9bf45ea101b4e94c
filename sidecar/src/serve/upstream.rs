//! The other end of a session, which says when it has closed, in whose place something can be said at the end, and which may be
//! kept when the client takes its leave.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use postern_pgwire::boundary::Boundary;
use postern_pgwire::error_response::ErrorResponse;
use postern_pgwire::tracker::{Reported, Tracker};
use postern_plumbing::relay::{Progress, RelayEnd, relay};
use postern_plumbing::seldom::Seldom;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::packets;

/// How long a client may keep its side open after the other end has closed. It cannot be answered any more, and idle clients of
/// a pool may not look for hours; until then they would take the place of others.
const AFTER_THE_END: Duration = Duration::from_secs(2);
/// How long a session may last once it is cut, for its client to hear why.
const PARTING: Duration = Duration::from_millis(500);
/// How much of a message that has begun is still passed on by then. Inside a longer one nothing can be said.
const REST: usize = 64 << 10;

/// A stream of messages whose end is noticed.
#[derive(Debug)]
pub struct Upstream<S> {
    /// `None` once it is cut.
    stream: Option<S>,
    /// What the client has heard.
    heard: Boundary,
    /// Follows the session where the stream may be used again.
    tracker: Option<Box<Tracker>>,
    /// The client has said its farewell, which the stream was not told: for the session, it has ended.
    left: bool,
    shared: Arc<Shared>,
    /// How much of the last words has been read.
    said: usize,
}

#[derive(Debug, Default)]
struct Shared {
    ended: Notify,
    last_words: OnceLock<Bytes>,
    told: AtomicBool,
}

/// A session that was cut.
#[derive(Debug)]
pub struct Severed<T> {
    /// Why.
    pub cause: T,
    /// Whether the client was told.
    pub told: bool,
}

/// Moves bytes both ways until both sides have closed, `upstream` has been gone for a moment, or `cut` gives a cause to go no
/// further. The client then reads `words` where the next message would begin; whatever it sends from there on reaches nobody.
///
/// # Errors
/// The cause.
pub async fn carry<A, B, T>(
    client: &mut A,
    upstream: &mut Upstream<B>,
    progress: &Progress,
    cut: impl Future<Output = T>,
    words: impl FnOnce(&T) -> ErrorResponse,
) -> Result<RelayEnd, Severed<T>>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let shared = Arc::clone(&upstream.shared);
    let cause = {
        let mut relaying = pin!(relay(client, upstream, progress));
        let ending = Seldom::new(async {
            tokio::select! {
                () = over(&shared) => None,
                cause = cut => Some(cause),
            }
        });
        let cause = tokio::select! {
            end = &mut relaying => return Ok(end),
            cause = ending => cause,
        };
        let Some(cause) = cause else {
            let (to_upstream, to_client) = (progress.to_upstream(), progress.to_client());
            return Ok(RelayEnd { to_upstream, to_client, error: None });
        };
        // From here on the relay finds them in the stream's place.
        shared.last_words.get_or_init(|| words(&cause).encode());
        if let Ok(RelayEnd { error: Some(error), .. }) = timeout(PARTING, relaying).await {
            tracing::trace!(%error, "a session was cut, and broke");
        }
        cause
    };
    let told = shared.told.load(Ordering::Relaxed);
    if !told {
        // TLS' own farewell at least.
        packets::close(client).await;
    }
    Err(Severed { cause, told })
}

/// Waits until the stream has ended and its reader has had time to draw the consequences.
async fn over(shared: &Shared) {
    shared.ended.notified().await;
    sleep(AFTER_THE_END).await;
}

impl<S> Upstream<S> {
    /// A stream of which the client has `heard` so much.
    pub fn new(stream: S, heard: Boundary) -> Self {
        Self { stream: Some(stream), heard, tracker: None, left: false, shared: Arc::default(), said: 0 }
    }

    /// A stream that outlives the session if the client takes its leave while the session rests. The first ReadyForQuery has been
    /// read from it, and `reported` is what Postgres had said by then.
    pub fn reusable(stream: S, reported: Reported) -> Self {
        Self { tracker: Some(Box::new(Tracker::new(reported))), ..Self::new(stream, Boundary::default()) }
    }

    /// Takes note of bytes that were read from the stream before it came here.
    pub fn received(&mut self, bytes: &[u8]) {
        self.heard.follow(bytes);
        if let Some(tracker) = &mut self.tracker {
            tracker.received(bytes);
        }
    }

    /// The stream, and what Postgres has reported, if the client left it at rest.
    pub fn into_rested(self) -> Option<(S, Reported)> {
        let tracker = self.tracker.filter(|tracker| self.left && tracker.is_at_rest())?;
        Some((self.stream?, tracker.into_reported()))
    }

    fn is_cut(&self) -> bool {
        self.shared.last_words.get().is_some()
    }
}

impl<S: AsyncRead + Unpin> Upstream<S> {
    fn poll_stream(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        if let Some(stream) = &mut self.stream
            && !self.left
        {
            ready!(Pin::new(stream).poll_read(cx, into))?;
        }
        let heard = into.filled().get(before..).unwrap_or_default();
        if heard.is_empty() {
            self.shared.ended.notify_one();
        }
        self.received(heard);
        Poll::Ready(Ok(()))
    }

    /// The rest of the message that has begun, then the last words, then the end.
    fn poll_parting(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match (self.heard.owed(), &mut self.stream) {
            (Some(0), _) => {
                self.stream = None;
                let words = self.shared.last_words.get().and_then(|words| words.get(self.said..)).unwrap_or_default();
                let (now, _) = words.split_at_checked(into.remaining()).unwrap_or((words, &[]));
                into.put_slice(now);
                self.said += now.len();
                if now.is_empty() {
                    // Who asks for more has given all of them to the client.
                    self.shared.told.store(true, Ordering::Relaxed);
                }
            }
            (Some(owed), Some(stream)) if owed <= REST => {
                let room = owed.min(into.remaining());
                let mut rest = ReadBuf::new(into.initialize_unfilled_to(room));
                ready!(Pin::new(stream).poll_read(cx, &mut rest))?;
                let read = rest.filled().len();
                self.heard.follow(rest.filled());
                into.advance(read);
            }
            _ => self.stream = None,
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Upstream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut() { self.poll_parting(cx, into) } else { self.poll_stream(cx, into) }
    }
}

impl<S: AsyncWrite + Unpin> Upstream<S> {
    /// Writes to a stream that may outlive the session, but for a Terminate at rest.
    fn poll_write_followed(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream: Some(stream), tracker: Some(tracker), left, .. } = self else {
            return Poll::Ready(Ok(bytes.len()));
        };
        let farewell = tracker.farewell(bytes);
        *left |= farewell == Some(0) && tracker.is_at_rest();
        if *left {
            return Poll::Ready(Ok(bytes.len()));
        }
        // A Terminate is written by itself, when it is known whether all before it was taken.
        let first = bytes.get(..farewell.filter(|at| *at > 0).unwrap_or(bytes.len())).unwrap_or(bytes);
        let written = ready!(Pin::new(stream).poll_write(cx, first))?;
        tracker.sent(first.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }
}

/// What is sent to a stream that is cut is forgotten. It is taken all the same: a connection that closes with unread bytes is
/// reset, and the reset may overtake the last words.
impl<S: AsyncWrite + Unpin> AsyncWrite for Upstream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Ok(bytes.len()));
        }
        match &mut *self {
            Self { stream: Some(stream), tracker: None, .. } => Pin::new(stream).poll_write(cx, bytes),
            followed => followed.poll_write_followed(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let cut = self.is_cut();
        match &mut self.stream {
            Some(stream) if !cut => Pin::new(stream).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let over = self.left || self.is_cut();
        match &mut self.stream {
            Some(stream) if !over => Pin::new(stream).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
