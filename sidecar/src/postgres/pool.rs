//! Connections to Postgres that sessions have left, cleaned for the next session that begins in the same way.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::tracker::Reported;
use postgres_protocol::message::frontend;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::supervise::Watched;
use crate::packets::{self, ReadError};

/// How long Postgres may take to clean a connection: it may have temporary tables to drop.
const CLEAN: Duration = Duration::from_secs(5);
/// The longest message in answer to that.
const MAX_MESSAGE: usize = 65_536;
/// How often connections are looked for that are of no more use.
const SORT_OUT: Duration = Duration::from_secs(1);

/// How many connections are kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolBounds {
    /// Connections that are kept at a time; 0 keeps none, and each session has one of its own.
    pub size: usize,
    /// How long one is kept while no session wants it.
    pub idle: Duration,
    /// How old one may become.
    pub lifetime: Duration,
}

/// The connections that are kept.
#[derive(Debug)]
pub struct Pool {
    bounds: PoolBounds,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The one that was left last is the last.
    spares: Vec<Spare>,
    /// How often all connections were given up. Those that were in use meanwhile do not come back.
    generation: u64,
}

#[derive(Debug)]
struct Spare {
    backend: Backend,
    since: Instant,
}

/// Where a connection comes from.
pub struct Origin {
    /// The startup packet that it was opened with: it says who is logged in, where, and with which settings.
    startup: Bytes,
    opened: Instant,
    generation: u64,
}

/// A connection that waits for the first query of a session.
#[derive(Debug)]
pub struct Backend {
    /// The connection.
    pub stream: UnixStream,
    /// What its queries are cancelled with.
    pub key: CancelKey,
    /// What Postgres has reported of its settings.
    pub reported: Reported,
    /// Where it comes from.
    pub origin: Origin,
}

/// Why a connection cannot be used again.
#[derive(Debug, Error)]
enum NotClean {
    #[error("Postgres had more to say to the session")]
    Unread,
    #[error("Postgres does not answer")]
    Silent,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("Postgres answered with message type {0}")]
    Answer(u8),
}

impl Pool {
    /// A pool that is empty.
    #[must_use]
    pub fn new(bounds: PoolBounds) -> Self {
        Self { bounds, kept: Mutex::default() }
    }

    /// The origin of a connection that is opened now with this startup packet; `None` where none is kept.
    #[must_use]
    pub fn origin(&self, startup: &[u8]) -> Option<Origin> {
        if self.bounds.size == 0 {
            return None;
        }
        // A copy of its own: the packet's buffer is larger than the packet.
        let startup = Bytes::copy_from_slice(startup);
        Some(Origin { startup, opened: Instant::now(), generation: self.lock().generation })
    }

    /// A connection that was opened with exactly this startup packet: the one that was left last, which is the likeliest to be
    /// in Postgres' caches.
    #[must_use]
    pub fn take(&self, startup: &[u8]) -> Option<Backend> {
        let mut kept = self.lock();
        while let Some(place) = kept.spares.iter().rposition(|spare| spare.backend.origin.startup == startup) {
            let spare = kept.spares.remove(place);
            count(&kept);
            if spare.is_usable(&self.bounds) {
                return Some(spare.backend);
            }
        }
        None
    }

    /// Cleans a connection that a session has left at rest, and keeps it. What is too old, or cannot be cleaned, is closed.
    pub async fn put(&self, mut backend: Backend) {
        if backend.origin.opened.elapsed() >= self.bounds.lifetime {
            return left("old");
        }
        let cleaned = timeout(CLEAN, backend.clean()).await.unwrap_or(Err(NotClean::Silent));
        if let Err(error) = cleaned {
            tracing::debug!(%error, "a connection to Postgres is not used again");
            return left("unclean");
        }
        let mut kept = self.lock();
        if backend.origin.generation != kept.generation {
            return left("old");
        }
        kept.spares.push(Spare { backend, since: Instant::now() });
        kept.trim(self.bounds.size);
        left("kept");
    }

    /// Closes the connections that were left first, until there are at most so many.
    pub fn trim(&self, most: usize) {
        self.lock().trim(most);
    }

    /// Gives up all connections, those that sessions have at the time included.
    pub fn give_up(&self) {
        let mut kept = self.lock();
        kept.generation += 1;
        kept.trim(0);
    }

    /// Closes connections that are of no more use, for ever. All of them are given up when Postgres was provisioned anew or is
    /// away: its roles may not be what they were when these logged in.
    ///
    /// # Errors
    /// Never.
    pub async fn run(&self, mut postgres: Watched) -> Result<Infallible, Infallible> {
        loop {
            match timeout(SORT_OUT, postgres.changed()).await {
                Ok(()) => self.give_up(),
                Err(_) => {
                    let mut kept = self.lock();
                    kept.spares.retain(|spare| spare.is_usable(&self.bounds));
                    count(&kept);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Origin {
    /// Without the packet: what clients say in it may be theirs alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin").field("opened", &self.opened).finish_non_exhaustive()
    }
}

impl Kept {
    fn trim(&mut self, most: usize) {
        let excess = self.spares.len().saturating_sub(most);
        self.spares.drain(..excess);
        count(self);
    }
}

impl Spare {
    fn is_usable(&self, bounds: &PoolBounds) -> bool {
        let young = self.backend.origin.opened.elapsed() < bounds.lifetime && self.since.elapsed() < bounds.idle;
        young && self.backend.is_silent()
    }
}

impl Backend {
    /// Whether Postgres has neither closed nor said anything; before it is spoken to, it has nothing to say.
    fn is_silent(&self) -> bool {
        matches!(self.stream.try_read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Has Postgres forget what the session has left: settings, prepared statements, cursors, temporary tables, advisory locks,
    /// listening and the rest of what DISCARD ALL is for. Nothing but the answer to that may come.
    async fn clean(&mut self) -> Result<(), NotClean> {
        if !self.is_silent() {
            return Err(NotClean::Unread);
        }
        let mut query = BytesMut::new();
        frontend::query("DISCARD ALL", &mut query).map_err(ReadError::Io)?;
        packets::write(&mut self.stream, &query).await.map_err(ReadError::Io)?;
        let (mut buf, mut discarded) = (BytesMut::new(), false);
        loop {
            let message = packets::message(&mut self.stream, &mut buf, MAX_MESSAGE).await?;
            match (message.tag(), message.body()) {
                (b'S', _) if self.reported.note(message.raw()) => {}
                (b'N' | b'A', _) => {}
                (b'C', b"DISCARD ALL\0") if !discarded => discarded = true,
                (b'Z', b"I") if discarded && buf.is_empty() => return Ok(()),
                (tag, _) => return Err(NotClean::Answer(tag)),
            }
        }
    }
}

fn count(kept: &Kept) {
    let spares = u32::try_from(kept.spares.len()).unwrap_or(u32::MAX);
    metrics::gauge!("postern_sidecar_spare_connections").set(f64::from(spares));
}

fn left(outcome: &'static str) {
    metrics::counter!("postern_sidecar_left_connections_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests;
