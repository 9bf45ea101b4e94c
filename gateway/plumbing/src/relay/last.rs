//! The last bytes that a socket is given, which travel in one packet with the end that follows them.

use std::io;
use std::task::{Context, Poll, ready};

use rustix::net::{SendFlags, send, sockopt};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Gives a socket what it takes of its last bytes. It withholds some of them until it is shut down, or [`push`]ed.
pub(super) fn poll_send(cx: &mut Context<'_>, socket: &TcpStream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        match socket.try_io(Interest::WRITABLE, || Ok(send(socket, bytes, SendFlags::MORE | SendFlags::NOSIGNAL)?)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return Poll::Ready(sent),
        }
    }
}

/// Has a socket send what it withholds: that is what happens when it is told not to delay (tcp(7), `TCP_NODELAY`).
pub(super) fn push(socket: &TcpStream) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, true)?)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Shutdown;
    use std::time::Duration;

    use socket2::SockRef;
    use tokio::io::AsyncReadExt as _;
    use tokio::time::Instant;

    use super::super::tests::{WITHHELD, arrived, connection};
    use super::*;

    #[tokio::test]
    async fn last_bytes_wait_for_the_end_that_takes_them_along() {
        let (near, mut far) = connection().await;
        let started = Instant::now();
        assert_eq!(poll_fn(|cx| poll_send(cx, &near, b"good night")).await.unwrap(), 10);
        assert!(arrived(&far) == 0 || started.elapsed() > WITHHELD);
        SockRef::from(&near).shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"good night");
    }

    #[tokio::test]
    async fn bytes_that_were_not_the_last_are_pushed() {
        let mut fastest = Duration::MAX;
        // A machine with much to do is late now and then, but not always.
        for _ in 0..20 {
            let (near, mut far) = connection().await;
            let started = Instant::now();
            assert_eq!(poll_fn(|cx| poll_send(cx, &near, b"good night")).await.unwrap(), 10);
            push(&near).unwrap();
            far.read_exact(&mut [0; 10]).await.unwrap();
            fastest = fastest.min(started.elapsed());
        }
        assert!(fastest < WITHHELD, "{fastest:?}");
    }
}
