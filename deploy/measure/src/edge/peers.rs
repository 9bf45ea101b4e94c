//! Who is compared: what clients connect to, and the tunnel behind it.

use std::fmt;

use clap::ValueEnum;

/// An edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Peer {
    /// The gateway: its relay and its tunnel
    Gateway,
    /// The gateway where it may have no network interface: the TCP of its tunnel is in the process
    GatewayNetstack,
    /// HAProxy over the gateway's tunnel
    HaproxyPostern,
    /// HAProxy over wireguard-go
    HaproxyWireguardGo,
    /// HAProxy over boringtun-cli
    HaproxyBoringtun,
    /// nginx over wireguard-go
    NginxWireguardGo,
    /// nginx over boringtun-cli
    NginxBoringtun,
    /// The gateway's relay without a tunnel, in a program of the benchmark's own
    Passthrough,
    /// HAProxy without a tunnel
    Haproxy,
    /// nginx without a tunnel
    Nginx,
}

/// What clients connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Proxy {
    Gateway,
    Haproxy,
    Nginx,
    Passthrough,
}

/// What leads from there to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Postern,
    /// The gateway's tunnel, without a network interface.
    Netstack,
    WireguardGo,
    Boringtun,
    /// No tunnel.
    Plain,
}

impl Peer {
    pub(super) fn proxy(self) -> Proxy {
        match self {
            Self::Gateway | Self::GatewayNetstack => Proxy::Gateway,
            Self::HaproxyPostern | Self::HaproxyWireguardGo | Self::HaproxyBoringtun | Self::Haproxy => Proxy::Haproxy,
            Self::NginxWireguardGo | Self::NginxBoringtun | Self::Nginx => Proxy::Nginx,
            Self::Passthrough => Proxy::Passthrough,
        }
    }

    pub(super) fn way(self) -> Way {
        match self {
            Self::Gateway | Self::HaproxyPostern => Way::Postern,
            Self::GatewayNetstack => Way::Netstack,
            Self::HaproxyWireguardGo | Self::NginxWireguardGo => Way::WireguardGo,
            Self::HaproxyBoringtun | Self::NginxBoringtun => Way::Boringtun,
            Self::Passthrough | Self::Haproxy | Self::Nginx => Way::Plain,
        }
    }
}

impl Way {
    /// Whether it is a tunnel of ours.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Postern | Self::Netstack)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.proxy(), self.way()) {
            (Proxy::Gateway, Way::Netstack) => f.write_str("the gateway without an interface"),
            (Proxy::Gateway, _) => f.write_str("the gateway"),
            (proxy, Way::Plain) => write!(f, "{proxy}, no tunnel"),
            (proxy, way) => write!(f, "{proxy} over {way}"),
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "the gateway",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Passthrough => "the gateway's relay",
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postern => "the gateway's tunnel",
            Self::Netstack => "the gateway's tunnel without an interface",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun-cli",
            Self::Plain => "no tunnel",
        })
    }
}
