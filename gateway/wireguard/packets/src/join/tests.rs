use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use smoltcp::wire::TcpControl;

use super::*;
use crate::segment::tests::{Draft, ends};
use crate::split;

/// Packets laid end to end, and what they were joined to.
fn join(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let bytes = packets.concat();
    let mut joiner = Joiner::default();
    let mut at = 0;
    for packet in packets {
        if let Some(segment) = Segment::parse(packet) {
            joiner.add(&bytes, at..at + packet.len(), &segment);
        }
        at += packet.len();
    }
    joiner.frames(&bytes).map(|frame| frame.pieces().collect::<Vec<_>>().concat()).collect()
}

/// What the kernel makes of a frame: the packets as they were, but for the numbers that IPv4 gives them.
fn unjoin(frame: &[u8]) -> Vec<Vec<u8>> {
    let mut frame = frame.to_vec();
    let mut packets = split::tests::packets(&mut frame);
    packets.iter_mut().for_each(|packet| unnumber(packet));
    packets
}

fn unnumber(packet: &mut [u8]) {
    if packet[0] >> 4 == 4 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
}

/// Segments of one connection that follow each other.
fn stream(ends: (SocketAddr, SocketAddr), mut sequence: u32, sizes: &[usize]) -> Vec<Vec<u8>> {
    let step = |size: &usize| {
        let draft = Draft::new(ends, sequence, vec![u8::try_from(sequence % 251).unwrap(); *size]);
        sequence = sequence.wrapping_add(u32::try_from(*size).unwrap());
        draft.write()
    };
    sizes.iter().map(step).collect()
}

fn counts(frames: &[Vec<u8>]) -> Vec<usize> {
    frames.iter().map(|frame| unjoin(frame).len()).collect()
}

#[test]
fn segments_that_follow_each_other_become_one() {
    for ends in ends() {
        let packets = stream(ends, u32::MAX - 300, &[100, 100, 100, 100, 40]);
        let frames = join(&packets);
        assert_eq!(counts(&frames), [5], "across the end of the sequence numbers");
    }
}

#[test]
fn a_short_one_ends_it_and_a_longer_one_does_not_belong() {
    let packets = stream(ends()[0], 5, &[100, 100, 40, 40, 100]);
    assert_eq!(counts(&join(&packets)), [3, 1, 1]);
}

#[test]
fn what_says_more_than_its_data_stays_alone_and_in_its_place() {
    let [v4, _] = ends();
    for change in [
        |draft: &mut Draft| draft.control = TcpControl::Fin,
        |draft: &mut Draft| draft.control = TcpControl::Rst,
        |draft: &mut Draft| draft.acknowledges = Some(99),
        |draft: &mut Draft| draft.timestamp = Some(8),
        |draft: &mut Draft| draft.timestamp = None,
        |draft: &mut Draft| draft.sequence += 1,
    ] {
        let mut different = Draft::new(v4, 105, vec![9; 100]);
        change(&mut different);
        let different = different.write();
        let before = stream(v4, 5, &[100]);
        let frames = join(&[before[0].clone(), different.clone()]);
        assert_eq!(counts(&frames), [1, 1], "{different:02x?}");
    }
}

#[test]
fn a_push_is_kept_and_ends_what_was_joined() {
    let [v4, _] = ends();
    let mut packets = stream(v4, 5, &[100, 100, 100, 100]);
    let pushed = Draft { control: TcpControl::Psh, ..Draft::new(v4, 105, vec![105; 100]) }.write();
    packets[1] = pushed;
    let frames = join(&packets);
    assert_eq!(counts(&frames), [2, 2]);
    let last = &unjoin(&frames[0])[1];
    assert!(Segment::parse(last).unwrap().flags() & Segment::PSH != 0);
}

#[test]
fn wrong_checksums_are_never_made_right() {
    for ends in ends() {
        for bad in 0..3 {
            let mut packets = stream(ends, 5, &[100, 100, 100]);
            *packets[bad].last_mut().unwrap() ^= 1;
            for frame in join(&packets) {
                for packet in unjoin(&frame) {
                    let changed = packet.last() == packets[bad].last() && packet.len() == packets[bad].len();
                    let segment = Segment::parse(&packet).unwrap();
                    assert_eq!(segment.is_intact(), !changed, "it would be taken for right");
                }
            }
        }
    }
}

#[test]
fn overlapping_and_repeated_segments_are_left_to_the_kernel() {
    let [v4, _] = ends();
    let packets = stream(v4, 5, &[100, 100]);
    let overlapping = Draft::new(v4, 55, vec![3; 100]).write();
    let all = [packets[0].clone(), packets[0].clone(), overlapping, packets[1].clone()];
    assert_eq!(counts(&join(&all)), [1, 1, 1, 1]);
}

#[test]
fn segments_of_one_byte_are_joined_in_bounded_numbers() {
    let packets = stream(ends()[0], 5, &[1; 200]);
    assert_eq!(counts(&join(&packets)), [MOST_JOINED, MOST_JOINED, MOST_JOINED, 200 - 3 * MOST_JOINED]);
}

#[test]
fn nothing_becomes_longer_than_ip_can_say() {
    let packets = stream(ends()[1], 5, &[1900; 60]);
    let frames = join(&packets);
    assert!(frames.iter().all(|frame| frame.len() <= LARGEST + vnet::LEN));
    assert_eq!(counts(&frames).iter().sum::<usize>(), 60);
    assert_eq!(frames.len(), 2);
}

#[derive(Debug, Clone)]
struct Sent {
    flow: u8,
    size: usize,
    control: TcpControl,
    skip: bool,
    bad: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let control = prop_oneof![20 => Just(TcpControl::None), 2 => Just(TcpControl::Psh), 1 => Just(TcpControl::Fin)];
    let size = prop_oneof![4 => Just(60_usize), 1 => 0_usize..80];
    (0_u8..24, size, control, prop::bool::weighted(0.05), prop::bool::weighted(0.05)).prop_map(
        |(flow, size, control, skip, bad)| Sent { flow: flow % 6 * (1 + flow / 20), size, control, skip, bad },
    )
}

proptest! {
    /// Whatever peers send, in whatever order: every connection's packets come out unchanged and in their order, those that
    /// are wrong still wrong.
    #[test]
    fn every_connection_comes_out_as_it_came_in(sent in prop::collection::vec(sent(), 0..120)) {
        let (mut packets, mut next) = (Vec::new(), BTreeMap::new());
        let mut expected: BTreeMap<SocketAddr, Vec<Vec<u8>>> = BTreeMap::new();
        for Sent { flow, size, control, skip, bad } in sent {
            let (mut from, to) = ends()[usize::from(flow % 2)];
            from.set_port(1000 + u16::from(flow));
            let sequence: &mut u32 = next.entry(flow).or_insert(u32::MAX - 100);
            let mut packet = Draft { control, ..Draft::new((from, to), *sequence, vec![flow; size]) }.write();
            *sequence = sequence.wrapping_add(u32::try_from(size).unwrap() + u32::from(skip));
            if bad {
                let place = packet.len() - 1;
                packet[place] ^= 0x55;
            }
            packets.push(packet.clone());
            unnumber(&mut packet);
            expected.entry(from).or_default().push(packet);
        }
        let mut got: BTreeMap<SocketAddr, Vec<Vec<u8>>> = BTreeMap::new();
        for frame in join(&packets) {
            for packet in unjoin(&frame) {
                let from = Segment::parse(&packet).unwrap().source();
                got.entry(from).or_default().push(packet);
            }
        }
        prop_assert_eq!(got, expected);
    }
}
