//! Two connections and a network between them, in virtual time.

use std::task::Waker;

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::*;

const NEAR: &str = "10.7.0.1:40000";
const FAR: &str = "10.7.0.2:5433";

fn terms(local: &str) -> Terms {
    Terms { local: local.parse().unwrap(), mtu: 1420, tcp: TcpSettings::default() }
}

fn at(millis: i64) -> Instant {
    Instant::from_millis(1000 + millis)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap()
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What the network does to the packets that pass, driven by a fixed sequence of numbers.
struct Weather {
    numbers: Box<dyn Iterator<Item = u8>>,
    /// Of 256 packets, how many are lost, doubled, and late.
    lost: u8,
    doubled: u8,
    late: u8,
}

/// Everything gets through.
fn calm() -> Weather {
    Weather { numbers: Box::new(std::iter::repeat(255)), lost: 0, doubled: 0, late: 0 }
}

/// Nothing gets through.
fn silence() -> Weather {
    Weather { numbers: Box::new(std::iter::repeat(0)), lost: 1, doubled: 0, late: 0 }
}

struct World {
    now: i64,
    ends: [Connection; 2],
    /// When a packet arrives, at which end, and the packet.
    flying: Vec<(i64, usize, Vec<u8>)>,
    weather: Weather,
}

impl World {
    fn with(weather: Weather, tcp: TcpSettings) -> Self {
        let near = Connection::outgoing(Terms { tcp, ..terms(NEAR) }, FAR.parse().unwrap(), at(0)).unwrap();
        let far = Connection::incoming(Terms { tcp, ..terms(FAR) }, at(0)).unwrap();
        Self { now: 0, ends: [near, far], flying: Vec::new(), weather }
    }

    fn calm() -> Self {
        Self::with(calm(), TcpSettings::default())
    }

    fn connected() -> Self {
        let mut world = Self::calm();
        world.run_until(|world| world.ends.iter().all(|end| end.phase() == Phase::Open));
        world
    }

    fn send(&mut self, from: usize, packet: &[u8]) {
        let mut drawn = || self.weather.numbers.next().unwrap();
        let copies = if drawn() < self.weather.lost { 0 } else { 1 + usize::from(drawn() < self.weather.doubled) };
        for _ in 0..copies {
            let flight = if drawn() < self.weather.late { 15 } else { 5 };
            self.flying.push((self.now + flight, 1 - from, packet.to_vec()));
        }
    }

    /// Lets both ends send.
    fn emit(&mut self) {
        for from in 0..2 {
            let mut out = Batch::default();
            while self.ends[from].emit(at(self.now), &mut out) {
                std::mem::take(&mut out).iter().for_each(|packet| self.send(from, packet));
            }
            out.iter().for_each(|packet| self.send(from, packet));
        }
    }

    /// Lets a time pass.
    fn pass(&mut self, millis: i64) {
        let until = self.now + millis;
        while self.now < until {
            self.step_until(until);
        }
    }

    fn step(&mut self) {
        self.step_until(i64::MAX);
    }

    /// Lets both ends send, and then the next thing happen, or nothing until then.
    fn step_until(&mut self, until: i64) {
        self.emit();
        let arrival = self.flying.iter().map(|(when, ..)| *when).min();
        let now = at(self.now);
        let timer = self.ends.iter_mut().filter_map(|end| end.next(now)).min();
        let timer = timer.map(|when| (when.total_micros() + 999) / 1000 - 1000).map(|when| when.max(self.now + 1));
        let next = arrival.into_iter().chain(timer).min().unwrap_or(self.now + 1000);
        if next > until {
            self.now = until;
            return;
        }
        self.now = next;
        let (due, later) = std::mem::take(&mut self.flying).into_iter().partition(|(when, ..)| *when <= next);
        self.flying = later;
        for (_, to, packet) in due {
            let mut out = Batch::default();
            let resets = TcpPacket::new_checked(&packet[20..]).unwrap().rst();
            self.ends[to].ingest(&packet, resets, at(self.now), &mut out);
            out.iter().for_each(|packet| self.send(to, packet));
        }
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            self.emit();
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("it does not happen, not even at {} ms", self.now);
    }

    fn write(&mut self, end: usize, data: &[u8]) -> usize {
        match self.ends[end].poll_write(&cx(), data) {
            Poll::Ready(written) => written.unwrap(),
            Poll::Pending => 0,
        }
    }

    /// What can be read; none when nothing is there, and an empty vector at the end.
    fn read(&mut self, end: usize) -> Option<io::Result<Vec<u8>>> {
        let mut space = vec![0; 10_000];
        let mut buf = ReadBuf::new(&mut space);
        match self.ends[end].poll_read(&cx(), &mut buf) {
            Poll::Ready(result) => Some(result.map(|()| buf.filled().to_vec())),
            Poll::Pending => None,
        }
    }
}

/// Sends `sizes` bytes each way at once, shuts both ways down, and compares.
fn exchange(world: &mut World, sizes: [usize; 2]) {
    let data = sizes.map(|size| (0..size).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect::<Vec<_>>());
    let (mut written, mut closed, mut got, mut ended) = ([0; 2], [false; 2], [vec![], vec![]], [false; 2]);
    for _ in 0..200_000 {
        for end in 0..2 {
            if matches!(world.ends[end].tcp_state(), State::Listen | State::SynSent | State::SynReceived) {
                continue;
            }
            if !closed[end] {
                written[end] += world.write(end, &data[end][written[end]..]);
                if written[end] == sizes[end] {
                    world.ends[end].shutdown().unwrap();
                    closed[end] = true;
                }
            }
            while let Some(part) = if ended[end] { None } else { world.read(end) } {
                let part = part.unwrap();
                ended[end] = part.is_empty();
                got[end].extend(part);
            }
        }
        if ended == [true; 2] {
            assert!(got[0] == data[1] && got[1] == data[0]);
            return;
        }
        world.step();
    }
    panic!("still waiting at {} ms: wrote {written:?}, got {:?}", world.now, got.map(|got| got.len()));
}

#[test]
fn a_calm_network_carries_bytes_both_ways_and_both_ends_finish() {
    let mut world = World::calm();
    exchange(&mut world, [300_000, 200_000]);
    world.run_until(|world| world.ends.iter().all(|end| matches!(end.phase(), Phase::Resting | Phase::Over)));
    assert!(world.now < 2000, "took {} ms", world.now);
}

#[test]
fn reading_goes_on_after_shutting_down_and_after_the_far_end_did() {
    let mut world = World::connected();
    world.ends[0].shutdown().unwrap();
    world.pass(50);
    assert_eq!(world.read(1).unwrap().unwrap(), b"");
    assert_eq!(world.write(1, b"late"), 4);
    assert_eq!(
        world.ends[0].poll_write(&cx(), b"x").map_err(|error| error.kind()),
        Poll::Ready(Err(io::ErrorKind::BrokenPipe))
    );
    world.pass(50);
    assert_eq!(world.read(0).unwrap().unwrap(), b"late");
    assert!(world.read(0).is_none());
}

#[test]
fn a_writer_waits_for_its_reader() {
    let mut world = World::connected();
    let mut written = 0;
    for _ in 0..1000 {
        written += world.write(0, &[7; 10_000]);
        world.pass(1);
    }
    assert_eq!(written, 2 * BUFFER, "one buffer at each end is full");
    assert!(world.write(0, b"more") == 0);
    let mut got = 0;
    while got < written {
        got += world.read(1).map_or(0, |part| part.unwrap().len());
        world.pass(1);
    }
    assert_eq!(world.write(0, b"more"), 4);
}

#[test]
fn an_end_that_takes_nothing_can_still_be_read_from() {
    let mut world = World::connected();
    let mut missing = [0; 2];
    for _ in 0..1000 {
        for end in 0..2 {
            missing[1 - end] += world.write(end, &[7; 10_000]);
        }
        world.pass(1);
    }
    assert_eq!(missing, [2 * BUFFER; 2]);
    world.pass(20_000);
    while missing[0] > 0 {
        missing[0] -= world.read(0).map_or(0, |part| part.unwrap().len());
        world.pass(1);
        assert!(world.now < 60_000, "still missing {missing:?}");
    }
}

#[test]
fn a_far_end_that_falls_silent_is_given_up_in_time() {
    for busy in [false, true] {
        let mut world = World::connected();
        let start = world.now;
        if busy {
            world.write(0, b"hello?");
        }
        world.weather = silence();
        world.run_until(|world| world.ends[0].ending().is_some());
        assert_eq!(world.ends[0].ending(), Some(Ending::TimedOut));
        let limit = millis(TcpSettings::default().user_timeout);
        assert!(world.now - start <= limit + 2000, "busy {busy}: {} ms", world.now - start);
        assert_eq!(world.read(0).unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

#[test]
fn an_idle_connection_to_a_living_end_stays() {
    let mut world = World::connected();
    world.pass(3_600_000);
    assert!(world.ends.iter().all(|end| end.phase() == Phase::Open));
}

#[test]
fn a_handshake_that_is_not_completed_is_over_soon() {
    let mut world = World::calm();
    world.run_until(|world| world.ends[1].tcp_state() == State::SynReceived);
    world.weather = silence();
    world.flying.clear();
    world.run_until(|world| world.ends[1].phase() == Phase::Over);
    assert!(world.now <= 12_000, "took {} ms", world.now);
}

#[test]
fn dropping_a_stream_resets_it_unless_it_was_shut_down() {
    let mut world = World::connected();
    world.ends[0].abandon(at(world.now));
    world.run_until(|world| world.ends[1].ending().is_some());
    assert_eq!(world.ends[1].ending(), Some(Ending::Reset));
    assert_eq!(world.read(1).unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(world.ends[0].phase(), Phase::Over);
}

#[test]
fn a_stream_that_was_shut_down_delivers_after_it_was_dropped() {
    let mut world = World::connected();
    assert_eq!(world.write(0, &[9; 60_000]), 60_000);
    world.ends[0].shutdown().unwrap();
    world.ends[0].abandon(at(world.now));
    let mut got = 0;
    loop {
        match world.read(1) {
            Some(part) if part.as_ref().unwrap().is_empty() => break,
            Some(part) => got += part.unwrap().len(),
            None => world.step(),
        }
    }
    assert_eq!(got, 60_000);
    world.ends[1].shutdown().unwrap();
    world.run_until(|world| world.ends.iter().all(|end| matches!(end.phase(), Phase::Over | Phase::Resting)));
}

#[test]
fn what_comes_for_a_dropped_stream_is_refused_and_silence_is_not_waited_out() {
    let mut world = World::connected();
    world.ends[0].shutdown().unwrap();
    world.ends[0].abandon(at(world.now));
    world.run_until(|world| world.ends[0].tcp_state() == State::FinWait2);
    world.write(1, b"who is there?");
    world.run_until(|world| world.ends[1].ending() == Some(Ending::Reset));

    let mut world = World::connected();
    world.ends[0].shutdown().unwrap();
    world.ends[0].abandon(at(world.now));
    world.run_until(|world| world.ends[0].phase() == Phase::Over);
    assert!(world.now <= millis(LINGER) + 2000, "took {} ms", world.now);
}

#[test]
fn bytes_that_came_before_a_cut_are_not_given_out() {
    let mut world = World::connected();
    world.write(1, b"secret");
    world.pass(50);
    world.ends[0].cut(Ending::Removed);
    assert_eq!(world.read(0).unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

impl Connection {
    fn tcp_state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.socket).state()
    }
}

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

#[test]
fn ends_that_lost_each_other_s_acknowledgements_find_together_again() {
    let mut world = World::connected();
    assert_eq!((world.write(0, &[1; 6000]), world.write(1, &[2; 6000])), (6000, 6000));
    world.emit();
    // What is under way arrives, and everything after it is lost until both have timed out.
    let calm = std::mem::replace(&mut world.weather, silence());
    world.pass(900);
    world.weather = calm;
    let mut missing = [6000; 2];
    while missing != [0; 2] {
        for (end, missing) in missing.iter_mut().enumerate() {
            *missing -= world.read(end).map_or(0, |part| part.unwrap().len());
        }
        world.pass(1);
        assert!(world.now < 3000, "still missing {missing:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_rough_network_carries_every_byte(
        seed in any::<[u8; 32]>(),
        lost in 0_u8..40, doubled in 0_u8..40, late in 0_u8..80,
        sizes in prop::array::uniform2(0_usize..60_000),
    ) {
        use rand::{RngCore as _, SeedableRng as _};
        let mut rng = rand::rngs::StdRng::from_seed(seed);
        let numbers = Box::new(std::iter::repeat_with(move || rng.next_u32().to_be_bytes()[0]));
        // With bad luck many retries in a row fail, and the pause between them grows to a minute.
        let patient = TcpSettings { user_timeout: Duration::from_secs(3600), ..TcpSettings::default() };
        let mut world = World::with(calm(), patient);
        world.run_until(|world| world.ends.iter().all(|end| end.phase() == Phase::Open));
        world.weather = Weather { numbers, lost, doubled, late };
        exchange(&mut world, sizes);
    }

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
                0 => drop(connection.poll_write(&cx(), &payload)),
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
