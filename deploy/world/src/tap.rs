//! Eavesdroppers: forwarders that remember every byte they pass on.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use postern_plumbing::tasks::{Task, Tasks};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

mod udp;

pub use udp::UdpTap;

/// The most that one recording keeps, in bytes.
const MAX_RECORDED: usize = 64 * 1024 * 1024;

/// What passed a tap. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Recording(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    /// One buffer per direction of each connection, so that a text cut by a segment is still found.
    flows: Vec<Vec<u8>>,
    bytes: usize,
}

impl Recording {
    /// How many bytes passed.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Whether everything that passed was kept. What was not kept was not searched.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.bytes() <= MAX_RECORDED
    }

    /// How often a text passed, in either direction.
    #[must_use]
    pub fn occurrences(&self, text: &[u8]) -> usize {
        let recorded = self.lock();
        recorded.flows.iter().map(|flow| flow.windows(text.len().max(1)).filter(|window| *window == text).count()).sum()
    }

    /// Forgets what passed; connections that are open go on being recorded.
    pub fn clear(&self) {
        let mut recorded = self.lock();
        recorded.bytes = 0;
        recorded.flows.iter_mut().for_each(Vec::clear);
    }

    fn open_flow(&self) -> usize {
        let mut recorded = self.lock();
        recorded.flows.push(Vec::new());
        recorded.flows.len() - 1
    }

    fn add(&self, flow: usize, bytes: &[u8]) {
        let mut recorded = self.lock();
        recorded.bytes += bytes.len();
        if recorded.bytes <= MAX_RECORDED
            && let Some(flow) = recorded.flows.get_mut(flow)
        {
            flow.extend_from_slice(bytes);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forwards TCP connections and records them.
#[derive(Debug)]
pub struct TcpTap {
    address: SocketAddr,
    recording: Recording,
    _accept: Task<()>,
}

impl TcpTap {
    /// Forwards from one address to another until the value is dropped; connections that are open go on to their end.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(listen: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let recording = Recording::default();
        let accept = Task::spawn("tap", accept(listener, to, recording.clone()));
        Ok(Self { address, recording, _accept: accept })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What passed it.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, recording: Recording) {
    let connections = Tasks::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, most likely: those that are open will end.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let recording = recording.clone();
        connections.spawn("tapped connection", async move {
            if let Ok(server) = TcpStream::connect(to).await {
                forward(client, server, &recording).await;
            }
        });
    }
}

async fn forward(client: TcpStream, server: TcpStream, recording: &Recording) {
    // A tap that delays small segments would falsify what is timed through it.
    drop(client.set_nodelay(true));
    drop(server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let ends = tokio::join!(copy(from_client, to_server, recording), copy(from_server, to_client, recording));
    // How a tapped connection ends is for its two ends to tell.
    drop(ends);
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    recording: &Recording,
) -> io::Result<()> {
    let flow = recording.open_flow();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        recording.add(flow, bytes);
        to.write_all(bytes).await?;
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests;
