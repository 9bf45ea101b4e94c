//! A stretch of network between two ends: it can lose, double and disorder datagrams, and move its exit elsewhere, as an
//! address translator does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use postern_plumbing::tasks::Task;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::net::UdpSocket;

/// Of a hundred datagrams, how many are lost, doubled, and overtaken by the next one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    pub(crate) overtaken: u32,
}

pub(crate) struct Network {
    shared: Arc<Shared>,
    entrance: Task<()>,
    exit: Task<()>,
}

struct Shared {
    entrance: UdpSocket,
    exit: Mutex<Arc<UdpSocket>>,
    server: SocketAddr,
    client: Mutex<Option<SocketAddr>>,
    weather: Mutex<Weather>,
    /// Datagrams that came back from the server.
    returned: AtomicUsize,
    /// Every datagram that went to the server, as it was.
    seen: Mutex<Vec<Vec<u8>>>,
}

impl Network {
    /// A network whose other side is `server`.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            entrance: UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            exit: Mutex::new(new_exit().await),
            server,
            client: Mutex::default(),
            weather: Mutex::default(),
            returned: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let entrance = Task::spawn("entrance", out(Arc::clone(&shared)));
        let exit = Task::spawn("exit", back(Arc::clone(&shared)));
        Self { shared, entrance, exit }
    }

    /// Where clients send to.
    pub(crate) fn entrance(&self) -> SocketAddr {
        assert!(!self.entrance.is_finished());
        self.shared.entrance.local_addr().unwrap()
    }

    /// Where the server sees clients.
    pub(crate) fn exit(&self) -> SocketAddr {
        self.shared.exit.lock().unwrap().local_addr().unwrap()
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap() = weather;
    }

    /// Moves the exit to another port. What is under way to the old one is lost.
    pub(crate) async fn move_exit(&mut self) {
        *self.shared.exit.lock().unwrap() = new_exit().await;
        self.exit = Task::spawn("exit", back(Arc::clone(&self.shared)));
    }

    pub(crate) fn returned(&self) -> usize {
        self.shared.returned.load(Ordering::Relaxed)
    }

    pub(crate) fn seen(&self) -> Vec<Vec<u8>> {
        self.shared.seen.lock().unwrap().clone()
    }
}

async fn new_exit() -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap())
}

async fn out(shared: Arc<Shared>) {
    let mut passage = Passage::new(1);
    let mut buffer = vec![0; 65_536];
    loop {
        let (len, from) = shared.entrance.recv_from(&mut buffer).await.unwrap();
        *shared.client.lock().unwrap() = Some(from);
        shared.seen.lock().unwrap().push(buffer[..len].to_vec());
        let exit = Arc::clone(&shared.exit.lock().unwrap());
        for datagram in passage.pass(&buffer[..len], &shared.weather) {
            exit.send_to(&datagram, shared.server).await.unwrap();
        }
    }
}

async fn back(shared: Arc<Shared>) {
    let mut passage = Passage::new(2);
    let mut buffer = vec![0; 65_536];
    let exit = Arc::clone(&shared.exit.lock().unwrap());
    loop {
        let (len, _) = exit.recv_from(&mut buffer).await.unwrap();
        shared.returned.fetch_add(1, Ordering::Relaxed);
        let client = shared.client.lock().unwrap().unwrap();
        for datagram in passage.pass(&buffer[..len], &shared.weather) {
            shared.entrance.send_to(&datagram, client).await.unwrap();
        }
    }
}

/// One way through.
struct Passage {
    chance: StdRng,
    held: Option<Vec<u8>>,
}

impl Passage {
    fn new(seed: u64) -> Self {
        Self { chance: StdRng::seed_from_u64(seed), held: None }
    }

    /// What leaves the network now that this has entered it.
    fn pass(&mut self, datagram: &[u8], weather: &Mutex<Weather>) -> Vec<Vec<u8>> {
        let weather = *weather.lock().unwrap();
        let mut happens = |of_a_hundred: u32| self.chance.random_ratio(of_a_hundred, 100);
        if happens(weather.lost) {
            return Vec::new();
        }
        let copies = if happens(weather.doubled) { 2 } else { 1 };
        if self.held.is_none() && happens(weather.overtaken) {
            self.held = Some(datagram.to_vec());
            return Vec::new();
        }
        let mut leaving = vec![datagram.to_vec(); copies];
        leaving.extend(self.held.take());
        leaving
    }
}
