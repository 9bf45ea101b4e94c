//! What a caller sees of connections whose TCP is the kernel's.

use std::io::{ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Instant;

use postern_plumbing::tasks::Tasks;
use postern_wireguard::{ConnectError, DEFAULT_MTU, Datapath, Peer, PrivateKey, Tunnel, TunnelConfig, TunnelStream};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::namespaces::{LONG, Machine, PORT, Pair, config, isolated, machines};

const TUN: [Datapath; 2] = [Datapath::Tun, Datapath::Tun];

/// Answers every connection to [`PORT`] with what it sends.
pub(crate) fn echo(machine: &Machine, tunnel: &Tunnel) {
    let tunnel = tunnel.clone();
    let listening = machine.run(async move { tunnel.listen(PORT).unwrap() }).wait();
    machine.run(async move {
        let connections = Tasks::new();
        loop {
            let (stream, _) = listening.accept().await;
            connections.spawn("echo", async move {
                let (mut read, mut write) = tokio::io::split(stream);
                if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                    // The client may be gone by now.
                    drop(write.shutdown().await);
                }
            });
        }
    });
}

/// A connection of the pair, each end to be used on its own machine.
fn connection(pair: &Pair) -> (TunnelStream, TunnelStream) {
    let (server, client, to) = (pair.server.clone(), pair.client.clone(), pair.at());
    let listener = pair.far.run(async move { server.listen(PORT).unwrap() }).wait();
    let far = pair.far.run(async move { listener.accept().await.0 });
    let near = pair.near.run(async move { client.connect(to, LONG).await.unwrap() }).wait();
    let far = far.wait();
    assert_eq!((near.peer_addr(), far.peer_addr()), (far.local_addr(), near.local_addr()));
    assert_eq!((near.peer_key(), far.peer_key()), (pair.server.public_key(), pair.client.public_key()));
    (near, far)
}

async fn digest(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut buffer, mut hash) = (vec![0; 64 * 1024], Sha256::new());
    loop {
        match from.read(&mut buffer).await.unwrap() {
            0 => return hash.finalize().to_vec(),
            count => hash.update(&buffer[..count]),
        }
    }
}

/// Sends some megabytes there and back, and says whether they are the same.
pub(crate) async fn round_trip(client: Tunnel, to: std::net::SocketAddr, megabytes: usize) -> bool {
    let stream = client.connect(to, LONG).await.unwrap();
    let (read, mut write) = tokio::io::split(stream);
    let send = async move {
        // Of a length that no segment has.
        let block: Vec<u8> = (0..1_000_003_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let mut hash = Sha256::new();
        for _ in 0..megabytes {
            write.write_all(&block).await.unwrap();
            hash.update(&block);
        }
        write.shutdown().await.unwrap();
        hash.finalize().to_vec()
    };
    let (sent, received) = tokio::join!(send, digest(read));
    sent == received
}

#[test]
fn what_is_written_at_once_travels_together() {
    isolated("tunnels::what_is_written_at_once_travels_together", &[], || {
        let pair = Pair::new(TUN);
        let (mut near, mut far) = connection(&pair);
        let written = pair.near.run(async move {
            let flight = [b"ServerHello".as_slice(), b"", b"Certificate"].map(IoSlice::new);
            (near.is_write_vectored(), near.write_vectored(&flight).await.unwrap(), near)
        });
        let (is_vectored, count, _near) = written.wait();
        assert_eq!((is_vectored, count), (true, 22));
        let heard = pair.far.run(async move {
            let mut got = [0; 64];
            let count = far.read(&mut got).await.unwrap();
            got[..count].to_vec()
        });
        assert_eq!(heard.wait(), b"ServerHelloCertificate");
    });
}

fn bytes_come_back_unchanged(pair: Pair) {
    echo(&pair.far, &pair.server);
    let (client, to) = (pair.client.clone(), pair.at());
    assert!(pair.near.run(round_trip(client, to, 30)).wait());
    let client = pair.client.clone();
    let many = pair.near.run(async move {
        let talks = (0..16).map(|_| round_trip(client.clone(), to, 2));
        futures_util::future::join_all(talks).await.into_iter().all(|same| same)
    });
    assert!(many.wait());
}

#[test]
fn bytes_come_back_unchanged_through_two_interfaces() {
    isolated("tunnels::bytes_come_back_unchanged_through_two_interfaces", &[], || {
        let pair = Pair::new(TUN);
        assert_eq!((pair.client.datapath(), pair.server.datapath()), (Datapath::Tun, Datapath::Tun));
        bytes_come_back_unchanged(pair);
    });
}

/// How the threads of all tunnels of this process are scheduled (proc_pid_stat(5), field 41).
fn policies() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // A thread may end meanwhile.
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let policies = stats.filter_map(|stat| {
        // What is behind the name begins with the third field.
        let (name, rest) = stat.rsplit_once(") ")?;
        name.contains("(tunnel-").then(|| rest.split(' ').nth(41 - 3).unwrap().to_owned())
    });
    policies.collect()
}

#[test]
fn the_threads_of_a_tunnel_interrupt_nobody_where_they_are_told_not_to() {
    isolated("tunnels::the_threads_of_a_tunnel_interrupt_nobody_where_they_are_told_not_to", &[], || {
        // SCHED_BATCH is 3, and SCHED_OTHER is 0 (sched(7)).
        for (in_batches, expected) in [(true, "3"), (false, "0")] {
            let (machine, _) = machines();
            let address = "10.7.0.1".parse().unwrap();
            let config = TunnelConfig { in_batches, ..config("0.0.0.0:51820", address, DEFAULT_MTU) };
            let tunnel = machine.tunnel_of(config, Datapath::Tun);
            let started = Instant::now();
            // A thread may not have begun yet.
            while policies().is_empty() || policies().iter().any(|policy| policy != expected) {
                assert!(started.elapsed() < LONG, "{:?}, {in_batches}", policies());
                std::thread::yield_now();
            }
            tunnel.stop();
            while !policies().is_empty() {
                assert!(started.elapsed() < 2 * LONG, "its threads do not end");
                std::thread::yield_now();
            }
        }
    });
}

/// Mean bytes of what the kernel took from us and gave to us at a time, on the machine's interface.
fn mean_sizes(machine: &Machine) -> (u64, u64) {
    let read = machine.run(async { std::fs::read_to_string("/proc/thread-self/net/dev").unwrap() }).wait();
    let line = read.lines().find_map(|line| line.trim().strip_prefix("postern0:")).unwrap();
    let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
    (numbers[0] / numbers[1], numbers[8] / numbers[9])
}

#[test]
fn the_kernel_gives_and_takes_many_segments_at_a_time() {
    isolated("tunnels::the_kernel_gives_and_takes_many_segments_at_a_time", &[], || {
        let pair = Pair::new(TUN);
        let (near, far) = connection(&pair);
        let received = pair.far.run(digest(far));
        let sent = pair.near.run(async move {
            let mut near = near;
            for _ in 0..400 {
                near.write_all(&[7; 64 * 1024]).await.unwrap();
            }
            near.shutdown().await.unwrap();
        });
        sent.wait();
        received.wait();
        let (_, given) = mean_sizes(&pair.near);
        let (taken, _) = mean_sizes(&pair.far);
        let several = 4 * u64::from(DEFAULT_MTU);
        assert!(given > several && taken > several, "{given} bytes a read, {taken} bytes a write");
        // What one kernel gave at once the other one got at once.
        assert!(taken * 4 > given * 3, "{given} bytes a read, {taken} bytes a write");
    });
}

#[test]
fn the_kernel_gives_no_more_at_once_than_is_sent_at_once() {
    isolated("tunnels::the_kernel_gives_no_more_at_once_than_is_sent_at_once", &[], || {
        let (near, _far) = machines();
        let _tunnel = near.tunnel("10.7.0.1".parse().unwrap(), Datapath::Tun);
        // 45 datagrams of 1452 bytes are as many as one of 65,507 could carry.
        let shown =
            near.run(async { Command::new("ip").args(["-details", "link", "show", "postern0"]).output().unwrap() });
        let shown = String::from_utf8(shown.wait().stdout).unwrap();
        assert!(shown.contains("gso_max_segs 45 "), "{shown}");
    });
}

/// How many pieces of packets that were too large a machine has made.
fn pieces_made(machine: &Machine) -> u64 {
    let read = machine.run(async { std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap() }).wait();
    let mut lines = read.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
    let (_, made) = names.split(' ').zip(numbers.split(' ')).find(|(name, _)| *name == "FragCreates").unwrap();
    made.parse().unwrap()
}

#[test]
fn an_end_behind_a_narrow_path_is_sent_smaller_packets_and_sends_none_larger() {
    isolated("tunnels::an_end_behind_a_narrow_path_is_sent_smaller_packets_and_sends_none_larger", &[], || {
        for datapath in [Datapath::Tun, Datapath::Netstack] {
            let mut pair = Pair::new(TUN);
            for machine in [&pair.near, &pair.far] {
                // The outer headers over IPv4 have 60 bytes.
                machine.ip("link set cable mtu 1360");
            }
            // Only one end knows; the other one has the usual MTU for all of its peers.
            pair.client = pair.near.tunnel_with("0.0.0.0:0", "10.7.0.3".parse().unwrap(), 1300, datapath);
            pair.introduce();
            echo(&pair.far, &pair.server);
            assert!(pair.near.run(round_trip(pair.client.clone(), pair.at(), 3)).wait());
            assert_eq!((pieces_made(&pair.near), pieces_made(&pair.far)), (0, 0), "{datapath:?}");
        }
    });
}

/// The memory of this process, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn ten_thousand_peers_share_an_interface() {
    const PEERS: u32 = 10_000;
    isolated("tunnels::ten_thousand_peers_share_an_interface", &[], || {
        let pair = Pair::new(TUN);
        let before = resident();
        for number in 0..PEERS {
            let address = IpAddr::from((u32::from(Ipv4Addr::new(10, 8, 0, 0)) + number).to_be_bytes());
            // They are at the same place, where nobody knows them, and are tried again and again.
            let endpoint = Some("192.0.2.2:9".parse().unwrap());
            let public_key = PrivateKey::generate().public();
            let keepalive = (number % 10 == 0).then_some(1);
            pair.client.set_peer(Peer { public_key, endpoint, allowed: vec![address.into()], keepalive, mtu: None });
        }
        assert_eq!(pair.client.peers().len(), 10_001);
        let a_peer = (resident() - before) / u64::from(PEERS);
        assert!(a_peer < 32 * 1024, "{a_peer} bytes for each peer");
        echo(&pair.far, &pair.server);
        assert!(pair.near.run(round_trip(pair.client.clone(), pair.at(), 20)).wait());
    });
}

#[test]
fn outer_addresses_may_be_ipv6() {
    isolated("tunnels::outer_addresses_may_be_ipv6", &[], || {
        for datapath in [Datapath::Tun, Datapath::Netstack] {
            let pair = Pair::over_ipv6([datapath; 2]);
            bytes_come_back_unchanged(pair);
        }
    });
}

#[test]
fn a_cable_that_is_too_narrow_for_a_datagram_carries_it_in_pieces() {
    isolated("tunnels::a_cable_that_is_too_narrow_for_a_datagram_carries_it_in_pieces", &[], || {
        let pair = Pair::new(TUN);
        for machine in [&pair.near, &pair.far] {
            machine.ip("link set cable mtu 1300");
        }
        // Lost pieces are lost packets, so it takes its time.
        echo(&pair.far, &pair.server);
        assert!(pair.near.run(round_trip(pair.client.clone(), pair.at(), 1)).wait());
    });
}

#[test]
fn ends_may_take_part_in_congestion_notification() {
    isolated("tunnels::ends_may_take_part_in_congestion_notification", &[], || {
        let pair = Pair::new(TUN);
        for machine in [&pair.near, &pair.far] {
            machine.run(async { std::fs::write("/proc/sys/net/ipv4/tcp_ecn", "1").unwrap() }).wait();
        }
        bytes_come_back_unchanged(pair);
    });
}

#[test]
fn inner_addresses_may_be_ipv6() {
    isolated("tunnels::inner_addresses_may_be_ipv6", &[], || {
        bytes_come_back_unchanged(Pair::with_addresses(TUN, ["fd00::1", "fd00::2"]));
    });
}

#[test]
fn an_interface_and_a_netstack_understand_each_other() {
    isolated("tunnels::an_interface_and_a_netstack_understand_each_other", &[], || {
        bytes_come_back_unchanged(Pair::new([Datapath::Netstack, Datapath::Tun]));
    });
}

#[test]
fn either_end_may_shut_down_first_and_read_on() {
    isolated("tunnels::either_end_may_shut_down_first_and_read_on", &[], || {
        let pair = Pair::new(TUN);
        let (mut near, mut far) = connection(&pair);
        let near = pair.near.run(async move {
            near.write_all(b"that is all").await.unwrap();
            near.shutdown().await.unwrap();
            assert_eq!(near.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            digest(near).await
        });
        let far = pair.far.run(async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"that is all");
            far.write_all(&[3; 200_000]).await.unwrap();
            far.shutdown().await.unwrap();
        });
        far.wait();
        assert_eq!(near.wait(), Sha256::digest([3; 200_000]).to_vec());
    });
}

#[test]
fn a_stream_that_is_dropped_is_reset_and_not_ended() {
    isolated("tunnels::a_stream_that_is_dropped_is_reset_and_not_ended", &[], || {
        let pair = Pair::new(TUN);
        let (near, mut far) = connection(&pair);
        drop(near);
        let read = pair.far.run(async move { far.read(&mut [0; 1]).await });
        assert_eq!(read.wait().unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_port_that_nobody_listens_on_refuses_and_an_address_of_nobody_has_no_route() {
    isolated("tunnels::a_port_that_nobody_listens_on_refuses_and_an_address_of_nobody_has_no_route", &[], || {
        let pair = Pair::new(TUN);
        let (client, to) = (pair.client.clone(), pair.at());
        let refused = pair.near.run(async move { client.connect(to, LONG).await.err() });
        assert_eq!(refused.wait(), Some(ConnectError::Refused));
        let client = pair.client.clone();
        let lost = pair.near.run(async move { client.connect("10.7.0.3:5433".parse().unwrap(), LONG).await.err() });
        assert_eq!(lost.wait(), Some(ConnectError::NoRoute));
    });
}

#[test]
fn removing_a_peer_cuts_its_connections_at_both_ends() {
    isolated("tunnels::removing_a_peer_cuts_its_connections_at_both_ends", &[], || {
        let pair = Pair::new(TUN);
        let (mut near, mut far) = connection(&pair);
        let near = pair.near.run(async move {
            let error = near.read(&mut [0; 1]).await.unwrap_err().kind();
            (error, near.write(b"x").await.unwrap_err().kind())
        });
        let far = pair.far.run(async move { far.read(&mut [0; 1]).await.unwrap_err().kind() });
        assert!(pair.client.remove_peer(&pair.server.public_key()));
        assert_eq!(near.wait(), (ErrorKind::ConnectionAborted, ErrorKind::ConnectionAborted));
        assert_eq!(far.wait(), ErrorKind::ConnectionReset, "the far end is told");

        let (client, to) = (pair.client.clone(), pair.at());
        let gone = pair.near.run(async move { client.connect(to, LONG).await.err() });
        assert_eq!(gone.wait(), Some(ConnectError::NoRoute));
        pair.introduce();
        echo(&pair.far, &pair.server);
        assert!(pair.near.run(round_trip(pair.client.clone(), to, 1)).wait(), "a peer can come back");
    });
}

#[test]
fn stopping_a_tunnel_fails_its_streams_and_takes_its_interface_away() {
    isolated("tunnels::stopping_a_tunnel_fails_its_streams_and_takes_its_interface_away", &[], || {
        let pair = Pair::new(TUN);
        let (mut near, _far) = connection(&pair);
        pair.client.stop();
        let read = pair.near.run(async move { near.read(&mut [0; 1]).await.unwrap_err().kind() });
        assert_eq!(read.wait(), ErrorKind::ConnectionAborted);
        let Pair { client, near, .. } = pair;
        let (address, gone) = (client.address(), near.run(async move { drop(client) }));
        gone.wait();
        // The threads need a moment to let go of it. An address that is nobody's cannot be bound.
        let left = near.run(async move {
            while tokio::net::TcpListener::bind((address, 0)).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        left.wait();
    });
}

#[test]
fn what_arrives_outside_the_tunnel_reaches_no_port_in_it() {
    isolated("tunnels::what_arrives_outside_the_tunnel_reaches_no_port_in_it", &[], || {
        let (near, far) = machines();
        let server = far.tunnel("10.7.0.2".parse().unwrap(), Datapath::Tun);
        echo(&far, &server);
        near.ip("route add 10.7.0.2 via 192.0.2.2");
        let connected = near.run(async { TcpStream::connect("10.7.0.2:5433").await.map(drop).map_err(|e| e.kind()) });
        assert_eq!(connected.wait(), Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn without_the_privilege_there_is_no_interface_and_auto_does_without() {
    let powerless = ["setpriv", "--bounding-set=-net_admin"];
    isolated("tunnels::without_the_privilege_there_is_no_interface_and_auto_does_without", &powerless, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = || config("127.0.0.1:0", "10.7.0.1".parse().unwrap(), DEFAULT_MTU);
            let refused = Tunnel::start(config(), Datapath::Tun, &Tasks::new()).await.unwrap_err();
            assert!(refused.to_string().starts_with("cannot have a network interface"), "{refused}");
            let tunnel = Tunnel::start(config(), Datapath::Auto, &Tasks::new()).await.unwrap();
            assert_eq!(tunnel.datapath(), Datapath::Netstack);
        });
    });
}
