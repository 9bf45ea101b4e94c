//! The datapath of machines that let us have a network interface: TCP in the kernel.
//!
//! The kernel hands over up to 64 KiB of one connection at a time and takes as much back (IFF_VNET_HDR with TSO), and one
//! trip through its UDP stack carries as much (UDP_SEGMENT, UDP_GRO). Between the two, a packet is split off, encrypted and
//! put behind the last one in the same buffer, or the other way round; nothing is handed from task to task. One thread does
//! that for each processor, in both directions, and sends what it has as soon as there is nothing more to read. The kernel
//! keeps each connection to one queue of the interface and each peer's datagrams to one socket, so order is kept without
//! locks, and one peer is served by one processor.
//!
//! Connections are ordinary sockets, bound to the interface: what arrives by another one is not theirs, and what they send
//! does not leave by another one, whatever the routes say.

mod connections;
mod device;
mod dial;
mod inbound;
mod netlink;
mod outbound;
mod partings;
mod routes;
mod sockets;
mod stream;
mod threads;
mod worker;

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;

use self::connections::Connections;
use self::device::Device;
use self::partings::Partings;
use self::routes::Routes;
use self::threads::Manner;
use crate::clock;
use crate::config::{Peer, TcpSettings, TunnelConfig};
use crate::error::{ListenError, TunnelError};
use crate::key::PublicKey;
use crate::link::Link;
use crate::lock::lock;

pub(crate) use self::stream::{Listener, Stream};

/// One interface and one socket.
pub(crate) struct Tun {
    pub(crate) link: Link,
    pub(crate) address: IpAddr,
    tcp: TcpSettings,
    device: Device,
    routes: Mutex<Routes>,
    connections: Connections,
    partings: Partings,
    shutdown: Shutdown,
    /// Closed to wake the threads.
    running: Mutex<Option<UnixStream>>,
}

impl Tun {
    /// Makes the interface, binds the socket and starts the threads; a task of `tasks` lives as long as they do.
    ///
    /// # Errors
    /// [`TunnelError::Interface`] when this process may not have an interface, [`TunnelError::Listen`] when the socket
    /// cannot be bound.
    pub(crate) async fn start(config: TunnelConfig, tcp: TcpSettings, tasks: &Tasks) -> Result<Arc<Self>, TunnelError> {
        let TunnelConfig { private_key, listen, address, mtu, in_batches } = config;
        let device = Device::open(address, mtu, threads::queues()).map_err(TunnelError::Interface)?;
        let routes = Routes::new(device.index(), address).map_err(TunnelError::Interface)?;
        let finish = move |link, stop| Self {
            link,
            address,
            tcp,
            device,
            routes: Mutex::new(routes),
            connections: Connections::new(tcp.max_connections),
            partings: Partings::default(),
            shutdown: Shutdown::new(),
            running: Mutex::new(Some(stop)),
        };
        threads::start(private_key, listen, Manner { mtu, in_batches }, tasks, finish).await
    }

    pub(crate) fn set_peer(&self, peer: &Peer) {
        let moved = self.link.set_peer(peer, clock::now());
        lock(&self.routes).set(peer.public_key, &peer.allowed, peer.mtu);
        if moved {
            self.connections.cut_which(|connection| !self.link.owns(connection.peer(), connection.remote().ip()));
        }
    }

    pub(crate) fn remove_peer(&self, key: &PublicKey) -> bool {
        let Some(removed) = self.link.remove_peer(key) else { return false };
        // The kernel tells the far end of each connection with a reset, which still has to get out.
        self.partings.add(&removed, self.connections.addresses_of(&removed), clock::now());
        self.connections.cut_which(|connection| Arc::ptr_eq(connection.peer(), &removed));
        lock(&self.routes).set(*key, &[], None);
        true
    }

    pub(crate) fn listen(self: &Arc<Self>, port: u16) -> Result<Listener, ListenError> {
        if self.shutdown.is_triggered() {
            return Err(ListenError::Stopped);
        }
        Listener::open(self, port)
    }

    /// Stops at once, without a word to anybody.
    pub(crate) fn stop(&self) {
        self.shutdown.trigger();
        lock(&self.running).take();
        self.link.close();
        self.connections.stop();
    }

    /// The name of the interface.
    pub(crate) fn interface(&self) -> &str {
        self.device.name()
    }

    /// How many queues the interface has.
    pub(crate) fn queues(&self) -> usize {
        self.device.queues()
    }
}
