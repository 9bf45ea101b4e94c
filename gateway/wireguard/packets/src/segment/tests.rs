use std::net::SocketAddr;

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpProtocol, IpRepr, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr,
};

use super::*;

/// A segment to be, with right checksums.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) ends: (SocketAddr, SocketAddr),
    pub(crate) control: TcpControl,
    pub(crate) sequence: u32,
    pub(crate) acknowledges: Option<u32>,
    pub(crate) timestamp: Option<u32>,
    pub(crate) payload: Vec<u8>,
}

impl Draft {
    pub(crate) fn new(ends: (SocketAddr, SocketAddr), sequence: u32, payload: Vec<u8>) -> Self {
        Self { ends, control: TcpControl::None, sequence, acknowledges: Some(1), timestamp: Some(7), payload }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let (source, destination) = self.ends;
        let tcp = TcpRepr {
            src_port: source.port(),
            dst_port: destination.port(),
            control: self.control,
            seq_number: TcpSeqNumber(self.sequence.cast_signed()),
            ack_number: self.acknowledges.map(|number| TcpSeqNumber(number.cast_signed())),
            window_len: 100,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: self.timestamp.map(|value| TcpTimestampRepr::new(value, 3)),
            payload: &self.payload,
        };
        let (source, destination) = (source.ip(), destination.ip());
        let ip = IpRepr::new(source.into(), destination.into(), IpProtocol::Tcp, tcp.buffer_len(), 64);
        let mut bytes = vec![0; ip.buffer_len()];
        ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
        let mut segment = TcpPacket::new_unchecked(&mut bytes[ip.header_len()..]);
        tcp.emit(&mut segment, &source.into(), &destination.into(), &ChecksumCapabilities::default());
        bytes
    }
}

pub(crate) fn ends() -> [(SocketAddr, SocketAddr); 2] {
    [("10.7.0.1:40000", "10.7.0.2:5433"), ("[fd00::1]:40000", "[fd00::2]:5433")]
        .map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()))
}

/// What another implementation says of a packet: its ends, its payload, and whether the checksum is right.
pub(crate) fn elsewhere(packet: &[u8]) -> Option<(SocketAddr, SocketAddr, Vec<u8>, bool)> {
    let (source, destination, payload) = match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            let whole = !ip.more_frags() && ip.frag_offset() == 0 && ip.next_header() == IpProtocol::Tcp;
            // It does not mind headers that are too short.
            let whole = whole && ip.header_len() >= 20;
            whole.then(|| (ip.src_addr().into(), ip.dst_addr().into(), ip.payload().to_vec()))?
        }
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            let plain = ip.next_header() == IpProtocol::Tcp;
            plain.then(|| (ip.src_addr().into(), ip.dst_addr().into(), ip.payload().to_vec()))?
        }
        _ => return None,
    };
    let (source, destination): (IpAddr, IpAddr) = (source, destination);
    let tcp = TcpPacket::new_checked(&payload[..]).ok()?;
    let right = tcp.verify_checksum(&source.into(), &destination.into());
    let (from, to) = (SocketAddr::new(source, tcp.src_port()), SocketAddr::new(destination, tcp.dst_port()));
    Some((from, to, tcp.payload().to_vec(), right))
}

#[test]
fn both_families_and_the_flags_are_read() {
    for ends in ends() {
        for (control, acknowledges, opens, closes, resets) in [
            (TcpControl::Syn, None, true, false, false),
            (TcpControl::Syn, Some(2), false, false, false),
            (TcpControl::Rst, Some(2), false, false, true),
            (TcpControl::Fin, Some(2), false, true, false),
            (TcpControl::None, Some(2), false, false, false),
        ] {
            let packet = Draft { control, acknowledges, ..Draft::new(ends, 1, b"payload".to_vec()) }.write();
            let segment = Segment::parse(&packet).unwrap();
            assert_eq!((segment.source(), segment.destination()), ends);
            assert_eq!((segment.opens(), segment.closes(), segment.resets()), (opens, closes, resets));
            assert_eq!(segment.payload(), b"payload");
            assert!(segment.asks() && segment.is_intact());
        }
        let bare = Draft::new(ends, 1, vec![]).write();
        assert!(!Segment::parse(&bare).unwrap().asks(), "nothing is due to an acknowledgement");
    }
}

#[test]
fn what_is_behind_a_packet_is_not_part_of_it_and_fragments_are_none() {
    for ends in ends() {
        let packet = Draft::new(ends, 1, vec![5; 9]).write();
        let padded = [&packet[..], &[1; 7]].concat();
        assert_eq!(Segment::parse(&padded).unwrap().packet(), packet);
        assert!(Segment::parse(&packet[..packet.len() - 1]).is_none(), "it is not whole");
    }
    let mut packet = Draft::new(ends()[0], 1, vec![5; 9]).write();
    for (first, second) in [(0x20, 0), (0, 1), (0x1f, 0xff)] {
        (packet[6], packet[7]) = (first, second);
        assert!(Segment::parse(&packet).is_none(), "a fragment");
    }
}

proptest! {
    #[test]
    fn it_reads_what_another_implementation_reads(
        v6: bool, payload in prop::collection::vec(any::<u8>(), 0..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(), whole in prop::bool::weighted(0.8),
    ) {
        let mut packet = Draft::new(ends()[usize::from(v6)], 77, payload).write();
        for (place, value) in changes {
            let place = place.index(packet.len());
            packet[place] = value;
        }
        if !whole {
            packet.truncate(cut.index(packet.len()));
        }
        let read = Segment::parse(&packet)
            .map(|segment| (segment.source(), segment.destination(), segment.payload().to_vec(), segment.is_intact()));
        prop_assert_eq!(read, elsewhere(&packet));
    }
}
