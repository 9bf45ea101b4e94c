use std::sync::Arc;

use boringtun::noise::rate_limiter::RateLimiter;

use super::*;
use crate::key::PrivateKey;

fn peer(index: u32) -> Arc<Peer> {
    let private = PrivateKey::generate();
    let limiter = Arc::new(RateLimiter::new(&private.public().to_x25519(), u64::MAX));
    Peer::new(private.public(), index, Session::new(&private, private.public(), index, &limiter))
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn owner(table: &Table, address: &str) -> Option<u32> {
    table.by_address(address.parse().unwrap()).map(|peer| peer.index)
}

#[test]
fn a_peer_is_found_by_key_index_and_address_until_it_is_removed() {
    let (mut table, one) = (Table::default(), peer(7));
    table.insert(&one);
    assert!(!table.allow(&one, &nets(&["10.0.0.1/32", "fd00::/64"])));
    assert!(table.by_key(&one.key).is_some());
    assert!(table.by_receiver(7 << 8 | 0xff).is_some() && table.by_receiver(8 << 8).is_none());
    assert_eq!(
        (owner(&table, "10.0.0.1"), owner(&table, "fd00::5"), owner(&table, "10.0.0.2")),
        (Some(7), Some(7), None)
    );
    assert!(table.owns(&one, "10.0.0.1".parse().unwrap()));

    assert!(!one.is_removed());
    table.remove(&one.key).unwrap();
    assert!(one.is_removed() && table.remove(&one.key).is_none());
    assert!(table.by_key(&one.key).is_none() && table.by_receiver(7 << 8).is_none());
    assert_eq!(owner(&table, "10.0.0.1"), None);
}

#[test]
fn it_is_told_when_addresses_may_have_moved() {
    let (mut table, one, other) = (Table::default(), peer(1), peer(2));
    table.insert(&one);
    table.insert(&other);
    assert!(!table.allow(&one, &nets(&["10.0.0.0/24"])));
    assert!(!table.allow(&one, &nets(&["10.0.0.0/24"])), "the same again");
    assert!(!table.allow(&other, &nets(&["10.0.1.1/32"])));
    assert!(table.allow(&other, &nets(&["10.0.0.5/32"])), "taken from the first one's network");
    assert_eq!(
        (owner(&table, "10.0.0.5"), owner(&table, "10.0.0.6"), owner(&table, "10.0.1.1")),
        (Some(2), Some(1), None)
    );
    table.remove(&other.key);
    assert_eq!(owner(&table, "10.0.0.5"), Some(1));
}

#[test]
fn an_index_is_never_given_twice() {
    let mut table = Table::default();
    table.insert(&peer(3));
    let mut drawn = [3 << 8, 3 << 8 | 255, 0xffff_ffff].into_iter();
    assert_eq!(table.free_index(|| drawn.next().unwrap()), 0x00ff_ffff);
}
