//! The threads that serve clients: one per core, each with a runtime and with listeners of its own, so that a connection is
//! accepted, opened and relayed where its sockets are waited for.
//!
//! The kernel spreads connections over the listeners of a port blindly, by a hash of their addresses. Sessions last for hours,
//! so what is even when it arrives need not stay so: a thread that has far more than another one hands on what it accepts.

mod post;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread;

use postern_plumbing::accept::{self, Fatal};
use postern_plumbing::schedule;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

pub use self::post::{Arrival, Live, Post};
use crate::edge::Edge;
use crate::listen;

/// What the threads have in common.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The gateway.
    pub edge: Arc<Edge>,
    /// One task per connection, on whatever thread.
    pub connections: Tasks,
    /// When the doors close.
    pub shutdown: Shutdown,
}

/// The threads that serve clients. They end when this is dropped, and what they serve ends with them.
#[derive(Debug)]
pub struct Shards {
    end: Shutdown,
}

/// The listeners of each thread, on the same addresses.
#[derive(Debug)]
pub struct Doors {
    threads: Vec<Vec<StdListener>>,
    addresses: Vec<SocketAddr>,
}

impl Doors {
    /// Listens on each address once for each of so many threads.
    ///
    /// # Errors
    /// The address that cannot be listened on, and why.
    pub fn open(wanted: &[SocketAddr], threads: usize) -> Result<Self, (SocketAddr, io::Error)> {
        let mut doors = Self { threads: (0..threads.max(1)).map(|_| Vec::new()).collect(), addresses: Vec::new() };
        for address in wanted {
            doors.open_one(*address).map_err(|error| (*address, error))?;
        }
        Ok(doors)
    }

    /// Where they listen, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    fn open_one(&mut self, wanted: SocketAddr) -> io::Result<()> {
        let address = accept::probe(wanted)?;
        for listeners in &mut self.threads {
            listeners.push(accept::listen(address)?);
        }
        self.addresses.push(address);
        Ok(())
    }
}

impl Shards {
    /// Starts the threads. They accept until the shutdown.
    ///
    /// # Errors
    /// When the system gives no thread or no runtime.
    pub fn start(doors: Doors, shared: &Shared) -> io::Result<Self> {
        let end = Shutdown::new();
        // Whatever was started ends when this is dropped, also on the way out with an error.
        let shards = Self { end: end.clone() };
        let (posts, inboxes) = Post::all(doors.threads.len());
        for ((listeners, inbox), post) in doors.threads.into_iter().zip(inboxes).zip(posts) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let shard = Shard { listeners, inbox, post, shared: shared.clone(), end: end.clone() };
            let name = format!("clients {}", shard.post.number());
            thread::Builder::new().name(name).spawn(move || shard.run(&runtime))?;
        }
        Ok(shards)
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.end.trigger();
    }
}

/// One of the threads.
struct Shard {
    listeners: Vec<StdListener>,
    inbox: mpsc::Receiver<Arrival>,
    post: Post,
    shared: Shared,
    end: Shutdown,
}

impl Shard {
    fn run(self, runtime: &Runtime) {
        // It is woken for all that the tunnel brings, piece by piece, and would push the tunnel's thread off each time.
        if let Err(error) = schedule::batch() {
            tracing::info!(%error, "a thread that serves clients interrupts others when it is woken");
        }
        runtime.block_on(async {
            let end = self.end.clone();
            self.open();
            end.triggered().await;
        });
    }

    /// Serves as tasks of this thread's runtime.
    fn open(self) {
        let doors = Tasks::new();
        let Self { listeners, inbox, post, shared, .. } = self;
        for listener in listeners {
            let serving = door(listener, post.clone(), shared.clone());
            doors.spawn("client listener", guard("clients", serving, shared.shutdown.clone()));
        }
        doors.spawn("clients handed over", listen::handed_over(inbox, post, shared));
    }
}

async fn door(listener: StdListener, post: Post, shared: Shared) -> Result<(), Fatal> {
    let listener = TcpListener::from_std(listener).map_err(Fatal)?;
    listen::serve(listener, post, shared).await
}

/// A gateway with a broken door is no gateway: it drains, and whoever supervises it starts it again.
pub(crate) async fn guard(door: &'static str, serving: impl Future<Output = Result<(), Fatal>>, shutdown: Shutdown) {
    if let Err(error) = serving.await {
        tracing::error!(door, %error, "a door is broken");
        shutdown.trigger();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_listens_on_the_port_that_was_given_and_nobody_else_can() {
        let doors = Doors::open(&["127.0.0.1:0".parse().unwrap()], 3).unwrap();
        let [address] = *doors.addresses() else { panic!("one address was asked for") };
        assert_eq!(doors.threads.len(), 3);
        for listeners in &doors.threads {
            assert_eq!(listeners[0].local_addr().unwrap(), address);
        }
        let (taken, error) = Doors::open(&[address], 3).unwrap_err();
        assert_eq!((taken, error.kind()), (address, io::ErrorKind::AddrInUse));
    }
}
