use std::time::Duration;

use super::*;
use crate::config;
use crate::key::PrivateKey;
use crate::link::wheel::TICK;

fn link() -> Link {
    Link::bind(PrivateKey::generate(), "127.0.0.1:0".parse().unwrap()).unwrap()
}

fn add_peer(link: &Link, keepalive: Option<u16>, now: Instant) -> Arc<Peer> {
    let key = PrivateKey::generate().public();
    let endpoint = Some(link.local_addr());
    link.set_peer(&config::Peer { public_key: key, endpoint, allowed: vec![], keepalive, mtu: None }, now);
    Arc::clone(read(&link.table).by_key(&key).unwrap())
}

#[tokio::test]
async fn thousands_of_quiet_peers_are_not_looked_at_with_every_tick() {
    const PEERS: usize = 2_000;
    let (link, start) = (link(), Instant::now());
    for _ in 0..PEERS {
        add_peer(&link, None, start);
    }
    let ticks = 400;
    let looked_at: usize = (1..=ticks).map(|tick| link.tick(start + TICK * tick)).sum();
    // In 100 seconds, every ten seconds.
    assert!((PEERS * 9..=PEERS * 10).contains(&looked_at), "{looked_at} looks");
}

#[tokio::test]
async fn a_session_that_something_happens_to_is_looked_at_soon_and_then_left_alone() {
    let (link, start) = (link(), Instant::now());
    let peer = add_peer(&link, None, start);
    let later = start + TICK * 8;
    assert_eq!(link.tick(later), 0);
    drop(link.sealer(&peer, later, &mut Batch::default()));
    assert_eq!((link.tick(later + TICK), link.tick(later + TICK * 2)), (1, 0));
}

#[tokio::test]
async fn a_peer_that_is_gone_is_not_looked_at_and_one_with_a_keepalive_is_in_time() {
    let (link, start) = (link(), Instant::now());
    let (gone, kept) = (add_peer(&link, Some(3), start), add_peer(&link, Some(3), start));
    link.remove_peer(&gone.key);
    let due = start + Duration::from_secs(3);
    assert_eq!(link.tick(due - TICK), 0);
    assert_eq!(link.tick(due + TICK), 1);
    assert!(lock(&kept.session).armed.is_some(), "it is set again");
}
