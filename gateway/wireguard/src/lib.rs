//! WireGuard tunnels that carry TCP connections between the gateway and the sidecars.
//!
//! A [`Tunnel`] is one end with one UDP socket and any number of peers. Callers connect and listen through it and get
//! [`TunnelStream`]s; which [`Datapath`] carries the bytes is decided at the start and cannot be told from outside.
//!
//! Inside there are two halves. `link` is the encrypted side: the UDP socket, the peers and their sessions, which inner
//! address is whose. It takes and gives whole IP packets. A datapath makes connections of those: `tun` with a network
//! interface and the kernel's TCP, `netstack` with smoltcp in this process. Cryptography and handshakes are boringtun's.
//!
//! Metrics are called `postern_tunnel_…`. boringtun logs every handshake that it has to repeat as a warning and every
//! peer that it gives up as an error; as peers come and go, a log filter may want to say `boringtun=off`.

mod batch;
mod clock;
mod config;
mod error;
mod key;
mod link;
mod lock;
mod meters;
mod netstack;
mod segment;
mod stream;
#[cfg(target_os = "linux")]
mod tun;
mod tunnel;

pub use config::{DEFAULT_MTU, Datapath, Peer, PeerStatus, TcpSettings, TunnelConfig, UnknownDatapath};
pub use error::{ConnectError, ListenError, TunnelError};
pub use key::{KeyError, PrivateKey, PublicKey};
pub use stream::{TunnelListener, TunnelStream};
pub use tunnel::Tunnel;
