//! The ends of connections that callers hold.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

use super::Netstack;
use super::connection::Connection;
use super::flow::Flow;
use super::listener::Accepting;
use crate::key::PublicKey;

/// A connection; dropping it ends it.
pub(crate) struct Stream {
    pub(super) stack: Arc<Netstack>,
    pub(super) flow: Arc<Flow>,
}

/// A port that is listened on; dropping it ends that.
pub(crate) struct Listener {
    pub(super) stack: Arc<Netstack>,
    pub(super) accepting: Arc<Accepting>,
}

impl Stream {
    pub(crate) fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.stack.address, self.flow.key.port)
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.flow.key.remote
    }

    pub(crate) fn peer_key(&self) -> PublicKey {
        self.flow.peer.key
    }

    /// Does something with the connection, and sends what follows from it when it is `Ready`.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Connection) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Some(mut state) = self.flow.lock() else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        let outcome = act(&mut state.connection);
        if outcome.is_ready() {
            self.stack.advance(&self.flow, &mut state);
        }
        outcome
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let budget = ready!(coop::poll_proceed(cx));
        let outcome = self.with(|connection| connection.poll_read(cx, buf));
        if outcome.is_ready() {
            budget.made_progress();
        }
        outcome
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let budget = ready!(coop::poll_proceed(cx));
        let outcome = self.with(|connection| connection.poll_write(cx, slices));
        if outcome.is_ready() {
            budget.made_progress();
        }
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|connection| Poll::Ready(connection.shutdown()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(mut state) = self.flow.lock() else { return };
        if state.listed {
            state.connection.abandon(self.stack.tcp_now());
            self.stack.advance(&self.flow, &mut state);
        }
    }
}

impl Listener {
    pub(crate) fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.stack.address, self.accepting.port)
    }

    pub(crate) async fn accept(&self) -> Stream {
        Stream { stack: Arc::clone(&self.stack), flow: self.accepting.accept().await }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stack.unlisten(&self.accepting);
    }
}
