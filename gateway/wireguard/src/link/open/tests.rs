use std::net::Ipv4Addr;

use super::*;
use crate::clock;
use crate::config;
use crate::key::PrivateKey;

/// Two ends with a session.
async fn ends() -> [Link; 2] {
    let ends = [1, 2].map(|_| Link::bind(PrivateKey::generate(), "127.0.0.1:0".parse().unwrap()).unwrap());
    let [near, far] = &ends;
    near.udp.writable().await;
    far.udp.writable().await;
    for (one, other, address) in [(near, far, [10, 7, 0, 2]), (far, near, [10, 7, 0, 1])] {
        let allowed = vec![IpAddr::from(address).into()];
        let endpoint = Some(other.local_addr());
        one.set_peer(
            &config::Peer { public_key: other.key, endpoint, allowed, keepalive: None, mtu: None },
            clock::now(),
        );
    }
    assert!(near.handshake(&far.key, clock::now()));
    for end in [far, near, far] {
        assert!(hear(end).await.is_empty());
    }
    ends
}

/// The packets of the next datagrams.
async fn hear(link: &Link) -> Vec<Vec<u8>> {
    let (mut arrivals, mut inbound) = (Arrivals::new(), Inbound::default());
    link.udp.readable().await.unwrap();
    while link.receive(&link.udp, &mut arrivals, &mut inbound, clock::now()).is_ok() {}
    inbound.iter().map(|(_, packet)| packet.to_vec()).collect()
}

/// An IPv4 header and nothing else.
fn packet(source: Ipv4Addr, mark: Mark) -> Vec<u8> {
    let mut packet = vec![0; 20];
    (packet[0], packet[1], packet[3]) = (0x45, mark.to_byte(), 20);
    packet[12..16].copy_from_slice(&source.octets());
    packet
}

fn send(link: &Link, packets: &[Vec<u8>], outer: Mark) {
    let peer = link.route([10, 7, 0, 2].into()).unwrap();
    let mut sealed = Batch::default();
    let mut sealer = link.sealer(&peer, clock::now(), &mut sealed);
    packets.iter().for_each(|packet| sealer.seal(packet, false, &mut sealed));
    drop(sealer);
    link.send_to(&peer, &link.udp, &mut sealed, outer);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_router_says_of_congestion_is_told_to_packets_and_those_that_would_not_understand_are_dropped() {
    let [near, far] = ends().await;
    let own = Ipv4Addr::new(10, 7, 0, 1);
    let packets = [Mark::Zero, Mark::NotCapable, Mark::One].map(|mark| packet(own, mark));
    send(&near, &packets, Mark::Congested);
    let marks: Vec<Mark> = hear(&far).await.iter().map(|packet| Mark::of_packet(packet)).collect();
    assert_eq!(marks, [Mark::Congested, Mark::Congested]);
    send(&near, &packets, Mark::NotCapable);
    assert_eq!(hear(&far).await, packets);
}

#[tokio::test]
async fn every_packet_is_judged_by_its_own_source_though_neighbours_were_allowed() {
    let [near, far] = ends().await;
    let (own, other) = (Ipv4Addr::new(10, 7, 0, 1), Ipv4Addr::new(10, 7, 0, 9));
    let packets = [own, other, own, other, other, own].map(|source| packet(source, Mark::NotCapable));
    send(&near, &packets, Mark::NotCapable);
    let heard = hear(&far).await;
    assert_eq!(heard, vec![packet(own, Mark::NotCapable); 3]);
}

#[tokio::test]
async fn a_neighbour_that_is_not_authentic_or_of_somebody_unknown_spoils_nothing() {
    let [near, far] = ends().await;
    let peer = near.route([10, 7, 0, 2].into()).unwrap();
    let own = packet(Ipv4Addr::new(10, 7, 0, 1), Mark::NotCapable);
    let mut sealed = Batch::default();
    let mut sealer = near.sealer(&peer, clock::now(), &mut sealed);
    // Each shorter than the one before, so that they travel one by one.
    for length in (0..6).map(|missing| 60 - missing) {
        let mut packet = own.clone();
        packet.resize(length, 0);
        sealer.seal(&packet, false, &mut sealed);
    }
    drop(sealer);
    *sealed.get_mut(1).unwrap().last_mut().unwrap() ^= 1;
    sealed.get_mut(3).unwrap()[4..8].fill(0xff);
    sealed.get_mut(4).unwrap()[0] = 9;
    near.send_to(&peer, &near.udp, &mut sealed, Mark::NotCapable);
    assert_eq!(hear(&far).await, vec![own; 3]);
}
