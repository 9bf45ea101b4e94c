//! Connections that are verified before a driver comes.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use postern_plumbing::clock::unix_now;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::target::Verified;

/// How many connections are kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Connections that are ready at a time; 0 keeps none.
    pub size: usize,
    /// How long each is kept. A sidecar closes connections that do not speak in time, so this must be shorter.
    pub idle: Duration,
}

/// The connections to one server that are ready: TLS is established and the server is verified, and nothing has been sent
/// inside TLS.
#[derive(Debug)]
pub struct Pool {
    size: PoolSize,
    ready: Mutex<Vec<Warm>>,
    /// Raised when a connection was taken.
    pub taken: Notify,
}

#[derive(Debug)]
struct Warm {
    verified: Verified,
    since: Instant,
    /// The changes of what the server was judged by, since before the handshake.
    rules: watch::Receiver<u64>,
}

impl Pool {
    /// A pool that is empty.
    #[must_use]
    pub fn new(size: PoolSize) -> Self {
        Self { size, ready: Mutex::default(), taken: Notify::new() }
    }

    /// Whether there should be more connections.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.count() < self.size.size
    }

    /// How many connections there are, of use or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Adds a connection. `rules` counts the changes of what it was judged by, from before its handshake.
    pub fn put(&self, verified: Verified, rules: watch::Receiver<u64>) {
        self.lock().push(Warm { verified, since: Instant::now(), rules });
    }

    /// The newest connection that is still of use. Those that are not are dropped.
    #[must_use]
    pub fn take(&self) -> Option<Verified> {
        let mut ready = self.lock();
        let taken = loop {
            let Some(mut newest) = ready.pop() else { break None };
            if newest.is_usable(self.size.idle) {
                break Some(newest.verified);
            }
        };
        drop(ready);
        self.taken.notify_one();
        taken
    }

    /// Takes out what is of no more use: too old, judged by rules that have changed, no longer valid, or closed.
    #[must_use]
    pub fn sort_out(&self) -> Vec<Verified> {
        let idle = self.size.idle;
        let unusable = |warm: &mut Warm| !warm.is_usable(idle);
        self.lock().extract_if(.., unusable).map(|warm| warm.verified).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Warm>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Warm {
    fn is_usable(&mut self, idle: Duration) -> bool {
        let valid = self.verified.server.peer.as_ref().is_some_and(|peer| unix_now() < peer.valid_until);
        let same_rules = self.rules.has_changed().is_ok_and(|changed| !changed);
        valid && same_rules && self.since.elapsed() < idle && is_silent(&mut self.verified.server.stream)
    }
}

/// Whether the far end has neither closed nor said anything; before it was spoken to, it has nothing to say.
fn is_silent<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    let mut byte = [0; 1];
    let mut context = Context::from_waker(Waker::noop());
    let read: Poll<io::Result<()>> = Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte));
    read.is_pending()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::is_silent;

    #[tokio::test]
    async fn who_has_spoken_or_closed_is_not_silent() {
        let (mut near, far) = tokio::io::duplex(9);
        assert!(is_silent(&mut near));
        drop(far);
        assert!(!is_silent(&mut near));
        let (mut near, mut far) = tokio::io::duplex(9);
        far.write_all(b"x").await.unwrap();
        assert!(!is_silent(&mut near));
    }
}
