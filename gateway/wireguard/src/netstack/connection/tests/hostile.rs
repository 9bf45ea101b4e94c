//! Far ends that do not keep to the rules.

use std::io::IoSlice;

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};
use tokio::io::ReadBuf;

use super::super::{BUFFER, Connection};
use super::world::{FAR, at, cx, terms};
use crate::batch::Batch;

/// A segment from the far end of [`FAR`]'s connection, with right checksums.
fn segment(repr: &TcpRepr<'_>) -> Vec<u8> {
    let (from, to) = ([10, 7, 0, 1].into(), [10, 7, 0, 2].into());
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Tcp,
        payload_len: repr.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; ip.buffer_len() + repr.buffer_len()];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
    ip.emit(&mut packet, &ChecksumCapabilities::default());
    let mut tcp = TcpPacket::new_unchecked(packet.payload_mut());
    repr.emit(&mut tcp, &from.into(), &to.into(), &ChecksumCapabilities::default());
    bytes
}

fn controls() -> impl Strategy<Value = TcpControl> {
    prop_oneof![
        6 => Just(TcpControl::None),
        2 => Just(TcpControl::Psh),
        2 => Just(TcpControl::Fin),
        1 => Just(TcpControl::Syn),
        1 => Just(TcpControl::Rst),
    ]
}

/// [`BUFFER`] as sequence numbers count.
const ROOM: i32 = 65_535;

/// Near the edges of what may be, mostly.
fn offsets() -> impl Strategy<Value = i32> {
    prop_oneof![
        5 => -3_i32..1500,
        2 => (ROOM - 1500)..(ROOM + 10),
        2 => (2 * ROOM - 10)..(2 * ROOM + 10),
        1 => any::<i32>(),
    ]
}

fn hostile() -> impl Strategy<Value = (TcpControl, i32, Option<i32>, u16, usize, bool)> {
    let acks = prop_oneof![5 => Just(0), 1 => offsets()];
    let seqs = prop_oneof![2 => Just(0), 3 => offsets()];
    (controls(), seqs, prop::option::weighted(0.95, acks), any::<u16>(), 0_usize..1380, any::<bool>())
}

/// A window in a SYN is never scaled. Were ours scaled afterwards, a far end could write beyond our buffer.
#[test]
fn a_far_end_cannot_send_more_than_there_is_room_for() {
    let mut connection = Connection::incoming(terms(FAR), at(0)).unwrap();
    let mut repr = TcpRepr {
        src_port: 40000,
        dst_port: 5433,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(999),
        ack_number: None,
        window_len: 65_535,
        window_scale: Some(7),
        max_seg_size: Some(1380),
        sack_permitted: true,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut out = Batch::default();
    connection.ingest(&segment(&repr), false, at(0), &mut out);
    connection.emit(at(0), &mut out);
    let ours = TcpPacket::new_checked(&out.last().unwrap()[20..]).unwrap().seq_number();
    repr = TcpRepr {
        control: TcpControl::None,
        ack_number: Some(ours + 1),
        window_scale: None,
        max_seg_size: None,
        ..repr
    };
    for offset in (0..130_000).step_by(1000).rev() {
        repr = TcpRepr { seq_number: TcpSeqNumber(1000 + offset), payload: &[1; 1000], ..repr };
        connection.ingest(&segment(&repr), false, at(0), &mut Batch::default());
    }
    assert_eq!(connection.tcp().recv_queue(), BUFFER);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_sequence_of_segments_breaks_a_connection(
        steps in prop::collection::vec((hostile(), 0_u8..6), 1..60),
        payload in Just(vec![0x5a_u8; 1380]),
    ) {
        let mut connection = Connection::incoming(terms(FAR), at(0)).unwrap();
        let (mut now, mut theirs, mut ours) = (0_i64, 1000_i32, 0_i32);
        for (index, ((control, seq, ack, window_len, len, scaled), act)) in steps.into_iter().enumerate() {
            // The first steps shake hands, so that the rest meets an open connection.
            let (control, seq, ack, len) = match index {
                0 => (TcpControl::Syn, 0, None, 0),
                1 => (TcpControl::None, 0, Some(0), 0),
                _ => (control, seq, ack, len),
            };
            let repr = TcpRepr {
                src_port: 40000,
                dst_port: 5433,
                control,
                seq_number: TcpSeqNumber(theirs.wrapping_add(seq)),
                ack_number: ack.map(|ack| TcpSeqNumber(ours.wrapping_add(ack))),
                window_len,
                window_scale: (control == TcpControl::Syn && scaled).then_some(7),
                max_seg_size: (control == TcpControl::Syn).then_some(window_len),
                sack_permitted: scaled,
                sack_ranges: [None; 3],
                timestamp: None,
                payload: &payload[..len],
            };
            let mut out = Batch::default();
            connection.ingest(&segment(&repr), control == TcpControl::Rst, at(now), &mut out);
            match act {
                0 => drop(connection.poll_write(&cx(), &[IoSlice::new(&payload)])),
                1 => drop(connection.poll_read(&cx(), &mut ReadBuf::new(&mut [0; 3000]))),
                2 if index > 10 => drop(connection.shutdown()),
                3 => now += 700,
                4 if index > 20 => connection.abandon(at(now)),
                _ => {}
            }
            connection.emit(at(now), &mut out);
            for packet in out.iter() {
                let tcp = TcpPacket::new_checked(&packet[20..]).unwrap();
                ours = (tcp.seq_number() + usize::from(tcp.syn())).0;
                if tcp.ack() {
                    theirs = tcp.ack_number().0;
                }
            }
            prop_assert!(connection.next(at(now)).is_none_or(|next| next.total_micros() >= 0));
        }
    }
}
