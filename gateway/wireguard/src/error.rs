//! What can fail, and on which side.

use std::io;
use std::net::SocketAddr;

/// A tunnel could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// The UDP socket could not be had.
    #[error("cannot listen for tunnel packets on UDP {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The network interface could not be had.
    #[error("cannot have a network interface for the tunnel: {0}")]
    Interface(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread for the tunnel: {0}")]
    Thread(#[source] io::Error),
    /// The datapath does not exist on this system.
    #[error("the datapath \"tun\" needs Linux")]
    NeedsLinux,
    /// The inner address cannot be an end of a connection.
    #[error("the inner address must be a unicast address")]
    Address,
    /// The MTU is out of range.
    #[error("the tunnel's MTU must be {least} to {most}, not {given}")]
    Mtu {
        /// The smallest for this inner address family.
        least: u16,
        /// The largest.
        most: u16,
        /// What was asked for.
        given: u16,
    },
}

/// A connection through the tunnel could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be connected to: port 0, not unicast, or of the other address family.
    #[error("not an address that can be connected to through this tunnel")]
    Address,
    /// No peer owns the address.
    #[error("no peer of the tunnel owns the address")]
    NoRoute,
    /// The peer has not been heard from yet, and nobody has said where it is.
    #[error("the peer's place on the network is not known yet")]
    NoEndpoint,
    /// The far end has nothing listening on the port.
    #[error("connection refused by the far end")]
    Refused,
    /// The deadline has passed, or the far end did not answer for the user timeout.
    #[error("no answer from the far end in time")]
    TimedOut,
    /// Too many connections are open, or none of the local ports is free towards this address.
    #[error("too many connections through the tunnel")]
    Exhausted,
    /// The peer was removed, or the tunnel stopped.
    #[error("the tunnel to the peer was taken down")]
    Removed,
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        let kind = match error {
            ConnectError::Address => io::ErrorKind::AddrNotAvailable,
            ConnectError::NoRoute | ConnectError::NoEndpoint => io::ErrorKind::HostUnreachable,
            ConnectError::Refused => io::ErrorKind::ConnectionRefused,
            ConnectError::TimedOut => io::ErrorKind::TimedOut,
            ConnectError::Exhausted => io::ErrorKind::QuotaExceeded,
            ConnectError::Removed => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}

/// A port could not be listened on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Port 0 is not a port.
    #[error("port 0 cannot be listened on")]
    Port,
    /// Somebody listens on it already.
    #[error("port {0} of the tunnel is already listened on")]
    InUse(u16),
    /// The tunnel has stopped.
    #[error("the tunnel has stopped")]
    Stopped,
    /// The system does not let us.
    #[error("cannot listen in the tunnel: {0}")]
    System(io::ErrorKind),
}
