//! What is asked of the kernel's sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::config::TcpSettings;

/// How often a silent far end is asked before `user_timeout` gives it up.
const PROBES: u32 = 3;

/// A socket that sends and receives through one interface only.
pub(super) fn new(interface: &str, like: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(like), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

/// A socket as the runtime knows it.
pub(super) fn connecting(socket: Socket) -> TcpSocket {
    TcpSocket::from_std_stream(socket.into())
}

/// No delay for small packets, and a far end that is gone is noticed.
pub(super) fn tune(socket: &Socket, tcp: &TcpSettings) -> io::Result<()> {
    let between = (tcp.user_timeout.saturating_sub(tcp.keepalive) / PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(tcp.keepalive).with_interval(between).with_retries(PROBES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(tcp.user_timeout))
}

/// Makes closing a socket a reset instead of an end of the stream.
pub(super) fn reset_when_closed(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Sends a reset to the far end and ends the connection, whoever has the socket. Readers and writers are woken.
///
/// Connecting to no address is how a socket is told to forget its peer (connect(2), AF_UNSPEC); to a TCP connection that
/// means a reset.
pub(super) fn reset(stream: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(stream)?)
}
