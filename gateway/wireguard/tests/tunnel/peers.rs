//! Who may speak to whom, and from where.

use std::io::ErrorKind;
use std::time::Duration;

use postern_plumbing::tasks::Task;
use postern_wireguard::{ConnectError, PrivateKey, Tunnel, TunnelStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

use crate::ends::{End, LONG, PORT, at, connection, echo, introduce, pair, peer};
use crate::network::Network;

/// Shorter than any retry, and long enough for an answer on a busy machine.
const SHORT: Duration = Duration::from_millis(800);

async fn ping(stream: &mut TunnelStream) {
    stream.write_all(b"ping").await.unwrap();
    timeout(LONG, stream.read_exact(&mut [0; 4])).await.unwrap().unwrap();
}

async fn until(holds: impl Fn() -> bool) {
    timeout(LONG, async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_stranger_gets_no_answer_of_any_kind() {
    let (client, server) = (End::new(1).start().await, End::new(2).start().await);
    let _echo = echo(&server);
    let network = Network::to(server.local_addr()).await;
    client.set_peer(peer(&server, Some(network.entrance())));
    assert_eq!(client.connect(at(&server), SHORT).await.unwrap_err(), ConnectError::TimedOut);
    assert!(!network.seen().is_empty());
    assert_eq!(network.returned(), 0);
    assert!(server.peers().is_empty());

    // The key of the server alone does not help either: this one takes a known peer's place without its private key.
    server.set_peer(postern_wireguard::Peer { public_key: PrivateKey::generate().public(), ..peer(&client, None) });
    assert_eq!(client.connect(at(&server), SHORT).await.unwrap_err(), ConnectError::TimedOut);
    assert_eq!(network.returned(), 0);
}

#[tokio::test]
async fn a_peer_speaks_from_its_own_addresses_only() {
    let (victim, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (mut near, mut far) = connection(&victim, &server, &listener).await;

    // It uses the victim's address, and is known to the server by another one.
    let thief = End::new(1).start().await;
    thief.set_peer(peer(&server, Some(server.local_addr())));
    server.set_peer(postern_wireguard::Peer { allowed: vec!["10.7.0.3/32".parse().unwrap()], ..peer(&thief, None) });
    assert_eq!(thief.connect(at(&server), SHORT).await.unwrap_err(), ConnectError::TimedOut);
    assert!(server.peer(&thief.public_key()).unwrap().last_handshake.is_some(), "it was let in, but not heard");

    near.write_all(b"still mine").await.unwrap();
    far.read_exact(&mut [0; 10]).await.unwrap();
}

#[tokio::test]
async fn removing_a_peer_cuts_its_connections_at_both_ends_and_no_others() {
    let (client, server) = pair().await;
    let bystander = End::new(3).start().await;
    introduce(&bystander, &server);
    let listener = server.listen(PORT).unwrap();
    let (mut near, mut far) = connection(&client, &server, &listener).await;
    let (mut other_near, mut other_far) = connection(&bystander, &server, &listener).await;

    assert!(server.remove_peer(&client.public_key()));
    assert!(!server.remove_peer(&client.public_key()));
    let cut = timeout(LONG, near.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert_eq!(cut.kind(), ErrorKind::ConnectionReset);
    assert_eq!(far.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(far.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(client.connect(at(&server), SHORT).await.unwrap_err(), ConnectError::TimedOut);
    assert_eq!(server.peers().len(), 1);

    other_near.write_all(b"untouched").await.unwrap();
    other_far.read_exact(&mut [0; 9]).await.unwrap();

    server.set_peer(peer(&client, Some(client.local_addr())));
    drop(connection(&client, &server, &listener).await);
}

#[tokio::test]
async fn a_peer_may_be_changed_under_its_connections() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (mut near, mut far) = connection(&client, &server, &listener).await;
    let handshake = || server.peer(&client.public_key()).unwrap().last_handshake.unwrap();
    let before = handshake();
    let mut changed = peer(&client, None);
    changed.keepalive = Some(25);
    changed.allowed.push("10.7.1.0/24".parse().unwrap());
    server.set_peer(changed.clone());
    near.write_all(b"as before").await.unwrap();
    far.read_exact(&mut [0; 9]).await.unwrap();
    assert!(handshake() >= before, "the session is the same");
    assert_eq!(server.peer(&client.public_key()).unwrap().endpoint, Some(client.local_addr()));

    changed.allowed = vec!["10.7.1.0/24".parse().unwrap()];
    server.set_peer(changed);
    assert_eq!(far.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_peer_with_a_keepalive_makes_itself_known_and_can_be_called() {
    let (client, server) = (End::new(1).start().await, End::new(2).start().await);
    server.set_peer(peer(&client, None));
    let _echo = echo(&client);
    client.set_peer(postern_wireguard::Peer { keepalive: Some(25), ..peer(&server, Some(server.local_addr())) });
    until(|| server.peer(&client.public_key()).unwrap().last_handshake.is_some()).await;
    let status = server.peer(&client.public_key()).unwrap();
    assert_eq!(status.endpoint, Some(client.local_addr()));
    assert!(status.rx > 0 && status.tx > 0 && status.last_received.is_some());
    ping(&mut server.connect(at(&client), LONG).await.unwrap()).await;
}

#[tokio::test]
async fn a_client_that_moves_keeps_its_connections() {
    let (client, server) = (End::new(1).start().await, End::new(2).start().await);
    let mut network = Network::to(server.local_addr()).await;
    client.set_peer(peer(&server, Some(network.entrance())));
    server.set_peer(peer(&client, None));
    let _echo = echo(&server);
    let mut stream = client.connect(at(&server), LONG).await.unwrap();
    for _ in 0..3 {
        ping(&mut stream).await;
        assert_eq!(server.peer(&client.public_key()).unwrap().endpoint, Some(network.exit()));
        network.move_exit().await;
    }
    ping(&mut stream).await;
}

/// A server that is killed and comes back with the same key at the same place, without knowing where its client is.
async fn restart(server: Tunnel, end: &mut End, client: &Tunnel) -> (Tunnel, Task<()>) {
    end.listen = server.local_addr();
    drop(server);
    let again = end.start().await;
    again.set_peer(peer(client, None));
    let echo = echo(&again);
    (again, echo)
}

#[tokio::test]
async fn a_server_that_restarted_is_found_by_the_traffic_to_it() {
    let mut end = End::new(2);
    let (client, server) = (End::new(1).start().await, end.start().await);
    introduce(&client, &server);
    let running = echo(&server);
    let mut old = client.connect(at(&server), LONG).await.unwrap();
    ping(&mut old).await;
    running.stop().await;
    let (server, _echo) = restart(server, &mut end, &client).await;

    let start = Instant::now();
    let mut new = client.connect(at(&server), LONG).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    ping(&mut new).await;
    old.write_all(b"still there?").await.unwrap();
    let error = timeout(LONG, old.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the new one knows nothing of it");
}

#[tokio::test]
async fn a_client_that_is_told_of_a_restart_does_not_have_to_find_out() {
    let mut end = End::new(2);
    let (client, server) = (End::new(1).start().await, end.start().await);
    introduce(&client, &server);
    let running = echo(&server);
    let mut old = client.connect(at(&server), LONG).await.unwrap();
    ping(&mut old).await;
    drop(old);
    running.stop().await;
    // A handshake is not begun within a second of another.
    sleep(Duration::from_millis(1100)).await;
    let (server, _echo) = restart(server, &mut end, &client).await;
    let before = client.peer(&server.public_key()).unwrap().last_handshake.unwrap();
    assert!(client.handshake(&server.public_key()));
    until(|| client.peer(&server.public_key()).unwrap().last_handshake.unwrap() < before).await;
    ping(&mut client.connect(at(&server), LONG).await.unwrap()).await;
    assert!(!client.handshake(&client.public_key()));
}

#[tokio::test]
async fn a_client_that_restarted_is_taken_back_at_once() {
    let mut end = End::new(1);
    let (client, server) = (end.start().await, End::new(2).start().await);
    introduce(&client, &server);
    let _echo = echo(&server);
    ping(&mut client.connect(at(&server), LONG).await.unwrap()).await;
    end.listen = "127.0.0.1:0".parse().unwrap();
    drop(client);
    let client = end.start().await;
    client.set_peer(peer(&server, Some(server.local_addr())));
    ping(&mut client.connect(at(&server), SHORT).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_peers_share_one_socket() {
    let server = End::new(200).start().await;
    let _echo = echo(&server);
    let mut talks = Vec::new();
    for host in 1..=50 {
        let client = End::new(host).start().await;
        introduce(&client, &server);
        let to = at(&server);
        talks.push(Task::spawn("talk", async move {
            let mut stream = client.connect(to, LONG).await.unwrap();
            for _ in 0..5 {
                ping(&mut stream).await;
            }
        }));
    }
    for talk in talks {
        talk.join().await.unwrap();
    }
    assert_eq!(server.peers().len(), 50);
    assert!(server.peers().is_sorted_by_key(|peer| peer.public_key));
    assert!(server.peers().iter().all(|peer| peer.last_handshake.is_some()));
}
