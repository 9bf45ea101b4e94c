//! Connecting to somebody who is spoken to first.

use std::io;

use socket2::Socket;
use tokio::net::TcpSocket;

/// A socket that is about to connect, as the runtime knows it. It has to be one that does not block.
///
/// Whoever connects to an instance speaks at once and is answered soon. So what the far end sends is acknowledged by the bytes
/// that follow, where there are any within the kernel's delay, and not by a packet of its own: each costs a trip through the
/// tunnel, and a short session has more of them than of all others.
///
/// # Errors
/// What the system says.
pub fn connecting(socket: Socket) -> io::Result<TcpSocket> {
    socket.set_tcp_quickack(false)?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Protocol, SockRef, Type};

    use super::*;

    #[tokio::test]
    async fn who_connects_acknowledges_by_what_it_says() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP)).unwrap();
        assert!(socket.tcp_quickack().unwrap(), "as the system has it");
        let socket = connecting(socket).unwrap();
        assert!(!SockRef::from(&socket).tcp_quickack().unwrap());
    }
}
