//! Two connections and a network between them, in virtual time.

use std::io;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::Instant;
use smoltcp::wire::TcpPacket;
use tokio::io::ReadBuf;

use super::super::{Connection, Phase, Terms};
use crate::batch::Batch;
use crate::config::TcpSettings;

pub(super) const NEAR: &str = "10.7.0.1:40000";
pub(super) const FAR: &str = "10.7.0.2:5433";

pub(super) fn terms(local: &str) -> Terms {
    Terms { local: local.parse().unwrap(), mtu: 1420, tcp: TcpSettings::default() }
}

pub(super) fn at(millis: i64) -> Instant {
    Instant::from_millis(1000 + millis)
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap()
}

pub(super) fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What the network does to the packets that pass, driven by a fixed sequence of numbers.
pub(super) struct Weather {
    pub(super) numbers: Box<dyn Iterator<Item = u8>>,
    /// Of 256 packets, how many are lost, doubled, and late.
    pub(super) lost: u8,
    pub(super) doubled: u8,
    pub(super) late: u8,
}

/// Everything gets through.
pub(super) fn calm() -> Weather {
    Weather { numbers: Box::new(std::iter::repeat(255)), lost: 0, doubled: 0, late: 0 }
}

/// Nothing gets through.
pub(super) fn silence() -> Weather {
    Weather { numbers: Box::new(std::iter::repeat(0)), lost: 1, doubled: 0, late: 0 }
}

pub(super) struct World {
    pub(super) now: i64,
    pub(super) ends: [Connection; 2],
    /// When a packet arrives, at which end, and the packet.
    pub(super) flying: Vec<(i64, usize, Vec<u8>)>,
    pub(super) weather: Weather,
}

impl World {
    pub(super) fn with(weather: Weather, tcp: TcpSettings) -> Self {
        let near = Connection::outgoing(Terms { tcp, ..terms(NEAR) }, FAR.parse().unwrap(), at(0)).unwrap();
        let far = Connection::incoming(Terms { tcp, ..terms(FAR) }, at(0)).unwrap();
        Self { now: 0, ends: [near, far], flying: Vec::new(), weather }
    }

    pub(super) fn calm() -> Self {
        Self::with(calm(), TcpSettings::default())
    }

    pub(super) fn connected() -> Self {
        let mut world = Self::calm();
        world.run_until(|world| world.ends.iter().all(|end| end.phase() == Phase::Open));
        world
    }

    pub(super) fn send(&mut self, from: usize, packet: &[u8]) {
        let mut drawn = || self.weather.numbers.next().unwrap();
        let copies = if drawn() < self.weather.lost { 0 } else { 1 + usize::from(drawn() < self.weather.doubled) };
        for _ in 0..copies {
            let flight = if drawn() < self.weather.late { 15 } else { 5 };
            self.flying.push((self.now + flight, 1 - from, packet.to_vec()));
        }
    }

    /// Lets both ends send.
    pub(super) fn emit(&mut self) {
        for from in 0..2 {
            let mut out = Batch::default();
            while self.ends[from].emit(at(self.now), &mut out) {
                std::mem::take(&mut out).iter().for_each(|packet| self.send(from, packet));
            }
            out.iter().for_each(|packet| self.send(from, packet));
        }
    }

    /// Lets a time pass.
    pub(super) fn pass(&mut self, millis: i64) {
        let until = self.now + millis;
        while self.now < until {
            self.step_until(until);
        }
    }

    pub(super) fn step(&mut self) {
        self.step_until(i64::MAX);
    }

    /// Lets both ends send, and then the next thing happen, or nothing until then.
    pub(super) fn step_until(&mut self, until: i64) {
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

    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..200_000 {
            self.emit();
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("it does not happen, not even at {} ms", self.now);
    }

    pub(super) fn write(&mut self, end: usize, data: &[u8]) -> usize {
        match self.ends[end].poll_write(&cx(), &[io::IoSlice::new(data)]) {
            Poll::Ready(written) => written.unwrap(),
            Poll::Pending => 0,
        }
    }

    /// What can be read; none when nothing is there, and an empty vector at the end.
    pub(super) fn read(&mut self, end: usize) -> Option<io::Result<Vec<u8>>> {
        let mut space = vec![0; 10_000];
        let mut buf = ReadBuf::new(&mut space);
        match self.ends[end].poll_read(&cx(), &mut buf) {
            Poll::Ready(result) => Some(result.map(|()| buf.filled().to_vec())),
            Poll::Pending => None,
        }
    }
}

/// Sends `sizes` bytes each way at once, shuts both ways down, and compares.
pub(super) fn exchange(world: &mut World, sizes: [usize; 2]) {
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

impl Connection {
    pub(super) fn tcp_state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.socket).state()
    }
}
