//! One direction of a relay: reads from a source, writes to a destination, forwards the end.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::last;
use super::pipes::{Pipe, Pipes};
use super::receive::poll_receive;

/// How much is read at once.
const CHUNK: usize = 16 * 1024;

/// After this many chunks in one turn, other tasks get theirs.
const CHUNKS_PER_TURN: usize = 32;

/// What a direction moves before it uses a pipe. Most sessions end before, and a pipe would only cost them time.
const FIRST: u64 = 64 * 1024;

/// What a turn has to have moved for the next bytes to go through a pipe: those who talk in small messages are better served
/// by reading and writing, however long they talk.
const BULK: usize = CHUNK;

/// The state of one direction.
pub(super) struct Flow<'a> {
    /// What was read and not yet taken by the destination; empty, and without memory, unless the destination is slow.
    held: Vec<u8>,
    /// How much of `held` the destination has taken.
    taken: usize,
    /// There while bytes move from socket to socket; then `held` is empty.
    pipe: Option<Pipe>,
    /// Whether the destination may hold bytes back until it is flushed.
    unflushed: bool,
    /// Whether its socket does, until the end follows.
    withheld: bool,
    phase: Phase,
    moved: u64,
    /// What this turn has moved, and what the last turn did that moved anything.
    turn: usize,
    last_turn: usize,
    progress: &'a AtomicU64,
}

/// The two ends of a direction, and the sockets that they may be.
pub(super) struct Way<'a, R, W> {
    pub(super) from: Pin<&'a mut R>,
    pub(super) to: Pin<&'a mut W>,
    pub(super) from_socket: fn(&R) -> Option<&TcpStream>,
    pub(super) to_socket: fn(&W) -> Option<&TcpStream>,
    pub(super) pipes: Option<&'a Pipes>,
}

impl<R, W> Way<'_, R, W> {
    fn source(&self) -> Option<&TcpStream> {
        (self.from_socket)(&self.from)
    }

    fn destination(&self) -> Option<&TcpStream> {
        (self.to_socket)(&self.to)
    }
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
        Self {
            held: Vec::new(),
            taken: 0,
            pipe: None,
            unflushed: false,
            withheld: false,
            phase: Phase::Open,
            moved: 0,
            turn: 0,
            last_turn: 0,
            progress,
        }
    }

    /// How many bytes the destination has taken.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves what can be moved now. Ready when the source has ended and the destination knows; ready again if asked again.
    pub(super) fn poll<R, W>(&mut self, cx: &mut Context<'_>, mut way: Way<'_, R, W>) -> Poll<Result<(), Stopped>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        if self.phase == Phase::Open {
            ready!(self.poll_move(cx, &mut way))?;
            self.phase = Phase::Closing;
        }
        if self.phase == Phase::Closing {
            ready!(way.to.poll_shutdown(cx)).map_err(Stopped::Writing)?;
            self.phase = Phase::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the source has ended and the destination has taken everything.
    fn poll_move<R, W>(&mut self, cx: &mut Context<'_>, way: &mut Way<'_, R, W>) -> Poll<Result<(), Stopped>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        if self.turn > 0 {
            (self.last_turn, self.turn) = (self.turn, 0);
        }
        for _ in 0..CHUNKS_PER_TURN {
            ready!(self.poll_held(cx, way)).map_err(Stopped::Writing)?;
            if ready!(self.poll_fill(cx, way)).map_err(Stopped::Reading)? {
                continue;
            }
            let mut space = [MaybeUninit::uninit(); CHUNK];
            if let Some(socket) = way.source() {
                match poll_receive(cx, socket, &mut space).map_err(Stopped::Reading)? {
                    Poll::Pending => return self.poll_pause(cx, way),
                    Poll::Ready([]) => return Poll::Ready(Ok(())),
                    Poll::Ready(chunk) => {
                        // It was emptied, and is ready all the same: the end is behind these bytes.
                        let is_last = chunk.len() < CHUNK && socket.poll_read_ready(cx).is_ready();
                        self.give(cx, way, chunk, is_last).map_err(Stopped::Writing)?;
                        continue;
                    }
                }
            }
            let mut chunk = ReadBuf::uninit(&mut space);
            if way.from.as_mut().poll_read(cx, &mut chunk).map_err(Stopped::Reading)?.is_pending() {
                return self.poll_pause(cx, way);
            }
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.give(cx, way, chunk.filled(), false).map_err(Stopped::Writing)?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Nothing comes for now: what the destination may hold back is sent on.
    fn poll_pause<R, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        way: &mut Way<'_, R, W>,
    ) -> Poll<Result<(), Stopped>> {
        self.push(way).map_err(Stopped::Writing)?;
        if self.unflushed {
            ready!(way.to.as_mut().poll_flush(cx)).map_err(Stopped::Writing)?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    /// Has the destination's socket send what it withholds.
    fn push<R, W>(&mut self, way: &Way<'_, R, W>) -> io::Result<()> {
        match way.destination() {
            Some(socket) if std::mem::take(&mut self.withheld) => last::push(socket),
            Some(_) | None => Ok(()),
        }
    }

    /// Ready when the destination has, and was told to send on, everything that was read.
    pub(super) fn poll_deliver<R, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut way: Way<'_, R, W>,
    ) -> Poll<Result<(), Stopped>> {
        ready!(self.poll_held(cx, &mut way)).map_err(Stopped::Writing)?;
        self.push(&way).map_err(Stopped::Writing)?;
        way.to.poll_flush(cx).map_err(Stopped::Writing)
    }

    /// Fills a pipe from the source's socket. Ready with `false` when the source has to be read instead: because nothing
    /// speaks for a pipe or there is none, or because the source has ended, which it has to say itself.
    fn poll_fill<R, W>(&mut self, cx: &mut Context<'_>, way: &Way<'_, R, W>) -> Poll<io::Result<bool>> {
        let (Some(source), Some(_), Some(pipes)) = (way.source(), way.destination(), way.pipes) else {
            return Poll::Ready(Ok(false));
        };
        if self.moved < FIRST || self.turn.max(self.last_turn) < BULK {
            self.pipe = None;
            return Poll::Ready(Ok(false));
        }
        loop {
            if source.poll_read_ready(cx)?.is_pending() {
                // Empty, since the destination has taken everything: somebody else may need it.
                self.pipe = None;
                return Poll::Pending;
            }
            let Some(pipe) = self.pipe.take().or_else(|| pipes.take()) else { return Poll::Ready(Ok(false)) };
            let pipe = self.pipe.insert(pipe);
            match source.try_io(Interest::READABLE, || pipe.fill(source)) {
                Ok(0) => {
                    self.pipe = None;
                    return Poll::Ready(Ok(false));
                }
                Ok(_) => return Poll::Ready(Ok(true)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Gives the destination what it takes of a chunk without waiting, and holds the rest.
    fn give<R, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        way: &mut Way<'_, R, W>,
        chunk: &[u8],
        is_last: bool,
    ) -> io::Result<()> {
        let given = match way.destination() {
            Some(socket) if is_last => {
                self.withheld = true;
                last::poll_send(cx, socket, chunk)
            }
            Some(_) | None => way.to.as_mut().poll_write(cx, chunk),
        };
        let taken = match given {
            Poll::Ready(taken) => self.count(taken?)?,
            Poll::Pending => 0,
        };
        self.held.extend_from_slice(chunk.get(taken..).unwrap_or_default());
        Ok(())
    }

    /// Ready when nothing is held any more.
    fn poll_held<R, W: AsyncWrite>(&mut self, cx: &mut Context<'_>, way: &mut Way<'_, R, W>) -> Poll<io::Result<()>> {
        if let Some(socket) = way.destination() {
            ready!(self.poll_drain(cx, socket))?;
        }
        while let Some(rest) = self.held.get(self.taken..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(way.to.as_mut().poll_write(cx, rest))?;
            self.taken += self.count(taken)?;
        }
        // A new vector, not a cleared one: the memory goes back.
        self.held = Vec::new();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }

    /// Ready when the pipe, if there is one, is empty.
    fn poll_drain(&mut self, cx: &mut Context<'_>, socket: &TcpStream) -> Poll<io::Result<()>> {
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| !pipe.is_empty()) {
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_io(Interest::WRITABLE, || pipe.drain(socket)) {
                Ok(taken) => self.count(taken).map(drop)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn count(&mut self, taken: usize) -> io::Result<usize> {
        if taken == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.turn += taken;
        self.moved += taken as u64;
        self.progress.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(taken)
    }
}
