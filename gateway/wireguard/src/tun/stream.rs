//! The ends of connections that callers hold.

use std::future::pending;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use postern_plumbing::accept;
use socket2::SockRef;
use std::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::coop;

use super::connections::{Connection, Place};
use super::{Tun, sockets};
use crate::error::ListenError;
use crate::key::PublicKey;
use crate::link::Peer;

/// A connection; dropping it ends it.
pub(crate) struct Stream {
    connection: Arc<Connection>,
    /// Whether this end has said that it sends nothing more.
    finished: bool,
}

/// A port that is listened on; dropping it ends that.
pub(crate) struct Listener {
    tun: Arc<Tun>,
    socket: TcpListener,
    local: SocketAddr,
}

impl Stream {
    /// A connection of a peer that is there.
    pub(super) fn new(
        tun: &Tun,
        place: Place,
        socket: TcpStream,
        remote: SocketAddr,
        peer: Arc<Peer>,
    ) -> io::Result<Self> {
        let connection = tun.connections.list(place, socket, remote, peer);
        // Whoever removes the peer from now on finds the connection; who has removed it before did not.
        if connection.peer().is_removed() || tun.shutdown.is_triggered() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(Self { connection, finished: false })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.connection.local()
    }

    pub(crate) fn peer_addr(&self) -> SocketAddr {
        self.connection.remote()
    }

    pub(crate) fn peer_key(&self) -> PublicKey {
        self.connection.peer_key()
    }

    /// The socket. One that was cut is reset, and says so to whoever uses it.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.connection.socket
    }

    /// Tries until the socket is no longer in the way.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        is_ready: impl Fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>,
        mut attempt: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let budget = ready!(coop::poll_proceed(cx));
        loop {
            self.connection.check()?;
            ready!(is_ready(&self.connection.socket, cx))?;
            match attempt(&self.connection.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    budget.made_progress();
                    // A socket that was reset under way says that it is not connected.
                    return Poll::Ready(outcome.map_err(|error| self.connection.check().err().unwrap_or(error)));
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // Not into initialized memory: a small answer would cost the zeroes of a whole buffer.
        self.poll(cx, TcpStream::poll_read_ready, |socket| socket.try_read_buf(buf).map(drop))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, TcpStream::poll_write_ready, |socket| socket.try_write(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, TcpStream::poll_write_ready, |socket| socket.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.check()?;
        if mem::replace(&mut self.finished, true) {
            return Poll::Ready(Ok(()));
        }
        match SockRef::from(&self.connection.socket).shutdown(Shutdown::Write) {
            // The far end has ended the connection already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            outcome => Poll::Ready(outcome),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = sockets::reset_when_closed(&self.connection.socket)
        {
            tracing::debug!(%error, "a broken connection is closed as if it were whole");
        }
    }
}

impl Listener {
    pub(super) fn open(tun: &Arc<Tun>, port: u16) -> Result<Self, ListenError> {
        if port == 0 {
            return Err(ListenError::Port);
        }
        let local = SocketAddr::new(tun.address, port);
        let backlog = i32::try_from(tun.tcp.backlog).unwrap_or(i32::MAX);
        let open = || {
            let socket = sockets::new(tun.device.name(), local)?;
            // What is accepted inherits it.
            sockets::tune(&socket, &tun.tcp)?;
            socket.set_reuse_address(true)?;
            socket.bind(&local.into())?;
            socket.listen(backlog)?;
            TcpListener::from_std(socket.into())
        };
        match open() {
            Ok(socket) => Ok(Self { tun: Arc::clone(tun), socket, local }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(ListenError::InUse(port)),
            Err(error) => Err(ListenError::System(error.kind())),
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) async fn accept(&self) -> Stream {
        loop {
            let accepted = tokio::select! {
                accepted = accept::next(&self.socket) => accepted,
                () = self.tun.shutdown.triggered() => return pending().await,
            };
            let (socket, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::error!(%error, port = self.local.port(), "the tunnel accepts no more connections");
                    return pending().await;
                }
            };
            if let Some(stream) = self.admit(socket, remote) {
                self.tun.link.meters.connection("in", "open");
                return stream;
            }
        }
    }

    /// Takes a connection on, unless there are too many or its peer is gone.
    fn admit(&self, socket: TcpStream, remote: SocketAddr) -> Option<Stream> {
        let Some(place) = self.tun.connections.enter() else {
            self.tun.link.meters.connection("in", "exhausted");
            return refuse(&socket);
        };
        match self.tun.link.route(remote.ip()) {
            Some(peer) => Stream::new(&self.tun, place, socket, remote, peer).ok(),
            None => refuse(&socket),
        }
    }
}

/// Lets the far end know that nobody takes its connection.
fn refuse(socket: &TcpStream) -> Option<Stream> {
    if let Err(error) = sockets::reset_when_closed(socket) {
        tracing::debug!(%error, "a connection that is refused is closed as if it were whole");
    }
    None
}
