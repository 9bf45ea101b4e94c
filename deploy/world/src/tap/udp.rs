//! The eavesdropper for datagrams.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use postern_plumbing::tasks::Task;
use tokio::net::UdpSocket;

use super::Recording;

/// The largest datagram.
const MAX_DATAGRAM: usize = 65_535;

/// Forwards datagrams between any number of clients and one server, and records them.
#[derive(Debug)]
pub struct UdpTap {
    address: SocketAddr,
    recording: Recording,
    _forward: Task<()>,
}

impl UdpTap {
    /// Forwards until the value is dropped. Each client gets a socket of its own towards the server, so that the server
    /// can tell them apart.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(listen: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(listen).await?);
        let address = socket.local_addr()?;
        let recording = Recording::default();
        let forward = Task::spawn("udp tap", forward(socket, to, recording.clone()));
        Ok(Self { address, recording, _forward: forward })
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

/// One client's way to the server.
struct Path {
    socket: Arc<UdpSocket>,
    flow: usize,
    _replies: Task<()>,
}

async fn forward(listening: Arc<UdpSocket>, to: SocketAddr, recording: Recording) {
    let mut paths: BTreeMap<SocketAddr, Path> = BTreeMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // An ICMP error of an earlier datagram is reported on a later read; the next read is good again.
        let Ok((count, client)) = listening.recv_from(&mut buffer).await else { continue };
        let Some(datagram) = buffer.get(..count) else { continue };
        let path = match paths.entry(client) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let Ok(path) = open(&listening, client, to, &recording).await else { continue };
                new.insert(path)
            }
        };
        recording.add(path.flow, datagram);
        // What fails first may be the news that an earlier datagram found no server (ICMP port unreachable): this one was
        // not tried then. What fails twice is lost, as datagrams are.
        if path.socket.send(datagram).await.is_err() {
            drop(path.socket.send(datagram).await);
        }
    }
}

async fn open(
    listening: &Arc<UdpSocket>,
    client: SocketAddr,
    to: SocketAddr,
    recording: &Recording,
) -> io::Result<Path> {
    let any = SocketAddr::new(listening.local_addr()?.ip(), 0);
    let socket = Arc::new(UdpSocket::bind(any).await?);
    socket.connect(to).await?;
    let replies = replies(Arc::clone(&socket), Arc::clone(listening), client, recording.clone());
    Ok(Path { socket, flow: recording.open_flow(), _replies: Task::spawn("udp tap replies", replies) })
}

async fn replies(socket: Arc<UdpSocket>, listening: Arc<UdpSocket>, client: SocketAddr, recording: Recording) {
    let flow = recording.open_flow();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(count) => {
                let datagram = buffer.get(..count).unwrap_or_default();
                recording.add(flow, datagram);
                drop(listening.send_to(datagram, client).await);
            }
            // The server is away (ICMP port unreachable); it may come back.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}
