//! The handles that the rest of the house holds. They hide which datapath carries the bytes.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use postern_plumbing::tasks::Tasks;
use smoltcp::wire::IpAddress;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock;
use crate::config::{Datapath, Peer, PeerStatus, TcpSettings, TunnelConfig};
use crate::error::{ConnectError, ListenError, TunnelError};
use crate::key::{PrivateKey, PublicKey};
use crate::link::Link;
use crate::netstack::{self, Netstack};

/// The range of MTUs, by the least that each IP version demands of a link (RFC 791, RFC 8200), to a jumbo frame.
const MTU: (u16, u16, u16) = (576, 1280, 9216);

/// How many times a port that is in use is tried, and the pauses between.
const REBIND: (usize, Duration) = (20, Duration::from_millis(10));

/// One end of a tunnel. Clones share it; it stops when the last one is dropped.
#[derive(Clone)]
pub struct Tunnel {
    running: Arc<Running>,
}

/// Stops the datapath when nobody holds the tunnel any more.
struct Running {
    stack: Arc<Netstack>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stack.stop();
    }
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
        datapath: Datapath,
        tcp: TcpSettings,
        tasks: &Tasks,
    ) -> Result<Self, TunnelError> {
        let TunnelConfig { private_key, listen, address, mtu } = config;
        if !IpAddress::from(address).is_unicast() {
            return Err(TunnelError::Address);
        }
        let (least, most) = if address.is_ipv4() { (MTU.0, MTU.2) } else { (MTU.1, MTU.2) };
        if !(least..=most).contains(&mtu) {
            return Err(TunnelError::Mtu { least, most, given: mtu });
        }
        let link = bind(private_key, listen).await.map_err(|source| TunnelError::Listen { address: listen, source })?;
        let stack = match datapath {
            Datapath::Auto | Datapath::Netstack => Netstack::new(link, address, mtu, tcp),
        };
        stack.start(tasks);
        tracing::info!(listen = %stack.link.local_addr(), %address, mtu, datapath = "netstack", "tunnel started");
        Ok(Self { running: Arc::new(Running { stack }) })
    }

    /// The datapath in force.
    #[must_use]
    pub fn datapath(&self) -> Datapath {
        Datapath::Netstack
    }

    /// The public key of this end.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.stack().link.key
    }

    /// The UDP address that this end listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.stack().link.local_addr()
    }

    /// The inner address of this end.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.stack().address
    }

    /// Adds a peer, or changes what is known of it; its session survives a change, and so do its connections, but for
    /// those to addresses that are no longer its own. An endpoint of `None` keeps the one that was learned. With a
    /// keepalive and an endpoint, the handshake starts at once.
    pub fn set_peer(&self, peer: Peer) {
        self.stack().set_peer(&peer);
    }

    /// Removes a peer and cuts its connections at both ends. Returns whether there was one.
    pub fn remove_peer(&self, key: &PublicKey) -> bool {
        self.stack().remove_peer(key)
    }

    /// Every peer, in the order of their keys.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.stack().link.peers(clock::now())
    }

    /// One peer.
    #[must_use]
    pub fn peer(&self, key: &PublicKey) -> Option<PeerStatus> {
        self.stack().link.peer(key, clock::now())
    }

    /// Starts a new handshake with a peer, for when there is reason to think that it has restarted and forgotten the
    /// session. Does nothing within a second of the last one, or while one is under way. Returns whether there is such a peer.
    pub fn handshake(&self, key: &PublicKey) -> bool {
        self.stack().link.handshake(key, clock::now())
    }

    /// Connects to an inner address, waiting at most for `deadline`.
    ///
    /// # Errors
    /// When there is no way to the address, the far end refuses or does not answer, or too much is open.
    pub async fn connect(&self, remote: SocketAddr, deadline: Duration) -> Result<TunnelStream, ConnectError> {
        self.stack().connect(remote, deadline).await.map(TunnelStream)
    }

    /// Listens on a port of the inner address.
    ///
    /// # Errors
    /// When the port is taken or the tunnel has stopped.
    pub fn listen(&self, port: u16) -> Result<TunnelListener, ListenError> {
        self.stack().listen(port).map(TunnelListener)
    }

    /// Stops the tunnel at once, without a word to the peers, and gives its port back; streams fail and listeners wait for
    /// ever.
    pub fn stop(&self) {
        self.stack().stop();
    }

    fn stack(&self) -> &Arc<Netstack> {
        &self.running.stack
    }
}

/// Binds the socket. A tunnel that was stopped a moment ago may still be about to give the port back.
async fn bind(key: PrivateKey, listen: SocketAddr) -> io::Result<Link> {
    for _ in 0..REBIND.0 {
        match Link::bind(key.clone(), listen) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => tokio::time::sleep(REBIND.1).await,
            bound => return bound,
        }
    }
    Link::bind(key, listen)
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("key", &self.public_key()).field("local", &self.local_addr()).finish()
    }
}

/// Connections to a port of the tunnel. Dropping it closes the port and resets what was not accepted.
pub struct TunnelListener(netstack::Listener);

impl TunnelListener {
    /// The next connection, and the inner address of its far end, which belongs to the peer that sent it.
    pub async fn accept(&self) -> (TunnelStream, SocketAddr) {
        let stream = TunnelStream(self.0.accept().await);
        let remote = stream.peer_addr();
        (stream, remote)
    }

    /// The inner address and port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }
}

impl fmt::Debug for TunnelListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TunnelListener").field(&self.local_addr()).finish()
    }
}

/// A TCP connection through the tunnel. Shutting down sends what was written and then FIN, and reading goes on; dropping
/// a stream that was not shut down resets the connection, so that the far end cannot take a broken stream for a whole one.
pub struct TunnelStream(netstack::Stream);

impl TunnelStream {
    /// The inner address and port of this end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// The inner address and port of the far end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.0.peer_addr()
    }

    /// The key of the peer that the far end belongs to.
    #[must_use]
    pub fn peer_key(&self) -> PublicKey {
        self.0.peer_key()
    }
}

impl fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelStream").field("local", &self.local_addr()).field("peer", &self.peer_addr()).finish()
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
