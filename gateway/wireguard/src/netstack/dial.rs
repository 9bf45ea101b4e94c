//! Connections that this end opens.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use smoltcp::wire::IpAddress;

use super::connection::{Connection, Ending};
use super::flow::{Flow, FlowKey};
use super::{Netstack, Stream};
use crate::clock;
use crate::error::ConnectError;
use crate::lock::lock;

impl Netstack {
    pub(crate) async fn connect(
        self: &Arc<Self>,
        remote: SocketAddr,
        deadline: Duration,
    ) -> Result<Stream, ConnectError> {
        let outcome = self.try_connect(remote, deadline).await;
        self.link.meters.connected(&outcome);
        outcome
    }

    async fn try_connect(self: &Arc<Self>, remote: SocketAddr, deadline: Duration) -> Result<Stream, ConnectError> {
        let stream = self.dial(remote)?;
        let opened = poll_fn(|cx| match stream.flow.lock() {
            Some(mut state) => state.connection.poll_open(cx),
            None => Poll::Ready(Some(Ending::Removed)),
        });
        match tokio::time::timeout(deadline, opened).await {
            Ok(None) => Ok(stream),
            Ok(Some(Ending::Reset | Ending::Finished)) => Err(ConnectError::Refused),
            Ok(Some(Ending::Removed)) => Err(ConnectError::Removed),
            Ok(Some(Ending::TimedOut)) | Err(_) => Err(ConnectError::TimedOut),
        }
    }

    /// Begins a connection.
    fn dial(self: &Arc<Self>, remote: SocketAddr) -> Result<Stream, ConnectError> {
        if !IpAddress::from(remote.ip()).is_unicast() || remote.is_ipv4() != self.address.is_ipv4() {
            return Err(ConnectError::Address);
        }
        let peer = self.link.route(remote.ip()).ok_or(ConnectError::NoRoute)?;
        if !self.link.has_endpoint(&peer) {
            return Err(ConnectError::NoEndpoint);
        }
        let now = clock::now();
        let flow = {
            let mut flows = lock(&self.flows);
            let port = flows.free_port(remote, now)?;
            let connection = Connection::outgoing(self.terms(port, &peer), remote, self.tcp_time(now));
            let flow = Flow::new(FlowKey { port, remote }, &peer, connection.ok_or(ConnectError::Address)?, None);
            flows.insert(&flow)?;
            flow
        };
        self.link.meters.connections.increment(1.0);
        if let Some(mut state) = flow.lock() {
            self.advance(&flow, &mut state);
        }
        Ok(Stream { stack: Arc::clone(self), flow })
    }
}
