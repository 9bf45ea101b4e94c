//! The one client in front of every edge.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::try_join_all;
use postern_plumbing::tasks::Task;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::server::{CHUNK, REQUEST, RESPONSE, Wish};

/// Longer than a connection, or an answer, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections are opened at a time.
const AT_A_TIME: usize = 64;

/// What every connection needs. Clones are the same client.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

/// A connection.
pub(super) type Stream = TlsStream<TcpStream>;

/// Something that was done, when, and how long it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deed {
    pub(super) done: Instant,
    pub(super) took: Duration,
}

/// Connections that are busy until this is dropped.
pub(super) struct Busy {
    moving: Vec<Task<anyhow::Result<()>>>,
}

/// Clients who do one thing after the other until they are told to stop.
pub(super) struct Doing {
    stop: Arc<AtomicBool>,
    doers: Vec<Task<anyhow::Result<Vec<Deed>>>>,
}

impl Client {
    /// Connects, with a whole TLS handshake, and says what is wished.
    pub(super) async fn open(&self, to: SocketAddr, wish: Wish) -> anyhow::Result<Stream> {
        let opening = async {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let mut stream = self.connector.connect(self.name.clone(), stream).await?;
            stream.write_all(&[wish.byte()]).await?;
            stream.flush().await?;
            Ok::<_, std::io::Error>(stream)
        };
        Ok(timeout(PATIENCE, opening).await.context("no connection in time")??)
    }

    /// Opens many connections.
    pub(super) async fn open_many(&self, to: SocketAddr, wish: Wish, count: usize) -> anyhow::Result<Vec<Stream>> {
        let mut streams = Vec::with_capacity(count);
        while streams.len() < count {
            let some = AT_A_TIME.min(count - streams.len());
            streams.extend(try_join_all((0..some).map(|_| self.open(to, wish))).await?);
        }
        Ok(streams)
    }

    /// Downloads by some connections, and counts what comes.
    pub(super) async fn download(&self, to: SocketAddr, count: usize, got: &Arc<AtomicU64>) -> anyhow::Result<Busy> {
        let streams = self.open_many(to, Wish::Download, count).await?;
        let moving = streams.into_iter().map(|mut stream| {
            let got = Arc::clone(got);
            Task::spawn("download", async move {
                let mut buffer = vec![0; CHUNK];
                loop {
                    let count = stream.read(&mut buffer).await?;
                    anyhow::ensure!(count > 0, "the server closed");
                    got.fetch_add(count as u64, Ordering::Relaxed);
                }
            })
        });
        Ok(Busy { moving: moving.collect() })
    }

    /// Uploads by some connections; the server counts what comes.
    pub(super) async fn upload(&self, to: SocketAddr, count: usize) -> anyhow::Result<Busy> {
        let streams = self.open_many(to, Wish::Upload, count).await?;
        let moving = streams.into_iter().map(|mut stream| {
            Task::spawn("upload", async move {
                loop {
                    stream.write_all(&[0; CHUNK]).await?;
                }
            })
        });
        Ok(Busy { moving: moving.collect() })
    }

    /// Some clients connect anew for each request.
    pub(super) fn connect_anew(&self, to: SocketAddr, clients: usize) -> Doing {
        Doing::start(clients, |stop| {
            let client = self.clone();
            async move {
                let mut deeds = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let mut stream = client.open(to, Wish::Requests).await?;
                    ask(&mut stream).await?;
                    deeds.push(Deed::since(begun));
                    stream.shutdown().await?;
                }
                Ok(deeds)
            }
        })
    }

    /// Some clients ask one thing after the other, each by one connection.
    pub(super) async fn ask_on(&self, to: SocketAddr, clients: usize) -> anyhow::Result<Doing> {
        let mut streams = self.open_many(to, Wish::Requests, clients).await?;
        Ok(Doing::start(clients, |stop| {
            let stream = streams.pop();
            async move {
                let (mut stream, mut deeds) = (stream.context("no connection is left")?, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    ask(&mut stream).await?;
                    deeds.push(Deed::since(begun));
                }
                Ok(deeds)
            }
        }))
    }
}

/// Sends a request and waits for the response.
pub(super) async fn ask(stream: &mut Stream) -> anyhow::Result<()> {
    let asking = async {
        stream.write_all(&[0; REQUEST]).await?;
        stream.flush().await?;
        stream.read_exact(&mut [0; RESPONSE]).await
    };
    timeout(PATIENCE, asking).await.context("no response in time")??;
    Ok(())
}

impl Deed {
    fn since(begun: Instant) -> Self {
        let done = Instant::now();
        Self { done, took: done - begun }
    }
}

impl Busy {
    /// Makes sure that all are busy to the end.
    pub(super) async fn check(self) -> anyhow::Result<()> {
        for task in self.moving {
            if task.is_finished() {
                return task.join().await?.context("a connection ended early");
            }
        }
        Ok(())
    }
}

impl Doing {
    fn start<F>(count: usize, mut doer: impl FnMut(Arc<AtomicBool>) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<Vec<Deed>>> + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let doers = (0..count).map(|_| Task::spawn("doer", doer(Arc::clone(&stop)))).collect();
        Self { stop, doers }
    }

    /// Has everybody stop, and gives all that was done.
    pub(super) async fn stop(self) -> anyhow::Result<Vec<Deed>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut deeds = Vec::new();
        for doer in self.doers {
            deeds.extend(doer.join().await??);
        }
        Ok(deeds)
    }
}
