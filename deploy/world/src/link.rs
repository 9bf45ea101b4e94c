//! A stretch of network between the gateway and its tunnels on which the weather can be bad.
//!
//! It forwards datagrams, as a kernel's `netem` would, but needs no privilege and touches nothing else on the machine.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_plumbing::tasks::Task;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::WorldError;

/// The largest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// How many datagrams can be on their way in one direction of one tunnel. More are lost, as in a router.
const QUEUE: usize = 4096;

/// What happens to datagrams, in each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Weather {
    /// Whether nothing passes.
    pub blocked: bool,
    /// The part of datagrams that are lost, from 0 to 1.
    pub loss: f64,
    /// How long each takes.
    pub delay: Duration,
}

/// Forwards datagrams between any number of tunnels and one gateway until it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    _forward: Task<()>,
}

impl Link {
    pub(crate) async fn start(listen: SocketAddr, to: SocketAddr) -> Result<Self, WorldError> {
        let failed = |source| WorldError::Start { program: "a link".into(), source };
        let socket = Arc::new(UdpSocket::bind(listen).await.map_err(failed)?);
        let address = socket.local_addr().map_err(failed)?;
        let (weather, seen) = watch::channel(Weather::default());
        Ok(Self { address, weather, _forward: Task::spawn("link", forward(socket, to, seen)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the weather for everything that comes from now on.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

/// One tunnel's way to the gateway, and back.
struct Path {
    there: Lane,
    _back: Task<()>,
}

async fn forward(listening: Arc<UdpSocket>, to: SocketAddr, weather: watch::Receiver<Weather>) {
    let mut paths: BTreeMap<SocketAddr, Path> = BTreeMap::new();
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // An ICMP error of an earlier datagram is reported on a later read; the next read is good again.
        let Ok((count, client)) = listening.recv_from(&mut buffer).await else { continue };
        let path = match paths.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let Ok(path) = open(&listening, client, to, weather.clone()).await else { continue };
                new.insert(path)
            }
        };
        path.there.pass(buffer.get(..count).unwrap_or_default()).await;
    }
}

async fn open(
    listening: &Arc<UdpSocket>,
    client: SocketAddr,
    to: SocketAddr,
    weather: watch::Receiver<Weather>,
) -> io::Result<Path> {
    let socket = Arc::new(UdpSocket::bind(SocketAddr::new(listening.local_addr()?.ip(), 0)).await?);
    socket.connect(to).await?;
    let there = Lane::new(Arc::clone(&socket), None, weather.clone());
    let back = Lane::new(Arc::clone(listening), Some(client), weather);
    Ok(Path { there, _back: Task::spawn("link back", replies(socket, back)) })
}

async fn replies(socket: Arc<UdpSocket>, back: Lane) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(count) => back.pass(buffer.get(..count).unwrap_or_default()).await,
            // The gateway is away (ICMP port unreachable); it may come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// One direction of one tunnel.
struct Lane {
    out: Out,
    weather: watch::Receiver<Weather>,
    late: mpsc::Sender<(Instant, Vec<u8>)>,
    _late: Task<()>,
}

/// Where a lane ends.
#[derive(Clone)]
struct Out {
    socket: Arc<UdpSocket>,
    /// `None` for a socket that is connected.
    to: Option<SocketAddr>,
}

impl Lane {
    fn new(socket: Arc<UdpSocket>, to: Option<SocketAddr>, weather: watch::Receiver<Weather>) -> Self {
        let out = Out { socket, to };
        let (late, waiting) = mpsc::channel(QUEUE);
        let delivering = Task::spawn("link delay", deliver(waiting, out.clone()));
        Self { out, weather, late, _late: delivering }
    }

    async fn pass(&self, datagram: &[u8]) {
        let weather = *self.weather.borrow();
        if weather.blocked || rand::random::<f64>() < weather.loss {
            return;
        }
        if weather.delay.is_zero() {
            return self.out.send(datagram).await;
        }
        // What finds the queue full is lost.
        drop(self.late.try_send((Instant::now() + weather.delay, datagram.to_vec())));
    }
}

impl Out {
    async fn send(&self, datagram: &[u8]) {
        // What fails first may be the news that an earlier datagram found nobody (ICMP port unreachable): this one was not
        // tried then. What fails twice is lost, as datagrams are.
        if self.try_send(datagram).await.is_err() {
            drop(self.try_send(datagram).await);
        }
    }

    async fn try_send(&self, datagram: &[u8]) -> io::Result<usize> {
        match self.to {
            Some(to) => self.socket.send_to(datagram, to).await,
            None => self.socket.send(datagram).await,
        }
    }
}

async fn deliver(mut waiting: mpsc::Receiver<(Instant, Vec<u8>)>, out: Out) {
    while let Some((due, datagram)) = waiting.recv().await {
        sleep_until(due).await;
        out.send(&datagram).await;
    }
}

#[cfg(test)]
mod tests;
