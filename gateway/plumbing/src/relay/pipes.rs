//! Pipes through which the kernel moves bytes from one socket to another, so that no byte is copied here.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::net::TcpStream;

/// How much is asked for at once: what a pipe may hold, and not so much that the far end runs dry while it goes the other way.
const MOST_AT_ONCE: usize = Pipes::SIZE;

/// How many empty pipes are kept for the next one who needs one.
const SPARE: usize = 32;

/// A bounded stock of pipes. A relay takes one while bytes move and gives it back as soon as it is empty. Clones share the
/// stock.
#[derive(Debug, Clone)]
pub struct Pipes(Arc<Stock>);

#[derive(Debug)]
struct Stock {
    most: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    spare: Vec<Ends>,
    lent: usize,
}

#[derive(Debug)]
struct Ends {
    out: OwnedFd,
    into: OwnedFd,
}

/// A pipe that somebody has taken.
pub(super) struct Pipe {
    /// There until this is dropped.
    ends: Option<Ends>,
    held: usize,
    stock: Arc<Stock>,
}

impl Pipes {
    /// How many descriptors a pipe takes.
    pub const DESCRIPTORS: usize = 2;
    /// How large a pipe is, in bytes, as the system counts it: with a page in each of its places. A place holds what lies together
    /// in the kernel's memory, a packet or a few: in a pipe as the system makes it, all 16 are taken long before much has come.
    pub const SIZE: usize = 512 << 10;

    /// At most `most` pipes at a time, of which none is made before it is needed.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Stock { most, shelf: Mutex::default() }))
    }

    /// How many pipes are in use, which means that they hold bytes or are about to.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.0.shelf().lent
    }

    /// How many empty pipes wait for somebody who needs one.
    #[cfg(test)]
    pub(super) fn spare(&self) -> usize {
        self.0.shelf().spare.len()
    }

    /// A pipe, unless all are in use or the system gives none.
    pub(super) fn take(&self) -> Option<Pipe> {
        let mut shelf = self.0.shelf();
        if shelf.lent >= self.0.most {
            return None;
        }
        let ends = shelf.spare.pop().map_or_else(Ends::new, Ok);
        let ends = ends.inspect_err(|error| tracing::debug!(%error, "no pipe: bytes are copied instead")).ok()?;
        shelf.lent += 1;
        Some(Pipe { ends: Some(ends), held: 0, stock: Arc::clone(&self.0) })
    }
}

impl Stock {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // The count and the pipes are right at every step, wherever the last holder panicked.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller one works as well, with more system calls.
        if let Err(error) = fcntl_setpipe_size(&out, Pipes::SIZE) {
            tracing::debug!(%error, "a pipe stays as small as the system made it");
        }
        Ok(Self { out, into })
    }
}

impl Pipe {
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Takes what has arrived at a socket. Zero means that nothing more will. The pipe has to be empty, so that what would
    /// block is the socket.
    pub(super) fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let count = splice(from, None, &ends.into, None, MOST_AT_ONCE, FLAGS)?;
        self.held += count;
        Ok(count)
    }

    /// Gives a socket what it takes.
    pub(super) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let ends = self.ends.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let count = splice(&ends.out, None, to, None, self.held, FLAGS)?;
        self.held -= count;
        Ok(count)
    }
}

/// Pages are moved instead of copied where they can be, and a full pipe is no reason to wait.
const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut shelf = self.stock.shelf();
        shelf.lent -= 1;
        // A pipe that still holds bytes of one session is not given to another one.
        if self.held == 0 && shelf.spare.len() < SPARE {
            shelf.spare.extend(self.ends.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::fcntl_getpipe_size;

    use super::*;

    #[test]
    fn pipes_have_more_places_than_the_system_gives() {
        let pipe = Pipes::new(1).take().unwrap();
        assert_eq!(fcntl_getpipe_size(&pipe.ends.as_ref().unwrap().out).unwrap(), Pipes::SIZE);
    }
}
