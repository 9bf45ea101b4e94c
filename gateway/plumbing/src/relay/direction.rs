//! One direction of a relay: reads from a source, writes to a destination, forwards the end.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// After this many chunks in one turn, other tasks get theirs.
const CHUNKS_PER_TURN: usize = 32;

/// The state of one direction.
pub(super) struct Flow<'a> {
    /// What was read and not yet taken by the destination; empty, and without memory, unless the destination is slow.
    held: Vec<u8>,
    /// How much of `held` the destination has taken.
    taken: usize,
    /// Whether the destination may hold bytes back until it is flushed.
    unflushed: bool,
    phase: Phase,
    moved: u64,
    progress: &'a AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The source has ended; the destination is being told.
    Closing,
    Done,
}

/// Which end of a direction broke.
pub(super) enum Stopped {
    Reading(io::Error),
    Writing(io::Error),
}

impl<'a> Flow<'a> {
    pub(super) fn new(progress: &'a AtomicU64) -> Self {
        Self { held: Vec::new(), taken: 0, unflushed: false, phase: Phase::Open, moved: 0, progress }
    }

    /// How many bytes the destination has taken.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves what can be moved now. Ready when the source has ended and the destination knows; ready again if asked again.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> Poll<Result<(), Stopped>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        if self.phase == Phase::Open {
            ready!(self.poll_move(cx, from.as_mut(), to.as_mut()))?;
            self.phase = Phase::Closing;
        }
        if self.phase == Phase::Closing {
            ready!(to.poll_shutdown(cx)).map_err(Stopped::Writing)?;
            self.phase = Phase::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the source has ended and the destination has taken everything.
    fn poll_move<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> Poll<Result<(), Stopped>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        for _ in 0..CHUNKS_PER_TURN {
            ready!(self.poll_held(cx, to.as_mut())).map_err(Stopped::Writing)?;
            let mut space = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut space);
            if from.as_mut().poll_read(cx, &mut chunk).map_err(Stopped::Reading)?.is_pending() {
                if self.unflushed {
                    ready!(to.as_mut().poll_flush(cx)).map_err(Stopped::Writing)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.give(cx, to.as_mut(), chunk.filled()).map_err(Stopped::Writing)?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when the destination has, and was told to send on, everything that was read.
    pub(super) fn poll_deliver<W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut to: Pin<&mut W>,
    ) -> Poll<Result<(), Stopped>> {
        ready!(self.poll_held(cx, to.as_mut())).map_err(Stopped::Writing)?;
        to.poll_flush(cx).map_err(Stopped::Writing)
    }

    /// Gives the destination what it takes of a chunk without waiting, and holds the rest.
    fn give<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, to: Pin<&mut W>, chunk: &[u8]) -> io::Result<()> {
        let taken = match to.poll_write(cx, chunk) {
            Poll::Ready(taken) => self.count(taken?)?,
            Poll::Pending => 0,
        };
        self.held.extend_from_slice(chunk.get(taken..).unwrap_or_default());
        Ok(())
    }

    /// Ready when nothing is held any more.
    fn poll_held<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, mut to: Pin<&mut W>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.taken..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(to.as_mut().poll_write(cx, rest))?;
            self.taken += self.count(taken)?;
        }
        // A new vector, not a cleared one: the memory goes back.
        self.held = Vec::new();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    fn count(&mut self, taken: usize) -> io::Result<usize> {
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.moved += taken as u64;
        self.progress.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(taken)
    }
}
