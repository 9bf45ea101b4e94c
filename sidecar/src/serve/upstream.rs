//! The connection to Postgres, which says when Postgres has closed it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::sleep;

/// How long a client may keep its side open after Postgres has closed. It cannot be answered any more, and idle clients of a
/// pool may not look for hours; until then they would take the place of others.
const AFTER_THE_END: Duration = Duration::from_secs(2);

/// A stream whose end is noticed.
#[derive(Debug)]
pub struct Upstream<S> {
    stream: S,
    ended: Arc<Notify>,
}

impl<S> Upstream<S> {
    /// A stream that has not ended.
    pub fn new(stream: S) -> Self {
        Self { stream, ended: Arc::default() }
    }

    /// Waits until the stream has ended and its reader has had time to draw the consequences.
    pub fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        let ended = Arc::clone(&self.ended);
        async move {
            ended.notified().await;
            sleep(AFTER_THE_END).await;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Upstream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        if matches!(read, Poll::Ready(Ok(()))) && into.filled().len() == before {
            self.ended.notify_one();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Upstream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use postern_plumbing::relay::{Progress, relay};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::{AFTER_THE_END, Upstream};

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_notice_the_end_of_postgres_is_not_waited_for() {
        let ((client, mut near), (upstream, mut postgres)) = (tokio::io::duplex(100), tokio::io::duplex(100));
        let (mut client, mut upstream) = (client, Upstream::new(upstream));
        let progress = Progress::default();
        let over = upstream.over();
        let relayed = async {
            tokio::select! {
                _ = relay(&mut client, &mut upstream, &progress) => panic!("the client has not closed"),
                () = over => {}
            }
        };
        let served = async {
            near.write_all(b"question").await.unwrap();
            postgres.read_exact(&mut [0; 8]).await.unwrap();
            tokio::time::sleep(AFTER_THE_END * 100).await;
            postgres.write_all(b"the end").await.unwrap();
            drop(postgres);
            let mut said = Vec::new();
            near.read_to_end(&mut said).await.unwrap();
            assert_eq!(said, b"the end");
        };
        timeout(AFTER_THE_END * 102, async { tokio::join!(relayed, served) }).await.expect("the session lasts");
    }
}
