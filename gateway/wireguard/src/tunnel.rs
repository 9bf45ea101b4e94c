//! The handles that the rest of the house holds.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use postern_plumbing::tasks::Tasks;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::{Datapath, Peer, PeerStatus, TcpSettings, TunnelConfig};
use crate::error::{ConnectError, ListenError, TunnelError};
use crate::key::PublicKey;

/// One end of a tunnel. Clones share it; it stops when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Tunnel {
    address: IpAddr,
    local: SocketAddr,
    key: PublicKey,
}

impl Tunnel {
    /// Binds the UDP socket and starts the tunnel, with the usual [`TcpSettings`]. Its work runs in `tasks` until the
    /// last handle is dropped or [`Tunnel::stop`] is called, so a drain of that group waits for the tunnel as well.
    ///
    /// # Errors
    /// When the socket cannot be bound, or the configuration makes no sense.
    pub async fn start(config: TunnelConfig, datapath: Datapath, tasks: &Tasks) -> Result<Self, TunnelError> {
        Self::start_with(config, datapath, TcpSettings::default(), tasks).await
    }

    /// [`Tunnel::start`] with settings of one's own.
    ///
    /// # Errors
    /// When the socket cannot be bound, or the configuration makes no sense.
    pub async fn start_with(
        config: TunnelConfig,
        _datapath: Datapath,
        _tcp: TcpSettings,
        _tasks: &Tasks,
    ) -> Result<Self, TunnelError> {
        let listen = |source| TunnelError::Listen { address: config.listen, source };
        let socket = tokio::net::UdpSocket::bind(config.listen).await.map_err(listen)?;
        let local = socket.local_addr().map_err(listen)?;
        Ok(Self { address: config.address, local, key: config.private_key.public() })
    }

    /// The datapath in force.
    #[must_use]
    pub fn datapath(&self) -> Datapath {
        Datapath::Netstack
    }

    /// The public key of this end.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key
    }

    /// The UDP address that this end listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The inner address of this end.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Adds a peer, or changes what is known of it; its session and connections survive a change. An endpoint of `None`
    /// keeps the one that was learned. With a keepalive and an endpoint, the handshake starts at once.
    pub fn set_peer(&self, _peer: Peer) {}

    /// Removes a peer and cuts its connections at both ends. Returns whether there was one.
    pub fn remove_peer(&self, _key: &PublicKey) -> bool {
        false
    }

    /// Every peer, in the order of their keys.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// One peer.
    #[must_use]
    pub fn peer(&self, _key: &PublicKey) -> Option<PeerStatus> {
        None
    }

    /// Starts a new handshake with a peer, for when there is reason to think that it has restarted and forgotten the
    /// session. Returns whether there is such a peer.
    pub fn handshake(&self, _key: &PublicKey) -> bool {
        false
    }

    /// Connects to an inner address, waiting at most for `deadline`.
    ///
    /// # Errors
    /// When there is no way to the address, the far end refuses or does not answer, or too much is open.
    #[expect(clippy::unused_async, reason = "filled in next")]
    pub async fn connect(&self, _remote: SocketAddr, _deadline: Duration) -> Result<TunnelStream, ConnectError> {
        Err(ConnectError::NoRoute)
    }

    /// Listens on a port of the inner address.
    ///
    /// # Errors
    /// When the port is taken or the tunnel has stopped.
    pub fn listen(&self, _port: u16) -> Result<TunnelListener, ListenError> {
        Err(ListenError::Stopped)
    }

    /// Stops the tunnel at once, without a word to the peers; streams fail and listeners wait for ever.
    pub fn stop(&self) {}
}

/// Connections to a port of the tunnel. Dropping it closes the port and resets what was not accepted.
#[derive(Debug)]
pub struct TunnelListener {
    local: SocketAddr,
}

impl TunnelListener {
    /// The next connection, and the inner address of its far end, which belongs to the peer that sent it.
    pub async fn accept(&self) -> (TunnelStream, SocketAddr) {
        std::future::pending().await
    }

    /// The inner address and port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// A TCP connection through the tunnel. Shutting down sends what was written and then FIN, and reading goes on; dropping
/// a stream that was not shut down resets the connection, so that the far end cannot take a broken stream for a whole one.
#[derive(Debug)]
pub struct TunnelStream {
    local: SocketAddr,
    remote: SocketAddr,
    peer: PublicKey,
}

impl TunnelStream {
    /// The inner address and port of this end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The inner address and port of the far end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.remote
    }

    /// The key of the peer that the far end belongs to.
    #[must_use]
    pub fn peer_key(&self) -> PublicKey {
        self.peer
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, _buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, _buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
