//! Reading a socket of the kernel, at the price of one system call.

use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads what has arrived at a socket, as far as there is room for it; nothing when nothing more will arrive.
///
/// A socket that gives less than there is room for is empty, and is waited for from then on: asking it again would only cost
/// a system call that says so.
pub(super) fn poll_receive<'a>(
    cx: &mut Context<'_>,
    socket: &TcpStream,
    space: &'a mut [MaybeUninit<u8>],
) -> Poll<io::Result<&'a [u8]>> {
    ready!(socket.poll_read_ready(cx))?;
    let room = space.len();
    let mut received: Option<&[u8]> = None;
    // What the attempt says of the socket is meant for the one who waits for it. It is said from within, where an event that
    // comes in between is not lost.
    let attempt = socket.try_io(Interest::READABLE, || {
        let (bytes, _) = rustix::io::read(socket, space)?;
        received = Some(bytes);
        if (1..room).contains(&bytes.len()) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match (received, attempt) {
        (Some(bytes), _) => Poll::Ready(Ok(bytes)),
        (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
        (None, _) => {
            // It was empty already. Whoever asks next registers to be woken.
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;

    use super::super::tests::connection;
    use super::*;

    async fn receive(socket: &TcpStream, room: usize) -> io::Result<Vec<u8>> {
        let mut space = vec![MaybeUninit::uninit(); room];
        poll_fn(|cx| poll_receive(cx, socket, &mut space).map_ok(<[u8]>::to_vec)).await
    }

    #[tokio::test]
    async fn every_byte_is_received_once_whether_or_not_it_fills_the_room() {
        let (near, mut far) = connection().await;
        for size in [1, 99, 100, 101, 250, 300] {
            let sent: Vec<u8> = (0..size).collect::<Vec<u16>>().iter().map(|number| number.to_le_bytes()[0]).collect();
            far.write_all(&sent).await.unwrap();
            let mut received = Vec::new();
            while received.len() < sent.len() {
                received.extend(receive(&near, 100).await.unwrap());
            }
            assert_eq!(received, sent);
        }
        far.shutdown().await.unwrap();
        assert_eq!(receive(&near, 100).await.unwrap(), b"");
        assert_eq!(receive(&near, 100).await.unwrap(), b"", "an end stays an end");
    }

    #[tokio::test]
    async fn an_empty_socket_is_waited_for_and_not_asked_again_and_again() {
        let (near, mut far) = connection().await;
        let mut asked = 0;
        let mut space = [MaybeUninit::uninit(); 100];
        let waiting = poll_fn(|cx| {
            asked += 1;
            poll_receive(cx, &near, &mut space).map_ok(<[u8]>::to_vec)
        });
        let later = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            far.write_all(b"late").await.unwrap();
        };
        let (received, ()) = tokio::join!(waiting, later);
        assert_eq!(received.unwrap(), b"late");
        assert!(asked < 10, "{asked}");
    }
}
