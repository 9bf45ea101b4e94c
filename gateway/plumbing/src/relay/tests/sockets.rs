//! Between two sockets of the kernel, where bulk goes through pipes.

use std::net::Shutdown;
use std::task::ready;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::sync::{Notify, oneshot};

use super::*;

/// Far more than what sockets and pipes hold.
const MUCH: usize = 24 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

struct Relayed {
    client: TcpStream,
    upstream: TcpStream,
    progress: Arc<Progress>,
    task: Task<RelayEnd>,
}

/// A relay between two sockets: the far ends, and the relay's task.
async fn between_sockets(pipes: &Pipes) -> Relayed {
    let ((client, mut near_client), (upstream, mut near_upstream)) = (connection().await, connection().await);
    let progress = Arc::new(Progress::default());
    let (watched, pipes) = (Arc::clone(&progress), pipes.clone());
    let task =
        Task::spawn(
            "relay",
            async move { relay_sockets(&mut near_client, &mut near_upstream, &watched, &pipes).await },
        );
    Relayed { client, upstream, progress, task }
}

/// Bytes of which no two neighbouring blocks are alike.
fn much(seed: u32) -> Vec<u8> {
    (0..u32::try_from(MUCH / 4).unwrap()).flat_map(|number| number.wrapping_mul(seed).to_le_bytes()).collect()
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Waits until something holds of the pipes.
async fn until(pipes: &Pipes, holds: impl Fn(usize) -> bool) {
    let waiting = async {
        while !holds(pipes.lent()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never held of the pipes");
}

/// Writes until nobody takes any more.
async fn fill(stream: &mut TcpStream) -> usize {
    let mut given = 0;
    let block = vec![7; 64 * 1024];
    while let Ok(count) = tokio::time::timeout(Duration::from_millis(300), stream.write(&block)).await {
        given += count.unwrap();
    }
    given
}

async fn bulk_goes_both_ways_whole_and_is_counted(pipes: Pipes) {
    let Relayed { client, upstream, progress, task } = between_sockets(&pipes).await;
    let (question, answer) = (much(2_654_435_761), much(40_503));
    let ((mut client_in, mut client_out), (mut upstream_in, mut upstream_out)) =
        (client.into_split(), upstream.into_split());
    let (heard, said, (), ()) = tokio::join!(
        receive(&mut upstream_in),
        receive(&mut client_in),
        send(&mut client_out, &question),
        send(&mut upstream_out, &answer),
    );
    assert!(heard == question, "the question arrived changed");
    assert!(said == answer, "the answer arrived changed");
    let end = task.join().await.unwrap();
    assert_eq!((end.to_upstream, end.to_client), (MUCH as u64, MUCH as u64));
    assert_eq!((progress.to_upstream(), progress.to_client()), (MUCH as u64, MUCH as u64));
    assert!(end.error.is_none());
    assert_eq!(pipes.lent(), 0);
}

#[tokio::test]
async fn bulk_between_sockets_is_whole_through_pipes() {
    bulk_goes_both_ways_whole_and_is_counted(Pipes::new(2)).await;
}

#[tokio::test]
async fn bulk_between_sockets_is_whole_where_only_one_direction_gets_a_pipe() {
    bulk_goes_both_ways_whole_and_is_counted(Pipes::new(1)).await;
}

#[tokio::test]
async fn bulk_between_sockets_is_whole_without_any_pipe() {
    bulk_goes_both_ways_whole_and_is_counted(Pipes::new(0)).await;
}

#[tokio::test]
async fn a_pipe_is_held_while_bytes_wait_in_it_and_given_back_when_they_have_gone() {
    let pipes = Pipes::new(8);
    let Relayed { mut client, mut upstream, progress, task: _task } = between_sockets(&pipes).await;
    let given = fill(&mut client).await;
    assert_eq!(pipes.lent(), 1, "the upstream does not read: bytes wait in a pipe of this direction alone");
    assert!(progress.to_upstream() < given as u64, "what waits in a pipe has not been taken");
    let mut taken = vec![0; given];
    upstream.read_exact(&mut taken).await.unwrap();
    assert!(taken.iter().all(|byte| *byte == 7));
    until(&pipes, |lent| lent == 0).await;
    assert_eq!(progress.to_upstream(), given as u64);
}

#[tokio::test]
async fn small_messages_take_no_pipe_however_many_there_are() {
    let pipes = Pipes::new(8);
    let Relayed { mut client, mut upstream, progress, task: _task } = between_sockets(&pipes).await;
    let mut message = [1; 1_000];
    for _ in 0..200 {
        client.write_all(&message).await.unwrap();
        upstream.read_exact(&mut message).await.unwrap();
    }
    assert!(progress.to_upstream() > 2 * 64 * 1024);
    assert!(pipes.spare() == 0, "no pipe was ever made");
}

#[tokio::test]
async fn one_direction_may_end_while_the_other_one_goes_on() {
    let pipes = Pipes::new(8);
    let Relayed { mut client, mut upstream, task, .. } = between_sockets(&pipes).await;
    let question = much(3);
    let (heard, ()) = tokio::join!(receive(&mut upstream), send(&mut client, &question));
    assert!(heard == question);
    let answer = much(5);
    let (said, ()) = tokio::join!(receive(&mut client), send(&mut upstream, &answer));
    assert!(said == answer);
    assert!(task.join().await.unwrap().error.is_none());
}

#[tokio::test]
async fn a_reset_amid_bulk_names_its_side() {
    let pipes = Pipes::new(8);
    let Relayed { mut client, upstream, task, .. } = between_sockets(&pipes).await;
    fill(&mut client).await;
    SockRef::from(&upstream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(upstream);
    let error = task.join().await.unwrap().error.unwrap();
    assert_eq!(error.side, Side::Upstream, "{error}");
    assert_eq!(pipes.lent(), 0);
}

#[tokio::test]
async fn what_was_read_before_a_reset_is_delivered_from_a_pipe_as_well() {
    let pipes = Pipes::new(8);
    let Relayed { mut client, mut upstream, task, progress } = between_sockets(&pipes).await;
    fill(&mut client).await;
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    // The reset comes while the pipe is full and the upstream is slow; it is noticed once there is room.
    let heard = tokio::time::timeout(PATIENCE, receive(&mut upstream)).await.unwrap();
    let end = task.join().await.unwrap();
    assert!(end.error.is_some());
    assert!(heard.len() as u64 == end.to_upstream && end.to_upstream == progress.to_upstream());
    assert_eq!(pipes.lent(), 0);
}

#[tokio::test]
async fn a_pipe_with_bytes_of_a_session_that_was_cut_is_not_used_again() {
    let pipes = Pipes::new(8);
    let Relayed { mut client, upstream: _deaf, task, .. } = between_sockets(&pipes).await;
    fill(&mut client).await;
    assert_eq!(pipes.lent(), 1);
    task.stop().await;
    assert_eq!(pipes.lent(), 0);
    assert!(pipes.spare() == 0, "it was closed with what it held");
}

#[tokio::test]
async fn whoever_is_shut_for_writing_still_hears_the_rest() {
    let pipes = Pipes::new(8);
    let Relayed { client, mut upstream, task, .. } = between_sockets(&pipes).await;
    SockRef::from(&client).shutdown(Shutdown::Write).unwrap();
    assert_eq!(receive(&mut upstream).await, b"");
    let mut client = client;
    let answer = much(7);
    let (said, ()) = tokio::join!(receive(&mut client), send(&mut upstream, &answer));
    assert!(said == answer);
    assert!(task.join().await.unwrap().error.is_none());
}

/// A socket that is shut down for writing only when it is allowed to be.
struct Reluctant {
    socket: TcpStream,
    asked: Arc<Notify>,
    allowed: oneshot::Receiver<()>,
}

impl MaybeSocket for Reluctant {
    fn socket(&self) -> Option<&TcpStream> {
        Some(&self.socket)
    }
}

impl AsyncRead for Reluctant {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl AsyncWrite for Reluctant {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.asked.notify_one();
        ready!(Pin::new(&mut self.allowed).poll(cx)).unwrap();
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn what_is_said_last_travels_with_the_end_behind_it() {
    let ((mut client, mut near_client), (mut upstream, socket)) = (connection().await, connection().await);
    let (asked, (allow, allowed)) = (Arc::new(Notify::new()), oneshot::channel());
    send(&mut client, b"good night").await;
    // Both are there before the relay looks.
    while !near_client.ready(Interest::READABLE).await.unwrap().is_read_closed() {
        tokio::task::yield_now().await;
    }
    let mut near_upstream = Reluctant { socket, asked: Arc::clone(&asked), allowed };
    let started = Instant::now();
    let task = Task::spawn("relay", async move {
        relay_sockets(&mut near_client, &mut near_upstream, &Progress::default(), &Pipes::new(0)).await
    });
    tokio::time::timeout(PATIENCE, asked.notified()).await.unwrap();
    assert!(arrived(&upstream) == 0 || started.elapsed() > WITHHELD, "it waits for the end");
    allow.send(()).unwrap();
    assert_eq!(receive(&mut upstream).await, b"good night");
    drop(upstream);
    assert!(task.join().await.unwrap().error.is_none());
}
