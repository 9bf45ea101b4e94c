//! The handles that the rest of the house holds. They hide which datapath carries the bytes.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use postern_plumbing::tasks::Tasks;
use smoltcp::wire::IpAddress;

use crate::clock;
use crate::config::{Datapath, Peer, PeerStatus, TcpSettings, TunnelConfig};
use crate::error::{ConnectError, ListenError, TunnelError};
use crate::key::PublicKey;
use crate::link::{Link, Udp};
use crate::netstack::Netstack;
use crate::stream::{Listener, Stream, TunnelListener, TunnelStream};
#[cfg(target_os = "linux")]
use crate::tun::Tun;

/// The range of MTUs, by the least that each IP version demands of a link (RFC 791, RFC 8200), to a jumbo frame.
const MTU: (u16, u16, u16) = (576, 1280, 9216);

/// One end of a tunnel. Clones share it; it stops when the last one is dropped.
#[derive(Clone)]
pub struct Tunnel {
    running: Arc<Running>,
}

/// Stops the datapath when nobody holds the tunnel any more.
struct Running {
    stack: Stack,
    /// The range of a peer's MTU, in bytes.
    mtu: (u16, u16),
}

/// A datapath in force.
enum Stack {
    Netstack(Arc<Netstack>),
    #[cfg(target_os = "linux")]
    Tun(Arc<Tun>),
}

/// Does the same with any datapath.
macro_rules! with {
    ($tunnel:expr, $stack:ident => $act:expr) => {
        match &$tunnel.running.stack {
            Stack::Netstack($stack) => $act,
            #[cfg(target_os = "linux")]
            Stack::Tun($stack) => $act,
        }
    };
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
        let (address, mtu) = (config.address, config.mtu);
        if !IpAddress::from(address).is_unicast() {
            return Err(TunnelError::Address);
        }
        let (least, most) = if address.is_ipv4() { (MTU.0, MTU.2) } else { (MTU.1, MTU.2) };
        if !(least..=most).contains(&mtu) {
            return Err(TunnelError::Mtu { least, most, given: mtu });
        }
        let stack = match datapath {
            Datapath::Netstack => Stack::netstack(config, tcp, tasks).await?,
            Datapath::Tun => Stack::tun(config, tcp, tasks).await?,
            Datapath::Auto => match Stack::tun(config.clone(), tcp, tasks).await {
                Err(error @ (TunnelError::Interface(_) | TunnelError::NeedsLinux)) => {
                    tracing::info!(reason = %error, "the tunnel does without a network interface");
                    Stack::netstack(config, tcp, tasks).await?
                }
                outcome => outcome?,
            },
        };
        let tunnel = Self { running: Arc::new(Running { stack, mtu: (least, mtu) }) };
        tunnel.announce(mtu);
        Ok(tunnel)
    }

    /// Says what is in force, which need not be what was asked for.
    fn announce(&self, mtu: u16) {
        let (listen, address, datapath) = (self.local_addr(), self.address(), self.datapath());
        let (interface, queues) = match &self.running.stack {
            Stack::Netstack(_) => ("none", 1),
            #[cfg(target_os = "linux")]
            Stack::Tun(tun) => (tun.interface(), tun.queues()),
        };
        let (splits, joins) = (self.link().udp(0).splits(), self.link().udp(0).joins());
        tracing::info!(%listen, %address, mtu, %datapath, interface, queues, splits, joins, "tunnel started");
    }

    /// The datapath in force.
    #[must_use]
    pub fn datapath(&self) -> Datapath {
        match &self.running.stack {
            Stack::Netstack(_) => Datapath::Netstack,
            #[cfg(target_os = "linux")]
            Stack::Tun(_) => Datapath::Tun,
        }
    }

    /// The public key of this end.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.link().key
    }

    /// The UDP address that this end listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.link().local_addr()
    }

    /// The inner address of this end.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        with!(self, stack => stack.address)
    }

    /// Adds a peer, or changes what is known of it; its session survives a change, and so do its connections, but for
    /// those to addresses that are no longer its own. An endpoint of `None` keeps the one that was learned. With a
    /// keepalive and an endpoint, the handshake starts at once.
    pub fn set_peer(&self, peer: Peer) {
        let (least, most) = self.running.mtu;
        let mtu = peer.mtu.map(|mtu| mtu.clamp(least, most));
        let peer = Peer { mtu: mtu.filter(|mtu| *mtu < most), ..peer };
        with!(self, stack => stack.set_peer(&peer));
    }

    /// Removes a peer and cuts its connections at both ends. Returns whether there was one.
    pub fn remove_peer(&self, key: &PublicKey) -> bool {
        with!(self, stack => stack.remove_peer(key))
    }

    /// Every peer, in the order of their keys.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.link().peers(clock::now())
    }

    /// One peer.
    #[must_use]
    pub fn peer(&self, key: &PublicKey) -> Option<PeerStatus> {
        self.link().peer(key, clock::now())
    }

    /// Starts a new handshake with a peer, for when there is reason to think that it has restarted and forgotten the
    /// session. Does nothing within a second of the last one, or while one is under way. Returns whether there is such a peer.
    pub fn handshake(&self, key: &PublicKey) -> bool {
        self.link().handshake(key, clock::now())
    }

    /// Connects to an inner address, waiting at most for `deadline`.
    ///
    /// # Errors
    /// When there is no way to the address, the far end refuses or does not answer, or too much is open.
    pub async fn connect(&self, remote: SocketAddr, deadline: Duration) -> Result<TunnelStream, ConnectError> {
        Ok(TunnelStream(match &self.running.stack {
            Stack::Netstack(stack) => Stream::Netstack(stack.connect(remote, deadline).await?),
            #[cfg(target_os = "linux")]
            Stack::Tun(tun) => Stream::Tun(tun.connect(remote, deadline).await?),
        }))
    }

    /// Listens on a port of the inner address.
    ///
    /// # Errors
    /// When the port is taken or the tunnel has stopped.
    pub fn listen(&self, port: u16) -> Result<TunnelListener, ListenError> {
        Ok(TunnelListener(match &self.running.stack {
            Stack::Netstack(stack) => Listener::Netstack(stack.listen(port)?),
            #[cfg(target_os = "linux")]
            Stack::Tun(tun) => Listener::Tun(tun.listen(port)?),
        }))
    }

    /// Stops the tunnel at once, without a word to the peers, and gives its port back; streams fail and listeners wait for
    /// ever.
    pub fn stop(&self) {
        self.running.stack.stop();
    }

    fn link(&self) -> &Link {
        with!(self, stack => &stack.link)
    }
}

impl Stack {
    async fn netstack(config: TunnelConfig, tcp: TcpSettings, tasks: &Tasks) -> Result<Self, TunnelError> {
        let TunnelConfig { private_key, listen, address, mtu, in_batches: _ } = config;
        let bound = Link::bind_patiently(listen, 1).await;
        let udp =
            bound.and_then(|sockets| sockets.into_iter().map(Udp::of_runtime).next().ok_or(io::ErrorKind::NotFound)?);
        let udp = udp.map_err(|source| TunnelError::Listen { address: listen, source })?;
        let link = Link::new(private_key, udp, Vec::new());
        let stack = Netstack::new(link, address, mtu, tcp);
        stack.start(tasks);
        Ok(Self::Netstack(stack))
    }

    #[cfg(target_os = "linux")]
    async fn tun(config: TunnelConfig, tcp: TcpSettings, tasks: &Tasks) -> Result<Self, TunnelError> {
        Tun::start(config, tcp, tasks).await.map(Self::Tun)
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_async, reason = "the same function on Linux waits")]
    async fn tun(_: TunnelConfig, _: TcpSettings, _: &Tasks) -> Result<Self, TunnelError> {
        Err(TunnelError::NeedsLinux)
    }

    fn stop(&self) {
        match self {
            Self::Netstack(stack) => stack.stop(),
            #[cfg(target_os = "linux")]
            Self::Tun(tun) => tun.stop(),
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("key", &self.public_key()).field("local", &self.local_addr()).finish()
    }
}
