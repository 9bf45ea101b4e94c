//! Connections and listeners as the rest of the house holds them. They hide which datapath carries the bytes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use postern_plumbing::relay::MaybeSocket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::key::PublicKey;
use crate::netstack;
#[cfg(target_os = "linux")]
use crate::tun;

/// Connections to a port of the tunnel. Dropping it closes the port and resets what was not accepted.
pub struct TunnelListener(pub(crate) Listener);

/// A TCP connection through the tunnel. Shutting down sends what was written and then FIN, and reading goes on; dropping
/// a stream that was not shut down resets the connection, so that the far end cannot take a broken stream for a whole one.
pub struct TunnelStream(pub(crate) Stream);

pub(crate) enum Listener {
    Netstack(netstack::Listener),
    #[cfg(target_os = "linux")]
    Tun(tun::Listener),
}

pub(crate) enum Stream {
    Netstack(netstack::Stream),
    #[cfg(target_os = "linux")]
    Tun(tun::Stream),
}

/// Does the same with the listener or stream of any datapath.
macro_rules! with {
    ($kind:ident, $which:expr, $inner:ident => $act:expr) => {
        match $which {
            $kind::Netstack($inner) => $act,
            #[cfg(target_os = "linux")]
            $kind::Tun($inner) => $act,
        }
    };
}

impl TunnelListener {
    /// The next connection, and the inner address of its far end, which belongs to the peer that sent it.
    pub async fn accept(&self) -> (TunnelStream, SocketAddr) {
        let stream = TunnelStream(match &self.0 {
            Listener::Netstack(listener) => Stream::Netstack(listener.accept().await),
            #[cfg(target_os = "linux")]
            Listener::Tun(listener) => Stream::Tun(listener.accept().await),
        });
        let remote = stream.peer_addr();
        (stream, remote)
    }

    /// The inner address and port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        with!(Listener, &self.0, listener => listener.local_addr())
    }
}

impl fmt::Debug for TunnelListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TunnelListener").field(&self.local_addr()).finish()
    }
}

impl TunnelStream {
    /// The inner address and port of this end.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        with!(Stream, &self.0, stream => stream.local_addr())
    }

    /// The inner address and port of the far end.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        with!(Stream, &self.0, stream => stream.peer_addr())
    }

    /// The key of the peer that the far end belongs to.
    #[must_use]
    pub fn peer_key(&self) -> PublicKey {
        with!(Stream, &self.0, stream => stream.peer_key())
    }
}

impl fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelStream").field("local", &self.local_addr()).field("peer", &self.peer_addr()).finish()
    }
}

impl MaybeSocket for TunnelStream {
    fn socket(&self) -> Option<&TcpStream> {
        match &self.0 {
            Stream::Netstack(_) => None,
            #[cfg(target_os = "linux")]
            Stream::Tun(stream) => Some(stream.socket()),
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with!(Stream, &mut self.0, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        with!(Stream, &mut self.0, stream => Pin::new(stream).poll_write(cx, data))
    }

    /// What is written at once travels together, as far as packets are large enough: TLS gives its records by the flight.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with!(Stream, &mut self.0, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(Stream, &mut self.0, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with!(Stream, &mut self.0, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
