//! What is asked of the kernel's sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use crate::config::TcpSettings;

/// How often a silent far end is asked before `user_timeout` gives it up.
const PROBES: u32 = 3;

/// A socket that sends and receives through one interface only.
pub(super) fn new(interface: &str, like: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(like), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

/// No delay for small packets, and a far end that is gone is noticed: by the time that it does not answer, whatever the number
/// of questions (tcp(7), `TCP_USER_TIMEOUT`).
pub(super) fn tune(socket: &Socket, tcp: &TcpSettings) -> io::Result<()> {
    let between = (tcp.user_timeout.saturating_sub(tcp.keepalive) / PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(tcp.keepalive).with_interval(between);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_tuned_and_so_is_what_a_listener_accepts() {
        let tcp = TcpSettings {
            keepalive: Duration::from_secs(30),
            user_timeout: Duration::from_secs(90),
            ..TcpSettings::default()
        };
        let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        tune(&listener, &tcp).unwrap();
        listener.listen(1).unwrap();
        let client = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        client.connect(&listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        for socket in [&listener, &accepted] {
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), tcp.keepalive);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(20));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(tcp.user_timeout));
        }
    }
}
