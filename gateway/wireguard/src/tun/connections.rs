//! The connections that are open, so that they can be counted, and cut when their peer goes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::net::TcpStream;

use super::sockets;
use crate::key::PublicKey;
use crate::link::Peer;
use crate::lock::lock;

/// A connection. It is cut from outside, and closed by dropping the last handle.
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    peer: Arc<Peer>,
    remote: SocketAddr,
    cut: AtomicBool,
    _place: Place,
}

impl Connection {
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    pub(super) fn peer_key(&self) -> PublicKey {
        self.peer.key
    }

    /// No address where the kernel knows of none any more.
    pub(super) fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap_or_else(|_| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))
    }

    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Fails once the connection was cut, whatever the kernel says of the socket.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.cut.load(Ordering::Acquire) { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Ends the connection at once, with a reset for the far end.
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        if let Err(error) = sockets::reset(&self.socket) {
            tracing::debug!(%error, "a connection could not be reset; it is not read or written any more");
        }
    }
}

/// Every connection, at most so many of them.
pub(super) struct Connections(Arc<Mutex<Open>>);

struct Open {
    /// None when there may be no more, since the tunnel has stopped.
    most: Option<usize>,
    next: u64,
    taken: usize,
    listed: HashMap<u64, Weak<Connection>>,
}

/// A place for a connection, given back when dropped.
pub(super) struct Place {
    open: Arc<Mutex<Open>>,
    number: u64,
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Open { most: Some(most), next: 0, taken: 0, listed: HashMap::new() })))
    }

    /// Takes a place, if there is one.
    pub(super) fn enter(&self) -> Option<Place> {
        let mut open = lock(&self.0);
        if open.taken >= open.most? {
            return None;
        }
        open.taken += 1;
        open.next += 1;
        Some(Place { open: Arc::clone(&self.0), number: open.next })
    }

    /// Lists a connection. It has to be looked at after that whether its peer is still there.
    pub(super) fn list(&self, place: Place, socket: TcpStream, remote: SocketAddr, peer: Arc<Peer>) -> Arc<Connection> {
        let number = place.number;
        let connection = Connection { socket, peer, remote, cut: AtomicBool::new(false), _place: place };
        let connection = Arc::new(connection);
        lock(&self.0).listed.insert(number, Arc::downgrade(&connection));
        connection
    }

    /// The far ends of a peer's connections.
    pub(super) fn addresses_of(&self, peer: &Arc<Peer>) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> =
            self.which(|connection| Arc::ptr_eq(&connection.peer, peer)).iter().map(|c| c.remote.ip()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    pub(super) fn cut_which(&self, holds: impl Fn(&Connection) -> bool) {
        for connection in self.which(holds) {
            connection.cut();
        }
    }

    /// Cuts all there are, and allows no more.
    pub(super) fn stop(&self) {
        lock(&self.0).most = None;
        self.cut_which(|_| true);
    }

    fn which(&self, holds: impl Fn(&Connection) -> bool) -> Vec<Arc<Connection>> {
        // Handles are dropped after the lock is: the last one gives its place back.
        let all: Vec<_> = lock(&self.0).listed.values().filter_map(Weak::upgrade).collect();
        all.into_iter().filter(|connection| holds(connection)).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        open.listed.remove(&self.number);
        open.taken -= 1;
    }
}
