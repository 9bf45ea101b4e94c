use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::segment::tests::{Draft, elsewhere, ends};
use crate::vnet;

/// What the kernel hands over for a long segment: the checksum holds the sum of the pseudo-header only.
fn handed(ends: (SocketAddr, SocketAddr), sequence: u32, payload: &[u8], size: u16) -> Vec<u8> {
    let mut packet = Draft::new(ends, sequence, payload.to_vec()).write();
    let segment = Segment::parse(&packet).unwrap();
    let (tcp_at, headers) = (segment.tcp_at, segment.payload_at);
    let length = u16::try_from(packet.len() - tcp_at).unwrap();
    let pseudo = checksum::fold(checksum::add(segment.pseudo_header(), length));
    packet[tcp_at + 16..tcp_at + 18].copy_from_slice(&pseudo);
    packet[tcp_at + 13] |= Segment::PSH;
    let header = Header {
        needs_checksum: true,
        cut: if ends.0.is_ipv4() { Cut::TcpV4 } else { Cut::TcpV6 },
        headers: u16::try_from(headers).unwrap(),
        size,
        checksum_start: u16::try_from(tcp_at).unwrap(),
        checksum_offset: 16,
    };
    [&header.to_bytes()[..], &packet].concat()
}

pub(crate) fn packets(frame: &mut [u8]) -> Vec<Vec<u8>> {
    match open(frame).unwrap() {
        Handed::Packet(packet) => vec![packet.to_vec()],
        Handed::Segments(segments) => {
            let mut packets = segments.cut(usize::MAX).unwrap();
            std::iter::from_fn(|| packets.next().map(<[u8]>::to_vec)).collect()
        }
    }
}

#[test]
fn what_is_said_of_the_whole_is_said_by_one_packet() {
    for ends in ends() {
        let mut frame = handed(ends, 1, &[1; 25], 10);
        let flags = vnet::LEN + if ends.0.is_ipv4() { 20 } else { 40 } + 13;
        frame[flags] |= Segment::FIN | Segment::CWR;
        let flags: Vec<u8> = packets(&mut frame).iter().map(|packet| Segment::parse(packet).unwrap().flags()).collect();
        let plain = Segment::ACK;
        assert_eq!(flags, [plain | Segment::CWR, plain, plain | Segment::FIN | Segment::PSH]);
    }
}

#[test]
fn numbers_of_packets_go_up_and_round() {
    let mut frame = handed(ends()[0], 1, &[1; 25], 10);
    frame[vnet::LEN + 4..vnet::LEN + 6].copy_from_slice(&[0xff, 0xff]);
    let numbers: Vec<u16> = packets(&mut frame).iter().map(|packet| u16_at(packet, 4)).collect();
    assert_eq!(numbers, [0xffff, 0, 1]);
}

#[test]
fn absurd_sizes_are_refused_or_cut_and_never_exceed_the_limit() {
    for ends in ends() {
        assert_eq!(open(&mut handed(ends, 1, &[1; 100], 0)).unwrap_err(), Unsplittable::Segments);
        assert_eq!(open(&mut handed(ends, 1, &[], 10)).unwrap_err(), Unsplittable::Segments);
        assert_eq!(packets(&mut handed(ends, 1, &[1; 100], 1)).len(), 100);
        let mut frame = handed(ends, 1, &[1; 2000], u16::MAX);
        let Ok(Handed::Segments(segments)) = open(&mut frame) else { panic!("no segments") };
        let whole = segments.whole().packet().len();
        assert_eq!((segments.count(), segments.longest()), (1, whole));
        assert!(segments.cut(whole - 1).is_none());
        assert_eq!(packets(&mut frame).iter().map(Vec::len).collect::<Vec<_>>(), [whole]);
    }
}

#[test]
fn a_kind_that_the_packet_is_not_is_refused() {
    let [v4, v6] = ends();
    for (ends, kind) in [(v4, 4), (v6, 1)] {
        let mut frame = handed(ends, 1, &[1; 100], 10);
        frame[1] = kind;
        assert_eq!(open(&mut frame).unwrap_err(), Unsplittable::Segments);
    }
    assert_eq!(open(&mut [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap_err(), Unsplittable::Header);
    assert_eq!(open(&mut [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1]).unwrap_err(), Unsplittable::Checksum);
}

proptest! {
    #[test]
    fn every_packet_is_right_and_together_they_are_the_whole(
        v6: bool, sequence: u32, payload in prop::collection::vec(any::<u8>(), 1..5000), size in 1_u16..1400,
    ) {
        let ends = ends()[usize::from(v6)];
        let packets = packets(&mut handed(ends, sequence, &payload, size));
        let mut put_together = Vec::new();
        for (index, packet) in packets.iter().enumerate() {
            let (from, to, carried, right) = elsewhere(packet).unwrap();
            prop_assert!(right && (from, to) == ends);
            prop_assert!(carried.len() == usize::from(size) || index + 1 == packets.len());
            let segment = Segment::parse(packet).unwrap();
            prop_assert_eq!(segment.sequence(), sequence.wrapping_add(u32::try_from(put_together.len()).unwrap()));
            prop_assert!(v6 || checksum::finish(checksum::sum(&packet[..20])) == [0, 0]);
            put_together.extend(carried);
        }
        prop_assert_eq!(put_together, payload);
    }

    #[test]
    fn a_packet_that_stays_one_gets_its_checksum(v6: bool, payload in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut frame = handed(ends()[usize::from(v6)], 5, &payload, 0);
        frame[1] = 0;
        let packets = packets(&mut frame);
        prop_assert_eq!(elsewhere(&packets[0]).map(|(.., right)| right), Some(true));
    }

    #[test]
    fn nothing_makes_it_panic(mut frame in prop::collection::vec(any::<u8>(), 0..200), kind in 0_usize..3, version in 0_u8..3) {
        if let [_, cut, .., first, _] = frame.get_mut(..12).unwrap_or_default() {
            *cut = [0, 1, 4][kind];
            *first = [0x45, 0x60, *first][usize::from(version)];
        }
        if let Ok(Handed::Segments(segments)) = open(&mut frame) {
            let (count, longest) = (segments.count(), segments.longest());
            let mut packets = segments.cut(longest).unwrap();
            let mut seen = 0;
            while let Some(packet) = packets.next() {
                prop_assert!(packet.len() <= longest);
                seen += 1;
            }
            prop_assert_eq!(seen, count);
        }
    }
}
