use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};

use smoltcp::wire::{TcpControl, TcpSeqNumber};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::key::PrivateKey;
use crate::link::{self, Inbound};
use crate::segment::tests::acknowledging;

fn stack(host: u8) -> Arc<Netstack> {
    let link = Link::bind(PrivateKey::generate(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let stack = Netstack::new(link, [10, 7, 0, host].into(), 1420, TcpSettings::default());
    stack.start(&postern_plumbing::tasks::Tasks::new());
    stack
}

fn introduce(one: &Netstack, other: &Netstack) {
    one.set_peer(&Peer {
        public_key: other.link.key,
        endpoint: Some(other.link.local_addr()),
        allowed: vec![other.address.into()],
        keepalive: None,
        mtu: None,
    });
}

#[tokio::test]
async fn a_connection_that_a_panic_broke_ends_and_the_others_go_on() {
    let (client, server) = (stack(1), stack(2));
    introduce(&client, &server);
    introduce(&server, &client);
    let listener = server.listen(80).unwrap();
    let to = SocketAddr::new(server.address, 80);
    let long = Duration::from_secs(30);
    let mut broken = client.connect(to, long).await.unwrap();
    let mut whole = client.connect(to, long).await.unwrap();
    let (mut far_broken, mut far_whole) = (listener.accept().await, listener.accept().await);

    let flow = Arc::clone(&broken.flow);
    let panicked = std::thread::spawn(move || {
        let _state = flow.lock();
        panic!("as if smoltcp had");
    });
    assert!(panicked.join().is_err());

    // The next packet for it finds it broken.
    let write = |stream: &mut Stream| match stream.with(|c| {
        c.poll_write(&std::task::Context::from_waker(std::task::Waker::noop()), &[io::IoSlice::new(b"hello")])
    }) {
        std::task::Poll::Ready(written) => written.unwrap(),
        std::task::Poll::Pending => 0,
    };
    assert_eq!(write(&mut far_broken), 5);
    assert_eq!(write(&mut far_whole), 5);
    whole.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(broken.read(&mut [0; 5]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let is_listed = |key| lock(&client.flows).get(key).is_some();
    assert!(!is_listed(&broken.flow.key) && is_listed(&whole.flow.key));
    drop(broken);
}

#[tokio::test]
async fn a_panic_stays_with_what_caused_it() {
    let stack = stack(1);
    let went_on = AtomicBool::new(false);
    assert!(stack.link.contain(|| panic!("a packet that smoltcp does not like")).is_none());
    assert_eq!(stack.link.contain(|| went_on.store(true, Ordering::Relaxed)), Some(()));
    assert!(went_on.into_inner());
}

#[tokio::test]
async fn a_connection_at_rest_answers_the_far_end_s_fin_again_and_nothing_else() {
    let (client, server) = (stack(1), stack(2));
    introduce(&client, &server);
    introduce(&server, &client);
    let listener = server.listen(80).unwrap();
    let to = SocketAddr::new(server.address, 80);
    let mut near = client.connect(to, Duration::from_secs(30)).await.unwrap();
    let mut far = listener.accept().await;
    near.shutdown().await.unwrap();
    far.read_to_end(&mut Vec::new()).await.unwrap();
    far.shutdown().await.unwrap();
    near.read_to_end(&mut Vec::new()).await.unwrap();
    let flow = Arc::clone(&near.flow);
    while lock(&client.flows).get(&flow.key).is_some() {
        tokio::task::yield_now().await;
    }

    let sent = || client.link.peer(&server.link.key, clock::now()).unwrap().tx;
    let arrives = |control, ack, peer: &Arc<link::Peer>| {
        let before = sent();
        let mut inbound = Inbound::default();
        inbound.push(peer, &crate::segment::tests::packet(to, near.local_addr(), control, ack));
        client.deliver(&inbound, clock::now());
        sent() - before
    };
    assert!(arrives(TcpControl::Fin, true, &flow.peer) > 0);
    assert_eq!(arrives(TcpControl::None, true, &flow.peer), 0);
    assert_eq!(arrives(TcpControl::Rst, true, &flow.peer), 0);
    assert!(arrives(TcpControl::Syn, false, &flow.peer) > 0, "nobody listens here, which is said");
}

#[tokio::test]
async fn a_packet_of_another_peer_does_not_reach_a_connection() {
    let (client, server, other) = (stack(1), stack(2), stack(3));
    introduce(&client, &server);
    introduce(&client, &other);
    introduce(&server, &client);
    let _listener = server.listen(80).unwrap();
    let to = SocketAddr::new(server.address, 80);
    let near = client.connect(to, Duration::from_secs(30)).await.unwrap();
    let sent = || client.link.peer(&server.link.key, clock::now()).unwrap().tx;
    let challenged = |peer: &Arc<link::Peer>| {
        let before = sent();
        // Sequence numbers begin anywhere: one of the two acknowledges what was never sent, which is answered.
        for number in [2, i32::MIN + 2].map(TcpSeqNumber) {
            let mut inbound = Inbound::default();
            inbound.push(peer, &acknowledging(to, near.local_addr(), TcpControl::Syn, Some(number)));
            client.deliver(&inbound, clock::now());
        }
        sent() > before
    };
    assert!(!challenged(&client.link.route(other.address).unwrap()));
    assert!(challenged(&near.flow.peer));
}

#[tokio::test]
async fn idle_connections_cost_a_busy_one_nothing() {
    const IDLE: usize = 500;
    let (client, server) = (stack(1), stack(2));
    introduce(&client, &server);
    introduce(&server, &client);
    let listener = server.listen(80).unwrap();
    let to = SocketAddr::new(server.address, 80);
    let mut streams = Vec::new();
    for _ in 0..=IDLE {
        let near = client.connect(to, Duration::from_secs(30)).await.unwrap();
        streams.push((near, listener.accept().await));
    }
    let (mut near, mut far) = streams.pop().unwrap();
    let turns = |stream: &Stream| stream.flow.lock().unwrap().turns;
    let all = || streams.iter().map(|(near, far)| turns(near) + turns(far)).sum::<u64>();
    let (idle, busy) = (all(), turns(&near) + turns(&far));
    for _ in 0..50 {
        near.write_all(&[7; 10_000]).await.unwrap();
        far.read_exact(&mut [0; 10_000]).await.unwrap();
    }
    assert!(turns(&near) + turns(&far) >= busy + 100, "the busy one was not busy");
    // A timer of the handshake may still come up at either end. Looking through all would be a hundred times as much.
    let spent = all() - idle;
    assert!(spent <= 2 * IDLE as u64, "{spent} turns of connections that nothing happens to");
}
