//! How a connection came to the sidecar.

use std::net::{IpAddr, SocketAddr};

use postern_pgwire::cancel::Slot;

use super::proxy_header::ProxyHeader;

/// What is known of a connection before its first byte.
#[derive(Debug)]
pub struct Arrival {
    /// The client's address, as far as it is known.
    pub client: Option<SocketAddr>,
    /// The slot that cancel keys must name so that the gateway finds the way back.
    pub slot: Slot,
    /// The gateway has answered an SSLRequest already.
    pub negotiated: bool,
    /// The gateway's number for the connection.
    pub connection: Option<String>,
    /// `direct` or `tunnel`, for metrics.
    pub way: &'static str,
}

impl Arrival {
    /// A connection to the sidecar's own listener.
    #[must_use]
    pub fn direct(client: Option<SocketAddr>) -> Self {
        Self { client, slot: Slot::NONE, negotiated: false, connection: None, way: "direct" }
    }

    /// A connection through a tunnel, introduced by its gateway.
    #[must_use]
    pub fn tunnel(header: ProxyHeader, slot: Slot) -> Self {
        Self {
            client: header.client,
            slot,
            negotiated: header.postgres_negotiated,
            connection: header.connection,
            way: "tunnel",
        }
    }

    /// A connection through a tunnel that its gateway has not introduced.
    #[must_use]
    pub fn stranger(slot: Slot) -> Self {
        Self::tunnel(ProxyHeader::default(), slot)
    }

    /// The client's address without its port.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        self.client.map(|client| client.ip())
    }
}
