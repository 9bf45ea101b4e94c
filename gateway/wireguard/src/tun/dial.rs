//! Connections that this end opens.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_plumbing::dial;
use smoltcp::wire::IpAddress;

use super::{Stream, Tun, sockets};
use crate::error::ConnectError;

impl Tun {
    pub(crate) async fn connect(
        self: &Arc<Self>,
        remote: SocketAddr,
        deadline: Duration,
    ) -> Result<Stream, ConnectError> {
        let outcome = self.try_connect(remote, deadline).await;
        self.link.meters.connected(&outcome);
        outcome
    }

    async fn try_connect(&self, remote: SocketAddr, deadline: Duration) -> Result<Stream, ConnectError> {
        if remote.port() == 0
            || !IpAddress::from(remote.ip()).is_unicast()
            || remote.is_ipv4() != self.address.is_ipv4()
        {
            return Err(ConnectError::Address);
        }
        let peer = self.link.route(remote.ip()).ok_or(ConnectError::NoRoute)?;
        if !self.link.has_endpoint(&peer) {
            return Err(ConnectError::NoEndpoint);
        }
        let place = self.connections.enter().ok_or(ConnectError::Exhausted)?;
        let socket = sockets::new(self.device.name(), remote).map_err(|error| failure(&error))?;
        sockets::tune(&socket, &self.tcp).map_err(|error| failure(&error))?;
        let socket = dial::connecting(socket).map_err(|error| failure(&error))?;
        let connected = tokio::time::timeout(deadline, socket.connect(remote));
        let socket = connected.await.map_err(|_| ConnectError::TimedOut)?.map_err(|error| failure(&error))?;
        Stream::new(self, place, socket, remote, peer).map_err(|_| ConnectError::Removed)
    }
}

fn failure(error: &io::Error) -> ConnectError {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut,
    };
    let is = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
    if is(&[ConnectionRefused, ConnectionReset]) {
        ConnectError::Refused
    } else if is(&[TimedOut]) {
        ConnectError::TimedOut
    } else if is(&[HostUnreachable, NetworkUnreachable, NetworkDown]) {
        ConnectError::NoRoute
    } else {
        // No port, no descriptor or no memory is left.
        ConnectError::Exhausted
    }
}
