use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::*;

/// A segment with right checksums.
pub(crate) fn packet(source: SocketAddr, destination: SocketAddr, control: TcpControl, ack: bool) -> Vec<u8> {
    acknowledging(source, destination, control, ack.then_some(TcpSeqNumber(2)))
}

/// The same, with an acknowledgement of one's own.
pub(crate) fn acknowledging(
    source: SocketAddr,
    destination: SocketAddr,
    control: TcpControl,
    ack_number: Option<TcpSeqNumber>,
) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: source.port(),
        dst_port: destination.port(),
        control,
        seq_number: TcpSeqNumber(1),
        ack_number,
        window_len: 100,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: b"payload",
    };
    let (source, destination) = (source.ip(), destination.ip());
    let ip = IpRepr::new(source.into(), destination.into(), IpProtocol::Tcp, tcp.buffer_len(), 64);
    let mut bytes = vec![0; ip.buffer_len()];
    ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
    let mut segment = TcpPacket::new_unchecked(&mut bytes[ip.header_len()..]);
    tcp.emit(&mut segment, &source.into(), &destination.into(), &ChecksumCapabilities::default());
    bytes
}

fn pairs() -> [(SocketAddr, SocketAddr); 2] {
    [("10.7.0.1:40000", "10.7.0.2:5433"), ("[fd00::1]:40000", "[fd00::2]:5433")]
        .map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()))
}

#[test]
fn both_families_and_the_flags_are_read() {
    for (source, destination) in pairs() {
        for (control, ack, opens, closes, resets) in [
            (TcpControl::Syn, false, true, false, false),
            (TcpControl::Syn, true, false, false, false),
            (TcpControl::Rst, true, false, false, true),
            (TcpControl::Fin, true, false, true, false),
            (TcpControl::None, true, false, false, false),
        ] {
            let segment = Segment::parse(&packet(source, destination, control, ack)).unwrap();
            let expected = Segment { source, destination, opens, closes, resets };
            assert_eq!(segment, expected);
        }
    }
}

#[test]
fn no_prefix_of_a_packet_is_taken_for_a_segment() {
    for (source, destination) in pairs() {
        let packet = packet(source, destination, TcpControl::Syn, false);
        for len in 0..packet.len() {
            assert_eq!(Segment::parse(&packet[..len]), None, "{len} bytes");
        }
    }
}

#[test]
fn fragments_and_other_protocols_are_not_segments() {
    let [(source, destination), (source6, destination6)] = pairs();
    let whole = packet(source, destination, TcpControl::None, true);
    for (place, value) in [(6, 0x20), (7, 0x01), (9, 17), (9, 1)] {
        let mut packet = whole.clone();
        packet[place] |= value;
        if place == 9 {
            packet[place] = value;
        }
        assert_eq!(Segment::parse(&packet), None, "byte {place} is {value}");
    }
    let mut packet = packet(source6, destination6, TcpControl::None, true);
    packet[6] = 0;
    assert_eq!(Segment::parse(&packet), None, "an extension header");
}

proptest! {
    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        Segment::parse(&bytes);
    }

    #[test]
    fn a_damaged_packet_does_not_panic(family in 0_usize..2, damage in prop::collection::vec((0_usize..67, any::<u8>()), 1..8)) {
        let (source, destination) = pairs()[family];
        let mut packet = packet(source, destination, TcpControl::Syn, false);
        for (place, value) in damage {
            let place = place % packet.len();
            packet[place] = value;
        }
        Segment::parse(&packet);
    }
}
