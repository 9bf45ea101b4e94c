//! What is fuzzed, for the fuzzer and for the replay of its corpora alike. Nothing here may panic but an assertion that says
//! what went wrong.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use postern_packets::congestion::Mark;
use postern_packets::join::{Joiner, MOST_JOINED};
use postern_packets::split::{Handed, open};
use postern_packets::vnet::{self, Header};
use postern_packets::{Segment, checksum};

/// A target, under its name.
pub(crate) type Target = fn(&[u8]);

/// Every target. Each has a folder of its name in `corpus`.
pub(crate) const ALL: [(&str, Target); 6] = [
    ("vnet", vnet),
    ("segment", segment),
    ("split", split),
    ("join", join),
    ("congestion", congestion),
    ("messages", messages),
];

/// The header of the interface. What is understood is written as it was read.
pub(crate) fn vnet(data: &[u8]) {
    let mut frame = data.to_vec();
    let Some((header, packet)) = Header::read(&mut frame) else { return };
    assert_eq!(packet.len() + vnet::LEN, data.len());
    assert_eq!(Header::read(&mut header.to_bytes()).map(|(again, _)| again), Some(header));
}

/// The headers of IP and TCP. What is found is inside the packet.
pub(crate) fn segment(data: &[u8]) {
    let Some(segment) = Segment::parse(data) else { return };
    assert!(segment.packet().len() <= data.len() && segment.payload().len() < segment.packet().len());
    assert_eq!(segment.source().is_ipv4(), segment.destination().is_ipv4());
    assert!(!(segment.opens() && (segment.closes() || segment.resets())), "it cannot be all of that");
    let _right: bool = segment.is_intact();
    assert!(Segment::parse(segment.packet()).is_some(), "what it is is not what was read");
}

/// What the kernel hands over. Every packet is right, and together they carry what was handed over.
pub(crate) fn split(data: &[u8]) {
    let mut frame = data.to_vec();
    let Ok(Handed::Segments(segments)) = open(&mut frame) else { return };
    let (whole, count, longest) = (segments.whole(), segments.count(), segments.longest());
    let (ends, payload) = ((whole.source(), whole.destination()), whole.payload().to_vec());
    let Some(mut packets) = segments.cut(longest) else { panic!("the longest is too long") };
    let mut carried = Vec::new();
    for index in 0..count {
        let Some(packet) = packets.next() else { panic!("packet {index} is missing") };
        assert!(packet.len() <= longest, "packet {index} is too long");
        let Some(segment) = Segment::parse(packet) else { panic!("packet {index} is none") };
        assert!(segment.is_intact(), "packet {index} is wrong");
        assert_eq!((segment.source(), segment.destination()), ends);
        carried.extend_from_slice(segment.payload());
    }
    assert_eq!(carried, payload);
    assert!(packets.next().is_none(), "there is one more");
}

/// Packets that came in, each behind its length in two bytes. What they carry is neither lost nor put together wrongly, and
/// nothing that is wrong is joined.
pub(crate) fn join(data: &[u8]) {
    let (mut joiner, mut bytes, mut rest) = (Joiner::default(), Vec::new(), data);
    let mut places = Vec::new();
    while let [high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (packet, next) = behind.split_at(length);
        places.push(bytes.len()..bytes.len() + length);
        bytes.extend_from_slice(packet);
        rest = next;
    }
    let mut came = 0;
    for place in places {
        let Some(segment) = bytes.get(place.clone()).and_then(Segment::parse) else { continue };
        came += segment.payload().len();
        joiner.add(&bytes, place, &segment);
    }
    let mut left = 0;
    for frame in joiner.frames(&bytes) {
        assert!(frame.packets() <= MOST_JOINED);
        let mut written = frame.pieces().collect::<Vec<_>>().concat();
        let Ok(handed) = open(&mut written) else { panic!("the kernel would not understand it") };
        match handed {
            Handed::Packet(packet) => left += Segment::parse(packet).map_or(0, |segment| segment.payload().len()),
            Handed::Segments(segments) => {
                assert_eq!(segments.count(), frame.packets());
                left += segments.whole().payload().len();
            }
        }
    }
    assert_eq!(left, came, "bytes were lost or made up");
}

/// The first byte is what the outer header says. The inner one stays as right as it was.
pub(crate) fn congestion(data: &[u8]) {
    let [outer, packet @ ..] = data else { return };
    let is_v4 = packet.first() == Some(&0x45) && packet.len() >= 20;
    let sum = |packet: &[u8]| checksum::finish(checksum::sum(packet.get(..20).unwrap_or_default()));
    let mut told = packet.to_vec();
    if Mark::of_byte(*outer).tell(&mut told) && is_v4 {
        assert_eq!(sum(&told) == [0, 0], sum(packet) == [0, 0]);
    }
}

/// Messages of WireGuard, each behind its length in two bytes, looked at in the way of datagrams that come in: the limiter,
/// whoever claims to have sent them, and a session. Nobody here holds the keys, so nothing comes out.
pub(crate) fn messages(data: &[u8]) {
    let secret = StaticSecret::from([7; 32]);
    let (public, other) = (PublicKey::from(&secret), PublicKey::from(&StaticSecret::from([9; 32])));
    let limiter = Arc::new(RateLimiter::new(&public, 3));
    let unlimited = Arc::new(RateLimiter::new(&public, u64::MAX));
    let mut tunn = Tunn::new(secret.clone(), other, None, None, 5, Some(unlimited));
    let (mut room, mut rest) = (vec![0; 70_000], data);
    while let [high, low, behind @ ..] = rest {
        let (message, next) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(behind.len()));
        rest = next;
        if let Ok(Packet::HandshakeInit(initiation)) =
            limiter.verify_packet(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), message, &mut [0; 64])
        {
            let _who = parse_handshake_anon(&secret, &public, &initiation);
        }
        let opened = tunn.decapsulate(Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), message, &mut room);
        assert!(matches!(opened, TunnResult::Done | TunnResult::Err(_)), "{opened:?} came of what nobody encrypted");
    }
}
