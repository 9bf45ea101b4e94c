//! WireGuard tunnels that carry TCP connections between the gateway and the sidecars.
//!
//! A [`Tunnel`] is one end with one UDP socket and any number of peers. Callers connect and listen through it and get
//! [`TunnelStream`]s; which [`Datapath`] carries the bytes is decided at the start and cannot be told from outside.

mod batch;
mod clock;
mod config;
mod error;
mod key;
mod link;
mod lock;
mod meters;
mod netstack;
mod tunnel;

pub use config::{DEFAULT_MTU, Datapath, Peer, PeerStatus, TcpSettings, TunnelConfig};
pub use error::{ConnectError, ListenError, TunnelError};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use tunnel::{Tunnel, TunnelListener, TunnelStream};
