//! Bad networks and bad peers.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use postern_plumbing::tasks::Task;
use postern_wireguard::{Peer, PrivateKey, PublicKey, Tunnel};
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::ends::{End, LONG, at, echo, pair, peer};
use crate::network::{Network, Weather};

/// Counts panics of the whole process from now on: the tunnel survives its own.
fn panics() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::SeqCst);
        usual(info);
    }));
    count
}

async fn echoes(client: &Tunnel, server: &Tunnel, size: usize) {
    let mut stream = client.connect(at(server), LONG).await.unwrap();
    let data: Vec<_> = (0..size).map(|i| (i % 251) as u8).collect();
    let sent = data.clone();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let mut back = Vec::new();
    let talk = async {
        let send = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        tokio::join!(send, async { read.read_to_end(&mut back).await.unwrap() })
    };
    timeout(4 * LONG, talk).await.unwrap();
    assert!(back == data, "{} of {size} bytes came back", back.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_network_is_slow_and_loses_nothing() {
    let (client, server) = (End::new(1).start().await, End::new(2).start().await);
    let network = Network::to(server.local_addr()).await;
    client.set_peer(peer(&server, Some(network.entrance())));
    server.set_peer(peer(&client, None));
    let _echo = echo(&server);
    network.set_weather(Weather { doubled: 100, ..Weather::default() });
    echoes(&client, &server, 300_000).await;
    network.set_weather(Weather { overtaken: 20, ..Weather::default() });
    echoes(&client, &server, 100_000).await;
    network.set_weather(Weather { lost: 2, doubled: 2, overtaken: 5 });
    echoes(&client, &server, 100_000).await;
}

#[tokio::test]
async fn malformed_and_damaged_and_replayed_datagrams_do_no_harm() {
    let (client, server) = (End::new(1).start().await, End::new(2).start().await);
    let network = Network::to(server.local_addr()).await;
    client.set_peer(peer(&server, Some(network.entrance())));
    server.set_peer(peer(&client, None));
    let _echo = echo(&server);
    echoes(&client, &server, 20_000).await;

    let panics = panics();
    let attacker = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut chance = StdRng::seed_from_u64(7);
    let attack = |datagram: &[u8]| {
        for victim in [server.local_addr(), client.local_addr()] {
            attacker.send_to(datagram, victim).unwrap();
        }
    };
    for seen in network.seen().iter().take(60) {
        attack(seen);
        for len in [0, 1, 3, 4, 15, 16, 31, 32, seen.len() - 1] {
            attack(&seen[..len.min(seen.len())]);
        }
        for _ in 0..20 {
            let mut damaged = seen.clone();
            damaged[chance.random_range(0..seen.len())] ^= chance.random_range(1..=255_u8);
            attack(&damaged);
        }
        tokio::task::yield_now().await;
    }
    for size in (0..1500).step_by(7) {
        let mut noise = vec![0; size];
        chance.fill_bytes(&mut noise);
        attack(&noise);
        if let [first, second, third, fourth, ..] = &mut noise[..] {
            (*first, *second, *third, *fourth) = (chance.random_range(1..=4), 0, 0, 0);
            attack(&noise);
        }
    }
    echoes(&client, &server, 20_000).await;
    assert_eq!(panics.load(Ordering::SeqCst), 0);
    assert_eq!(server.peer(&client.public_key()).unwrap().endpoint, Some(network.exit()), "led astray");
    attacker.set_nonblocking(true).unwrap();
    let mut answer = [0; 200];
    while let Ok(len) = attacker.recv(&mut answer) {
        assert_eq!((answer[0], len), (3, 64), "only cookies are sent to those who have proven nothing");
    }
}

/// A peer that holds a key and puts anything into the tunnel.
struct Insider {
    socket: UdpSocket,
    tunn: Tunn,
    server: SocketAddr,
}

impl Insider {
    fn new(key: &PrivateKey, server: PublicKey, at: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let private = x25519::StaticSecret::from(*key.expose());
        let public = x25519::PublicKey::from(*server.as_bytes());
        Self { socket, tunn: Tunn::new(private, public, None, None, 1, None), server: at }
    }

    fn shake_hands(&mut self) {
        let mut buffer = [0; 2000];
        self.say(&[]);
        let (len, _) = self.socket.recv_from(&mut buffer).unwrap();
        let response = buffer[..len].to_vec();
        let TunnResult::WriteToNetwork(confirmation) = self.tunn.decapsulate(None, &response, &mut buffer) else {
            panic!("no session");
        };
        self.socket.send_to(confirmation, self.server).unwrap();
    }

    fn say(&mut self, inner: &[u8]) {
        let mut buffer = vec![0; inner.len() + 200];
        if let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(inner, &mut buffer) {
            self.socket.send_to(datagram, self.server).unwrap();
        }
    }
}

/// An IPv4 header that is right, before noise that may look like TCP.
fn inner(chance: &mut StdRng) -> Vec<u8> {
    let mut packet = vec![0; chance.random_range(20..200)];
    chance.fill_bytes(&mut packet[20..]);
    let len = packet.len() as u16;
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    (packet[8], packet[9]) = (64, if chance.random_bool(0.9) { 6 } else { 17 });
    packet[12..16].copy_from_slice(&[10, 7, 0, 66]);
    packet[16..20].copy_from_slice(&[10, 7, 0, 2]);
    let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    if let Some(ports) = packet.get_mut(20..34) {
        ports[2..4].copy_from_slice(&5433_u16.to_be_bytes());
        (ports[12], ports[13]) = (0x50, [0x02, 0x10, 0x12, 0x04, 0x11, 0x18, 0xff][chance.random_range(0..7)]);
    }
    packet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_sends_nonsense_through_the_tunnel_harms_nobody_else() {
    let (client, server) = pair().await;
    let _echo = echo(&server);
    let panics = panics();
    let key = PrivateKey::generate();
    server.set_peer(Peer {
        public_key: key.public(),
        endpoint: None,
        allowed: vec!["10.7.0.66/32".parse().unwrap()],
        keepalive: None,
        mtu: None,
    });
    let mut insider = Insider::new(&key, server.public_key(), server.local_addr());
    insider.shake_hands();
    let attack = Task::spawn("attack", async move {
        let mut chance = StdRng::seed_from_u64(9);
        for round in 0..3000 {
            let mut packet = inner(&mut chance);
            match round % 5 {
                0 => chance.fill_bytes(&mut packet),
                1 => packet.truncate(chance.random_range(0..packet.len())),
                _ => {}
            }
            insider.say(&packet);
            if round % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..10 {
        echoes(&client, &server, 20_000).await;
    }
    attack.join().await.unwrap();
    echoes(&client, &server, 20_000).await;
    assert_eq!(panics.load(Ordering::SeqCst), 0);
}

/// Whoever knows a server's public key can make it look at handshakes. Beyond what it can bear, it asks for proof of
/// their address, and peers give that proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_locks_no_peer_out() {
    let (client, server) = pair().await;
    let _echo = echo(&server);
    let (victim, at) = (server.public_key(), server.local_addr());
    let flood = std::thread::spawn(move || {
        let attacker = UdpSocket::bind("127.0.0.1:0").unwrap();
        attacker.set_nonblocking(true).unwrap();
        let mut asked_for_proof = 0;
        // Until it is felt: a busy machine sends less in a second.
        let (enough, too_long) = (Duration::from_secs(3), LONG);
        let started = std::time::Instant::now();
        while started.elapsed() < enough || asked_for_proof == 0 && started.elapsed() < too_long {
            let private = x25519::StaticSecret::from(*PrivateKey::generate().expose());
            let mut tunn = Tunn::new(private, x25519::PublicKey::from(*victim.as_bytes()), None, None, 1, None);
            let mut buffer = [0; 200];
            let TunnResult::WriteToNetwork(initiation) = tunn.format_handshake_initiation(&mut buffer, false) else {
                panic!("no initiation");
            };
            for _ in 0..20 {
                attacker.send_to(initiation, at).unwrap();
            }
            while let Ok(len) = attacker.recv(&mut buffer) {
                assert_eq!((buffer[0], len), (3, 64), "only cookies");
                asked_for_proof += 1;
            }
        }
        asked_for_proof
    });
    std::thread::sleep(Duration::from_millis(500));
    echoes(&client, &server, 20_000).await;
    assert!(flood.join().unwrap() > 0, "it was no flood");
}
