//! What a caller sees of connections.

use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::time::Duration;

use postern_plumbing::tasks::{Task, Tasks};
use postern_wireguard::{ConnectError, Datapath, ListenError, TcpSettings, Tunnel, TunnelConfig, TunnelError};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::ends::{End, LONG, PORT, at, connection, echo, introduce, pair, peer};

#[tokio::test]
async fn bytes_come_back() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (mut near, mut far) = connection(&client, &server, &listener).await;
    for size in [1, 5, 1380, 1381, 40_000] {
        let data = vec![size as u8; size];
        near.write_all(&data).await.unwrap();
        let mut got = vec![0; size];
        far.read_exact(&mut got).await.unwrap();
        far.write_all(&got).await.unwrap();
        let mut back = vec![0; size];
        near.read_exact(&mut back).await.unwrap();
        assert!(back == data, "{size} bytes");
    }
}

#[tokio::test]
async fn what_is_written_at_once_travels_together() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (mut near, mut far) = connection(&client, &server, &listener).await;
    assert!(near.is_write_vectored());
    let flight = [b"ServerHello".as_slice(), b"", b"Certificate"].map(IoSlice::new);
    assert_eq!(near.write_vectored(&flight).await.unwrap(), 22);
    let mut got = [0; 64];
    assert_eq!(far.read(&mut got).await.unwrap(), 22);
    assert_eq!(&got[..22], b"ServerHelloCertificate");
    // More than the connection has room for: it says how much of it was taken.
    let flight = [[1; 100_000].as_slice(), &[2; 1_000_000]].map(IoSlice::new);
    let taken = near.write_vectored(&flight).await.unwrap();
    let mut got = vec![0; taken];
    far.read_exact(&mut got).await.unwrap();
    let (first, rest) = got.split_at(taken.min(100_000));
    assert!(first.iter().all(|byte| *byte == 1) && rest.iter().all(|byte| *byte == 2));
}

#[tokio::test]
async fn inner_addresses_may_be_ipv6() {
    let [mut one, mut other] = [End::new(1), End::new(2)];
    one.address = "fd00::1".parse().unwrap();
    other.address = "fd00::2".parse().unwrap();
    let (client, server) = (one.start().await, other.start().await);
    introduce(&client, &server);
    let _echo = echo(&server);
    let mut stream = client.connect(at(&server), LONG).await.unwrap();
    stream.write_all(&[6; 100_000]).await.unwrap();
    let mut back = vec![0; 100_000];
    stream.read_exact(&mut back).await.unwrap();
    assert!(back.iter().all(|byte| *byte == 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_connections_at_once() {
    let (client, server) = pair().await;
    let _echo = echo(&server);
    let talks: Vec<_> = (0..64_u8)
        .map(|tag| {
            let client = client.clone();
            let to = at(&server);
            Task::spawn("talk", async move {
                let mut stream = client.connect(to, LONG).await.unwrap();
                for round in 0..20_u8 {
                    let data = vec![tag ^ round; 1000 + usize::from(round) * 700];
                    stream.write_all(&data).await.unwrap();
                    let mut back = vec![0; data.len()];
                    stream.read_exact(&mut back).await.unwrap();
                    assert!(back == data, "connection {tag}, round {round}");
                }
                stream.local_addr()
            })
        })
        .collect();
    let mut ports = std::collections::BTreeSet::new();
    for talk in talks {
        assert!(ports.insert(talk.join().await.unwrap().port()));
    }
}

#[tokio::test]
async fn either_end_may_shut_down_first_and_read_on() {
    for swap in [false, true] {
        let (client, server) = pair().await;
        let listener = server.listen(PORT).unwrap();
        let (near, far) = connection(&client, &server, &listener).await;
        let (mut first, mut second) = if swap { (far, near) } else { (near, far) };
        first.write_all(b"that is all").await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(first.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let mut got = Vec::new();
        second.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"that is all");
        let answer = async move {
            second.write_all(&[3; 200_000]).await.unwrap();
            second.shutdown().await.unwrap();
        };
        got.clear();
        let ((), count) = tokio::join!(answer, first.read_to_end(&mut got));
        assert_eq!(count.unwrap(), 200_000);
        assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0, "the end is the end, asked twice");
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_refuses() {
    let (client, server) = pair().await;
    let error = client.connect(at(&server), LONG).await.unwrap_err();
    assert_eq!(error, ConnectError::Refused);
    assert_eq!(std::io::Error::from(error).kind(), ErrorKind::ConnectionRefused);

    let listener = server.listen(PORT).unwrap();
    drop(connection(&client, &server, &listener).await);
    drop(listener);
    assert_eq!(client.connect(at(&server), LONG).await.unwrap_err(), ConnectError::Refused);
    drop(server.listen(PORT).unwrap());
}

#[tokio::test]
async fn a_listener_that_goes_resets_what_it_did_not_accept() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let mut stream = client.connect(at(&server), LONG).await.unwrap();
    drop(listener);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_dropped_stream_is_a_reset_and_not_an_end() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (mut near, far) = connection(&client, &server, &listener).await;
    near.write_all(b"half a message").await.unwrap();
    let mut far = far;
    far.read_exact(&mut [0; 4]).await.unwrap();
    drop(near);
    let error = far.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(far.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn where_nothing_can_be_reached_the_reason_is_named() {
    let (client, server) = pair().await;
    let nowhere = SocketAddr::from(([10, 7, 0, 99], PORT));
    assert_eq!(client.connect(nowhere, LONG).await.unwrap_err(), ConnectError::NoRoute);
    let silent = SocketAddr::new(client.address(), PORT);
    assert_eq!(server.connect(silent, LONG).await.unwrap_err(), ConnectError::NoEndpoint);
    for address in ["[fd00::1]:1", "10.7.0.2:0", "224.0.0.1:1", "0.0.0.0:1"] {
        let error = client.connect(address.parse().unwrap(), LONG).await.unwrap_err();
        assert!(matches!(error, ConnectError::Address | ConnectError::NoRoute), "{address}: {error}");
    }
    assert_eq!(server.listen(0).unwrap_err(), ListenError::Port);
    let _listener = server.listen(PORT).unwrap();
    assert_eq!(server.listen(PORT).unwrap_err(), ListenError::InUse(PORT));
}

#[tokio::test]
async fn connecting_to_a_silent_peer_ends_at_the_deadline() {
    let client = End::new(1).start().await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let ghost = End::new(2).start().await;
    client.set_peer(peer(&ghost, Some(silent.local_addr().unwrap())));
    let start = Instant::now();
    let error = client.connect(at(&ghost), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error, ConnectError::TimedOut);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_slow_reader_holds_up_its_writer_and_nobody_else() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (mut stuck, mut unread) = connection(&client, &server, &listener).await;
    let mut written = 0;
    while let Ok(count) = timeout(Duration::from_millis(500), stuck.write(&[1; 10_000])).await {
        written += count.unwrap();
    }
    assert_eq!(written, 2 * 65_535, "one buffer at each end");
    let (mut near, mut far) = connection(&client, &server, &listener).await;
    near.write_all(b"not held up").await.unwrap();
    far.read_exact(&mut [0; 11]).await.unwrap();

    let rest = Task::spawn("rest", async move {
        stuck.write_all(&[1; 100_000]).await.unwrap();
        stuck.shutdown().await.unwrap();
        stuck
    });
    let mut got = Vec::new();
    unread.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), written + 100_000);
    drop(rest.join().await.unwrap());
}

#[tokio::test]
async fn more_than_the_backlog_waits_and_is_served_in_the_end() {
    let mut other = End::new(2);
    other.tcp.backlog = 3;
    let (client, server) = (End::new(1).start().await, other.start().await);
    introduce(&client, &server);
    let listener = server.listen(PORT).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(client.connect(at(&server), LONG).await.unwrap());
    }
    let error = client.connect(at(&server), Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(error, ConnectError::TimedOut, "there is no room for a fourth");
    let (fourth, _) = tokio::join!(client.connect(at(&server), LONG), listener.accept());
    fourth.unwrap();
}

#[tokio::test]
async fn connections_are_limited() {
    let mut one = End::new(1);
    one.tcp.max_connections = 2;
    let (client, server) = (one.start().await, End::new(2).start().await);
    introduce(&client, &server);
    let _listener = server.listen(PORT).unwrap();
    let first = client.connect(at(&server), LONG).await.unwrap();
    let _second = client.connect(at(&server), LONG).await.unwrap();
    assert_eq!(client.connect(at(&server), LONG).await.unwrap_err(), ConnectError::Exhausted);
    drop(first);
    client.connect(at(&server), LONG).await.unwrap();
}

#[tokio::test]
async fn short_connections_leave_nothing_behind() {
    let (mut one, mut other) = (End::new(1), End::new(2));
    // What the first ones left behind would be in the way of the last ones. An acknowledgement may be held back for 10 ms,
    // so some are on their way out at any time.
    one.tcp.max_connections = 500;
    other.tcp.max_connections = 500;
    let (client, server) = (one.start().await, other.start().await);
    introduce(&client, &server);
    let _echo = echo(&server);
    for round in 0..2000_u32 {
        let mut stream = client.connect(at(&server), LONG).await.unwrap();
        stream.write_all(&round.to_be_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, round.to_be_bytes());
    }
}

async fn killed(stop: impl FnOnce(&Tunnel)) -> (ErrorKind, Duration) {
    let mut one = End::new(1);
    one.tcp = TcpSettings {
        keepalive: Duration::from_millis(200),
        user_timeout: Duration::from_millis(900),
        ..TcpSettings::default()
    };
    let (client, server) = (one.start().await, End::new(2).start().await);
    introduce(&client, &server);
    let listener = server.listen(PORT).unwrap();
    let (mut near, far) = connection(&client, &server, &listener).await;
    let start = Instant::now();
    stop(&server);
    let error = timeout(LONG, near.read(&mut [0; 1])).await.unwrap().unwrap_err();
    drop((far, server));
    (error.kind(), start.elapsed())
}

#[tokio::test]
async fn an_idle_connection_notices_that_its_peer_was_killed() {
    let (error, after) = killed(Tunnel::stop).await;
    assert_eq!(error, ErrorKind::TimedOut);
    assert!(after >= Duration::from_millis(700), "a living peer would have been given up as well: {after:?}");
}

#[tokio::test]
async fn an_idle_connection_to_a_living_peer_is_kept() {
    let mut one = End::new(1);
    one.tcp.keepalive = Duration::from_millis(100);
    one.tcp.user_timeout = Duration::from_millis(400);
    let (client, server) = (one.start().await, End::new(2).start().await);
    introduce(&client, &server);
    let listener = server.listen(PORT).unwrap();
    let (mut near, mut far) = connection(&client, &server, &listener).await;
    assert!(timeout(Duration::from_millis(1500), near.read(&mut [0; 1])).await.is_err());
    far.write_all(b"!").await.unwrap();
    near.read_exact(&mut [0; 1]).await.unwrap();
}

#[tokio::test]
async fn a_tunnel_that_stops_fails_its_own_streams() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (mut near, _far) = connection(&client, &server, &listener).await;
    let reading = Task::spawn("read", async move { near.read(&mut [0; 1]).await.unwrap_err().kind() });
    tokio::task::yield_now().await;
    drop(client.clone());
    assert!(!reading.is_finished(), "a clone is no owner");
    drop(client);
    assert_eq!(reading.join().await.unwrap(), ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_tunnel_that_was_stopped_gives_its_port_back_though_its_streams_are_still_held() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let _held = connection(&client, &server, &listener).await;
    let mut end = End::new(2);
    end.listen = server.local_addr();
    server.stop();
    assert_eq!(server.listen(PORT + 1).unwrap_err(), ListenError::Stopped);
    assert_eq!(end.start().await.local_addr(), end.listen);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_at_the_start() {
    let start = async |end: End| {
        let config = TunnelConfig {
            private_key: end.key,
            listen: end.listen,
            address: end.address,
            mtu: end.mtu,
            in_batches: false,
        };
        Tunnel::start(config, Datapath::Netstack, &Tasks::new()).await.map(|tunnel| tunnel.datapath())
    };
    for (address, mtu) in [("10.7.0.1", 575), ("10.7.0.1", 9217), ("fd00::1", 1279)] {
        let end = End { address: address.parse().unwrap(), mtu, ..End::new(1) };
        assert!(matches!(start(end).await, Err(TunnelError::Mtu { given, .. }) if given == mtu), "{address} {mtu}");
    }
    for address in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
        let end = End { address: address.parse().unwrap(), ..End::new(1) };
        assert!(matches!(start(end).await, Err(TunnelError::Address)), "{address}");
    }
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let end = End { listen: taken.local_addr().unwrap(), ..End::new(1) };
    assert!(matches!(start(end).await, Err(TunnelError::Listen { .. })));
    assert_eq!(start(End { mtu: 576, ..End::new(1) }).await.unwrap(), Datapath::Netstack);
}

#[tokio::test]
async fn small_and_large_packets_carry_the_same() {
    for (mtu, other) in [(576, 576), (9216, 9216), (1420, 9216)] {
        let (one, two) = (End { mtu, ..End::new(1) }, End { mtu: other, ..End::new(2) });
        let (client, server) = (one.start().await, two.start().await);
        introduce(&client, &server);
        let _echo = echo(&server);
        let mut stream = client.connect(at(&server), LONG).await.unwrap();
        stream.write_all(&[5; 100_000]).await.unwrap();
        let mut back = vec![0; 100_000];
        timeout(LONG, stream.read_exact(&mut back)).await.unwrap().unwrap();
        assert!(back.iter().all(|byte| *byte == 5));
    }
}
