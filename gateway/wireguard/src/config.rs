//! What a tunnel is told, and what it tells about its peers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::key::{PrivateKey, PublicKey};

/// The MTU of a tunnel over links of 1500 bytes, with room for an IPv6 outer header: 1500 - 40 - 8 - 32.
pub const DEFAULT_MTU: u16 = 1420;

/// This end of the tunnel.
#[derive(Debug, Clone)]
pub struct TunnelConfig {
    /// The key of this end.
    pub private_key: PrivateKey,
    /// The UDP address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// The address of this end inside the tunnel.
    pub address: IpAddr,
    /// The largest inner packet of any peer, in bytes: 576 (1280 with an IPv6 inner address) to 9216; usually
    /// [`DEFAULT_MTU`].
    pub mtu: u16,
    /// Whether the threads of [`Datapath::Tun`] work in batches ([`postern_plumbing::schedule::batch`]). That takes less CPU
    /// time; where other programs want all processors, packets wait for them.
    pub in_batches: bool,
}

/// How inner packets become connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Datapath {
    /// [`Datapath::Tun`] where this process may have an interface, and [`Datapath::Netstack`] elsewhere.
    #[default]
    Auto,
    /// A network interface, with TCP in the kernel. Needs Linux and CAP_NET_ADMIN, and no two ends of tunnels to each other
    /// on one machine: the kernel delivers between its own addresses without asking any tunnel.
    Tun,
    /// TCP in this process. Needs no privileges.
    Netstack,
}

impl fmt::Display for Datapath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Tun => "tun",
            Self::Netstack => "netstack",
        })
    }
}

impl FromStr for Datapath {
    type Err = UnknownDatapath;

    fn from_str(text: &str) -> Result<Self, UnknownDatapath> {
        match text {
            "auto" => Ok(Self::Auto),
            "tun" => Ok(Self::Tun),
            "netstack" => Ok(Self::Netstack),
            _ => Err(UnknownDatapath),
        }
    }
}

/// A text that names no [`Datapath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected \"auto\", \"tun\" or \"netstack\"")]
pub struct UnknownDatapath;

/// The timing of inner TCP connections, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSettings {
    /// After this much silence on an idle connection the far end is asked whether it is still there.
    pub keepalive: Duration,
    /// A connection whose far end has not been heard for this long, though it owed an answer, is given up.
    pub user_timeout: Duration,
    /// The most connections at a time, both ways together. More are refused, as each may come to hold 128 KiB.
    pub max_connections: usize,
    /// The most connections that may wait at one listener until they are accepted, those in their handshake included.
    pub backlog: usize,
}

impl Default for TcpSettings {
    /// A dead far end is noticed within 90 seconds, having missed two of three questions.
    fn default() -> Self {
        Self {
            keepalive: Duration::from_secs(30),
            user_timeout: Duration::from_secs(90),
            max_connections: 16_384,
            backlog: 512,
        }
    }
}

/// A far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its key, which is its name.
    pub public_key: PublicKey,
    /// Where its datagrams go until it is heard from somewhere else. Without one, the peer has to speak first.
    pub endpoint: Option<SocketAddr>,
    /// The inner addresses it may send from and that are sent to it (AllowedIPs). An address belongs to one peer: the
    /// last one that claimed it, and among overlapping claims the narrowest.
    pub allowed: Vec<IpNet>,
    /// Seconds between packets that keep address translators in between open, and that keep this end trying when the
    /// peer cannot be reached. Set it at the end that can be lost from the other's sight.
    pub keepalive: Option<u16>,
    /// The largest inner packet to and from it, in bytes, where that is less than [`TunnelConfig::mtu`]; what is out of
    /// range counts as the nearest that is not. A change holds for connections that are opened after it, and may hold for
    /// what this end sends on older ones.
    pub mtu: Option<u16>,
}

/// What is known of a far end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its key.
    pub public_key: PublicKey,
    /// Where it was last heard from, or was said to be.
    pub endpoint: Option<SocketAddr>,
    /// The largest inner packet, in bytes, where it is not the tunnel's.
    pub mtu: Option<u16>,
    /// The time since the last completed handshake.
    pub last_handshake: Option<Duration>,
    /// The time since the last authentic packet of any kind.
    pub last_received: Option<Duration>,
    /// Bytes received in authentic packets, with WireGuard's own.
    pub rx: u64,
    /// Bytes sent, with WireGuard's own.
    pub tx: u64,
}
