mod sockets;

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, DuplexStream, ReadBuf, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::*;
use crate::tasks::Task;

/// The kernel withholds nothing for much longer.
pub(super) const WITHHELD: Duration = Duration::from_millis(150);

/// Both ends of a connection.
pub(super) async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// How much has arrived, without waiting for it: over the loopback interface it is there when it was sent.
pub(super) fn arrived(socket: &TcpStream) -> usize {
    let mut space = [std::mem::MaybeUninit::uninit(); 100];
    socket2::SockRef::from(socket).peek(&mut space).unwrap_or(0)
}

/// A relay between two pipes that hold `size` bytes each way: the far ends, and the relay's task.
fn between_pipes(size: usize) -> (DuplexStream, DuplexStream, Arc<Progress>, Task<RelayEnd>) {
    let (client, mut near_client) = duplex(size);
    let (upstream, mut near_upstream) = duplex(size);
    let progress = Arc::new(Progress::default());
    let watched = Arc::clone(&progress);
    let task = Task::spawn("relay", async move { relay(&mut near_client, &mut near_upstream, &watched).await });
    (client, upstream, progress, task)
}

async fn read_all(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn the_client_closes_first_and_still_gets_the_answer() {
    let (mut client, mut upstream, _, task) = between_pipes(64);
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut upstream).await, b"question");
    upstream.write_all(b"a longer answer").await.unwrap();
    drop(upstream);
    assert_eq!(read_all(&mut client).await, b"a longer answer");
    let end = task.join().await.unwrap();
    assert_eq!((end.to_upstream, end.to_client), (8, 15));
    assert!(end.error.is_none());
}

#[tokio::test]
async fn the_upstream_closes_first_and_still_gets_the_rest() {
    let (mut client, mut upstream, _, task) = between_pipes(64);
    upstream.write_all(b"enough").await.unwrap();
    upstream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"enough");
    client.write_all(b"the rest").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut upstream).await, b"the rest");
    let end = task.join().await.unwrap();
    assert_eq!((end.to_upstream, end.to_client), (8, 6));
    assert!(end.error.is_none());
}

#[tokio::test]
async fn progress_can_be_read_while_the_relay_runs() {
    let (mut client, mut upstream, progress, _task) = between_pipes(64);
    client.write_all(b"12345").await.unwrap();
    upstream.write_all(b"123").await.unwrap();
    upstream.read_exact(&mut [0; 5]).await.unwrap();
    client.read_exact(&mut [0; 3]).await.unwrap();
    assert_eq!((progress.to_upstream(), progress.to_client()), (5, 3));
}

#[tokio::test]
async fn a_slow_reader_slows_its_writer_and_loses_nothing() {
    const PIPE: usize = 1000;
    let (mut client, mut upstream, progress, task) = between_pipes(PIPE);
    let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut given = 0;
    // Nobody reads yet: the pipes and the relay fill up, and then the writer has to wait.
    while let Some(rest) = sent.get(given..) {
        let write = tokio::time::timeout(Duration::from_millis(50), client.write(rest));
        let Ok(count) = write.await else { break };
        given += count.unwrap();
    }
    assert!((2 * PIPE..=3 * PIPE + 16 * 1024).contains(&given), "{given}");
    assert_eq!(progress.to_upstream(), PIPE as u64);
    // The other direction does not care.
    upstream.write_all(b"still here").await.unwrap();
    client.read_exact(&mut [0; 10]).await.unwrap();

    let rest = sent[given..].to_vec();
    let writer = Task::spawn("writer", async move {
        client.write_all(&rest).await.unwrap();
        client.shutdown().await.unwrap();
    });
    assert!(read_all(&mut upstream).await == sent, "the bytes arrived changed");
    drop(upstream);
    writer.join().await.unwrap();
    assert_eq!(task.join().await.unwrap().to_upstream, sent.len() as u64);
}

#[test]
fn an_idle_relay_is_small() {
    let (mut a, _far_a) = duplex(1);
    let (mut b, _far_b) = duplex(1);
    let progress = Progress::default();
    let size = size_of_val(&relay(&mut a, &mut b, &progress));
    assert!(size < 1024, "{size} bytes");
}

#[tokio::test]
async fn a_destination_that_buffers_is_flushed_when_the_source_pauses() {
    let (mut client, mut near_client) = duplex(64);
    let (mut upstream, near_upstream) = duplex(64);
    let _task = Task::spawn("relay", async move {
        let mut buffered = BufWriter::new(near_upstream);
        relay(&mut near_client, &mut buffered, &Progress::default()).await
    });
    client.write_all(b"now").await.unwrap();
    let mut read = [0; 3];
    upstream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"now");
}

/// A stream whose reads or writes do what a test says.
struct Scripted {
    read: Read,
    broken_write: Option<io::ErrorKind>,
}

enum Read {
    Fails(io::ErrorKind),
    Pends,
    Endless,
    Says(&'static [u8]),
}

impl AsyncRead for Scripted {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.read {
            Read::Fails(kind) => Poll::Ready(Err(kind.into())),
            Read::Pends => Poll::Pending,
            Read::Endless => {
                into.initialize_unfilled();
                into.set_filled(into.capacity());
                Poll::Ready(Ok(()))
            }
            Read::Says(bytes) => {
                into.put_slice(bytes);
                self.read = Read::Says(b"");
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.broken_write.map_or(Ok(bytes.len()), |kind| Err(kind.into())))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn broken(mut client: Scripted, mut upstream: Scripted) -> (RelayEnd, String) {
    let end = relay(&mut client, &mut upstream, &Progress::default()).await;
    let text = end.error.as_ref().map(ToString::to_string).unwrap_or_default();
    (end, text)
}

#[tokio::test]
async fn an_error_names_its_side_and_direction() {
    let idle = || Scripted { read: Read::Pends, broken_write: None };
    let reset = || Scripted { read: Read::Fails(io::ErrorKind::ConnectionReset), broken_write: None };
    let (end, text) = broken(reset(), idle()).await;
    let error = end.error.unwrap();
    assert_eq!((error.side, error.direction), (Side::Client, Direction::Read));
    assert_eq!(text, "reading from the client: connection reset");

    let (end, text) = broken(idle(), reset()).await;
    let error = end.error.unwrap();
    assert_eq!((error.side, error.direction), (Side::Upstream, Direction::Read));
    assert_eq!(text, "reading from the upstream: connection reset");

    let deaf = Scripted { read: Read::Says(b""), broken_write: Some(io::ErrorKind::BrokenPipe) };
    let (end, text) = broken(deaf, Scripted { read: Read::Says(b"words"), broken_write: None }).await;
    let error = end.error.unwrap();
    assert_eq!((error.side, error.direction), (Side::Client, Direction::Write));
    assert_eq!(text, "writing to the client: broken pipe");
    assert_eq!(end.to_client, 0);
}

#[tokio::test]
async fn the_last_words_of_a_deaf_upstream_reach_the_client() {
    let (mut client, mut near_client) = duplex(64);
    client.write_all(b"more").await.unwrap();
    let mut upstream = Scripted { read: Read::Says(b"FATAL"), broken_write: Some(io::ErrorKind::BrokenPipe) };
    let end = relay(&mut near_client, &mut upstream, &Progress::default()).await;
    drop(near_client);
    assert_eq!(end.error.unwrap().side, Side::Upstream);
    assert_eq!(read_all(&mut client).await, b"FATAL");
}

#[tokio::test(start_paused = true)]
async fn a_deaf_upstream_that_says_nothing_is_not_waited_for_long() {
    let started = Instant::now();
    let talker = Scripted { read: Read::Says(b"words"), broken_write: None };
    let deaf = Scripted { read: Read::Pends, broken_write: Some(io::ErrorKind::BrokenPipe) };
    let (end, _) = broken(talker, deaf).await;
    assert_eq!(end.error.unwrap().direction, Direction::Write);
    let waited = started.elapsed();
    assert!((LAST_WORDS..LAST_WORDS * 2).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn an_endless_source_leaves_time_for_others() {
    let endless = Scripted { read: Read::Endless, broken_write: None };
    let sink = Scripted { read: Read::Pends, broken_write: None };
    let progress = Arc::new(Progress::default());
    let watched = Arc::clone(&progress);
    let task = Task::spawn("relay", async move {
        let (mut endless, mut sink) = (endless, sink);
        relay(&mut endless, &mut sink, &watched).await
    });
    // One thread: these lines only run if the relay gives way.
    while progress.to_upstream() == 0 {
        tokio::task::yield_now().await;
    }
    task.stop().await;
}

#[tokio::test]
async fn a_real_reset_ends_the_relay() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    let (_upstream, mut near_upstream) = duplex(64);
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    let progress = Progress::default();
    let ended = relay(&mut accepted, &mut near_upstream, &progress);
    let (end, ()) = tokio::join!(ended, async { drop(client) });
    let error = end.error.unwrap();
    assert_eq!((error.side, error.direction), (Side::Client, Direction::Read));
    assert_eq!(error.source.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_dropped_relay_has_moved_what_progress_says() {
    let (mut client, mut upstream, progress, task) = between_pipes(64);
    client.write_all(b"12345").await.unwrap();
    upstream.read_exact(&mut [0; 5]).await.unwrap();
    task.stop().await;
    assert_eq!(progress.to_upstream(), 5);
    assert_eq!(read_all(&mut upstream).await, b"");
}

/// Says something, and is reset right behind it.
struct LastWords(Option<&'static [u8]>);

impl AsyncRead for LastWords {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.0.take() {
            Some(words) => {
                into.put_slice(words);
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for LastWords {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_was_said_before_a_reset_is_delivered() {
    let (mut far, near) = duplex(64);
    // Holds everything back until it is flushed, as TLS may.
    let mut client = BufWriter::new(near);
    let mut upstream = LastWords(Some(b"FATAL: going down"));
    let relayed = relay(&mut client, &mut upstream, &Progress::default()).await;
    let error = relayed.error.unwrap();
    assert_eq!((error.side, error.direction), (Side::Upstream, Direction::Read));
    let mut heard = [0; 17];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"FATAL: going down");
}
