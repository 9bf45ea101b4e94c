//! A peer that holds a key and puts anything into the tunnel, where TCP is the kernel's. Another peer beside it must not notice.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use postern_wireguard::{Datapath, Peer, PrivateKey, PublicKey, Tunnel};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use crate::namespaces::{Machine, PORT, Pair, isolated};
use crate::tunnels::{echo, round_trip};

const TUN: [Datapath; 2] = [Datapath::Tun, Datapath::Tun];
/// The inner address that the insider may use.
const OWN: &str = "10.7.0.66:4000";
/// Where the insider is on the cable.
const PLACE: &str = "192.0.2.1:0";
const SERVER: &str = "192.0.2.2:51820";

/// The insider. It is on the machine of the client, with a socket of its own.
struct Insider {
    socket: UdpSocket,
    tunn: Tunn,
    sent: Vec<Vec<u8>>,
}

impl Insider {
    fn new(key: &PrivateKey, server: PublicKey) -> Self {
        let socket = UdpSocket::bind(PLACE).unwrap();
        socket.connect(SERVER).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let private = x25519::StaticSecret::from(*key.expose());
        let public = x25519::PublicKey::from(*server.as_bytes());
        let mut insider = Self { socket, tunn: Tunn::new(private, public, None, None, 1, None), sent: vec![] };
        insider.say(&[]);
        let mut buffer = [0; 2000];
        let length = insider.socket.recv(&mut buffer).unwrap();
        let response = buffer[..length].to_vec();
        let TunnResult::WriteToNetwork(confirmation) = insider.tunn.decapsulate(None, &response, &mut buffer) else {
            panic!("no session");
        };
        insider.socket.send(confirmation).unwrap();
        insider
    }

    /// Waits for a packet of the server.
    fn hear(&mut self) {
        let (mut datagram, mut packet) = ([0; 2000], [0; 2000]);
        loop {
            let length = self.socket.recv(&mut datagram).unwrap();
            if let TunnResult::WriteToTunnelV4(..) = self.tunn.decapsulate(None, &datagram[..length], &mut packet) {
                return;
            }
        }
    }

    fn say(&mut self, inner: &[u8]) {
        let mut buffer = vec![0; inner.len() + 200];
        if let TunnResult::WriteToNetwork(datagram) = self.tunn.encapsulate(inner, &mut buffer) {
            self.sent.push(datagram.to_vec());
            // The socket may be full for a moment; an attack need not be complete.
            drop(self.socket.send(datagram));
        }
    }
}

/// A segment to the server with right checksums.
fn segment(source: &str, sequence: i32, control: TcpControl, payload: &[u8]) -> Vec<u8> {
    let (source, destination): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), SocketAddr::new("10.7.0.2".parse().unwrap(), PORT));
    let tcp = TcpRepr {
        src_port: source.port(),
        dst_port: destination.port(),
        control,
        seq_number: TcpSeqNumber(sequence),
        ack_number: (control != TcpControl::Syn).then_some(TcpSeqNumber(1)),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    };
    let (from, to) = (source.ip().into(), destination.ip().into());
    let ip = IpRepr::new(from, to, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let mut bytes = vec![0; ip.buffer_len()];
    ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
    tcp.emit(
        &mut TcpPacket::new_unchecked(&mut bytes[ip.header_len()..]),
        &from,
        &to,
        &ChecksumCapabilities::default(),
    );
    bytes
}

/// While the insider does its worst, and afterwards, a peer beside it is served.
fn beside(test: &str, attack: impl FnOnce(&mut Insider) + Send + 'static) {
    isolated(test, &[], || {
        let pair = Pair::new(TUN);
        echo(&pair.far, &pair.server);
        let key = PrivateKey::generate();
        let allowed = vec!["10.7.0.66/32".parse().unwrap()];
        pair.server.set_peer(Peer { public_key: key.public(), endpoint: None, allowed, keepalive: None, mtu: None });
        assert!(served(&pair.near, &pair.client, pair.at()));
        let server = pair.server.public_key();
        let attacked = pair.near.run(async move {
            let (done, wait) = tokio::sync::oneshot::channel();
            // A thread of this one is on the same machine.
            std::thread::spawn(move || {
                let mut insider = Insider::new(&key, server);
                attack(&mut insider);
                done.send(()).unwrap();
            });
            wait.await.unwrap();
        });
        assert!(served(&pair.near, &pair.client, pair.at()), "not while it was attacked");
        attacked.wait();
        assert!(served(&pair.near, &pair.client, pair.at()), "not after the attack");
    });
}

fn served(machine: &Machine, client: &Tunnel, to: SocketAddr) -> bool {
    machine.run(round_trip(client.clone(), to, 2)).wait()
}

#[test]
fn an_inner_source_of_somebody_else_is_not_let_in() {
    beside("hostile::an_inner_source_of_somebody_else_is_not_let_in", |insider| {
        for port in 30_000..33_000_u16 {
            insider.say(&segment(&format!("10.7.0.1:{port}"), 1, TcpControl::Rst, b""));
        }
    });
}

#[test]
fn the_kernel_sees_what_comes_from_the_insider_s_own_address_and_nothing_else() {
    isolated("hostile::the_kernel_sees_what_comes_from_the_insider_s_own_address_and_nothing_else", &[], || {
        let pair = Pair::new(TUN);
        let key = PrivateKey::generate();
        let allowed = vec!["10.7.0.66/32".parse().unwrap()];
        pair.server.set_peer(Peer { public_key: key.public(), endpoint: None, allowed, keepalive: None, mtu: None });
        let server = pair.server.public_key();
        let before = packets_taken(&pair.far);
        pair.near
            .run(async move {
                let mut insider = Insider::new(&key, server);
                for port in 30_000..30_100_u16 {
                    insider.say(&segment(&format!("10.7.0.1:{port}"), 1, TcpControl::Syn, b""));
                }
                // Nobody listens, which the kernel says; what was sent before has arrived by then.
                insider.say(&segment(OWN, 1, TcpControl::Syn, b""));
                insider.hear();
            })
            .wait();
        assert_eq!(packets_taken(&pair.far) - before, 1);
    });
}

/// How many packets the kernel of a machine has taken from the interface.
fn packets_taken(machine: &Machine) -> u64 {
    let read = machine.run(async { std::fs::read_to_string("/proc/thread-self/net/dev").unwrap() }).wait();
    let line = read.lines().find_map(|line| line.trim().strip_prefix("postern0:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn wrong_checksums_harm_nobody() {
    beside("hostile::wrong_checksums_harm_nobody", |insider| {
        for sequence in 0..5_000 {
            let mut packet = segment(OWN, sequence * 100, TcpControl::None, &[3; 100]);
            let place = 20 + usize::try_from(sequence).unwrap() % 30;
            packet[place] ^= 0x40;
            insider.say(&packet);
        }
    });
}

#[test]
fn absurd_sizes_of_segments_harm_nobody() {
    beside("hostile::absurd_sizes_of_segments_harm_nobody", |insider| {
        for sequence in 0..5_000 {
            insider.say(&segment(OWN, sequence, TcpControl::None, &[3; 1]));
        }
        for sequence in 0..200 {
            insider.say(&segment(OWN, sequence * 60_000, TcpControl::None, &[3; 60_000]));
        }
    });
}

#[test]
fn overlapping_segments_harm_nobody() {
    beside("hostile::overlapping_segments_harm_nobody", |insider| {
        insider.say(&segment(OWN, 0, TcpControl::Syn, b""));
        for sequence in 0..5_000 {
            insider.say(&segment(OWN, 1 + sequence * 37 % 900, TcpControl::None, &[3; 500]));
        }
    });
}

#[test]
fn replayed_datagrams_harm_nobody() {
    beside("hostile::replayed_datagrams_harm_nobody", |insider| {
        for sequence in 0..200 {
            insider.say(&segment(OWN, sequence * 500, TcpControl::None, &[3; 500]));
        }
        for _ in 0..30 {
            insider.sent.iter().for_each(|datagram| drop(insider.socket.send(datagram)));
        }
    });
}

#[test]
fn a_flood_of_handshakes_harms_nobody() {
    beside("hostile::a_flood_of_handshakes_harms_nobody", |insider| {
        for _ in 0..2_000 {
            let mut buffer = [0; 200];
            if let TunnResult::WriteToNetwork(initiation) = insider.tunn.format_handshake_initiation(&mut buffer, true)
            {
                drop(insider.socket.send(initiation));
            }
        }
    });
}
