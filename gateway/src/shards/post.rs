//! A thread's place among the others: who has how many connections, and how to hand one on.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postern_gateway_core::spread;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::metrics;

/// How many connections may be on their way to a thread. When it is that far behind, they stay where they are.
const IN_TRANSIT: usize = 64;

/// A connection on its way from one thread to another.
#[derive(Debug)]
pub struct Arrival {
    /// Where it comes from.
    pub client: SocketAddr,
    /// The socket, known to no runtime.
    pub stream: StdStream,
}

/// A thread as the others see it, and the others as it sees them.
#[derive(Debug, Clone)]
pub struct Post {
    own: usize,
    desks: Arc<[Desk]>,
}

#[derive(Debug)]
struct Desk {
    live: AtomicUsize,
    inbox: mpsc::Sender<Arrival>,
}

/// A connection of a thread, until this is dropped.
#[derive(Debug)]
pub struct Live(Post);

impl Post {
    /// So many threads, and what they are handed.
    #[must_use]
    pub fn all(threads: usize) -> (Vec<Self>, Vec<mpsc::Receiver<Arrival>>) {
        let (inboxes, handed): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::channel(IN_TRANSIT)).unzip();
        let desks: Arc<[Desk]> = inboxes.into_iter().map(|inbox| Desk { live: AtomicUsize::new(0), inbox }).collect();
        ((0..threads).map(|own| Self { own, desks: Arc::clone(&desks) }).collect(), handed)
    }

    /// A thread without others.
    #[must_use]
    pub fn alone() -> Self {
        let desk = Desk { live: AtomicUsize::new(0), inbox: mpsc::channel(1).0 };
        Self { own: 0, desks: Arc::new([desk]) }
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> usize {
        self.own
    }

    /// How many connections each thread has.
    #[must_use]
    pub fn loads(&self) -> Vec<usize> {
        self.desks.iter().map(|desk| desk.live.load(Ordering::Relaxed)).collect()
    }

    /// Counts a connection of this thread.
    #[must_use]
    pub fn live(&self) -> Live {
        if let Some(desk) = self.desks.get(self.own) {
            desk.live.fetch_add(1, Ordering::Relaxed);
        }
        Live(self.clone())
    }

    /// Hands a connection to a thread that has far fewer, or gives it back.
    pub fn hand_on(&self, client: SocketAddr, stream: TcpStream) -> Option<TcpStream> {
        let loads = self.desks.iter().map(|desk| desk.live.load(Ordering::Relaxed));
        let Some(desk) = spread::elsewhere(self.own, loads).and_then(|other| self.desks.get(other)) else {
            return Some(stream);
        };
        let Ok(place) = desk.inbox.try_reserve() else { return Some(stream) };
        // A socket that cannot be taken from this runtime is closed with the error.
        let stream = stream.into_std().inspect_err(|error| tracing::debug!(%error, "a connection was lost")).ok()?;
        place.send(Arrival { client, stream });
        metrics::handed_on();
        None
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(desk) = self.0.desks.get(self.0.own) {
            desk.live.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn connection() -> (TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        drop(near.unwrap());
        accepted.unwrap()
    }

    #[tokio::test]
    async fn a_thread_with_far_more_hands_on_until_it_is_even_or_the_other_is_behind() {
        let (posts, mut handed) = Post::all(2);
        let mut live: Vec<_> = (0..100).map(|_| posts[0].live()).collect();
        for _ in 0..IN_TRANSIT {
            let (stream, client) = connection().await;
            assert!(posts[0].hand_on(client, stream).is_none());
        }
        assert_eq!(handed[1].len(), IN_TRANSIT);
        let (stream, client) = connection().await;
        assert!(posts[0].hand_on(client, stream).is_some(), "the other one does not look into its inbox");
        let arrival = handed[1].try_recv().unwrap();
        assert!(arrival.client.ip().is_loopback());
        live.truncate(20);
        let (stream, client) = connection().await;
        assert!(posts[0].hand_on(client, stream).is_some(), "it is even by now");
    }

    #[tokio::test]
    async fn who_is_alone_or_has_fewer_keeps_what_it_accepts() {
        let alone = Post::alone();
        let _live: Vec<_> = (0..1_000).map(|_| alone.live()).collect();
        let (stream, client) = connection().await;
        assert!(alone.hand_on(client, stream).is_some());
        let (posts, _handed) = Post::all(2);
        let _live: Vec<_> = (0..1_000).map(|_| posts[0].live()).collect();
        let (stream, client) = connection().await;
        assert!(posts[1].hand_on(client, stream).is_some());
    }
}
