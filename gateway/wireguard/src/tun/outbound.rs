//! The way of packets that the kernel sends to the link.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use postern_packets::congestion::Mark;
use postern_packets::split::{self, Handed};
use postern_packets::{Segment, vnet};

use super::Tun;
use super::device::Queue;
use crate::batch::Batch;
use crate::link::{OVERHEAD, Peer, Udp};

/// How often the interface is read, and how many bytes at least, before what was read is sent and the socket gets its turn.
const IN_A_ROW: (usize, usize) = (64, 256 * 1024);

/// How many peers' packets are gathered before they are sent.
const MOST_PEERS: usize = 64;

/// Buffers that are used again, and what is to be sent to each peer.
pub(super) struct Splitter<'a> {
    tun: &'a Tun,
    udp: &'a Udp,
    frame: Vec<u8>,
    /// The largest packet, in bytes.
    mtu: usize,
    outgoing: Vec<Outgoing>,
    spare: Vec<Batch>,
    /// Where the packet before went.
    last: Option<(IpAddr, usize)>,
}

/// Datagrams that wait for more of the same peer.
struct Outgoing {
    peer: Arc<Peer>,
    sealed: Batch,
    /// What all of them say of congestion.
    mark: Mark,
}

impl<'a> Splitter<'a> {
    pub(super) fn new(tun: &'a Tun, udp: &'a Udp, mtu: u16) -> Self {
        Self {
            tun,
            udp,
            frame: vec![0; vnet::LEN + usize::from(u16::MAX)],
            mtu: mtu.into(),
            outgoing: Vec::new(),
            spare: Vec::new(),
            last: None,
        }
    }

    /// Sends what the interface has, at the latest when it has nothing more.
    pub(super) fn send_some(&mut self, queue: &Queue, now: Instant) -> io::Result<()> {
        let (mut outcome, mut bytes) = (Ok(()), 0);
        for _ in 0..IN_A_ROW.0 {
            match queue.read(&mut self.frame) {
                Ok(length) => {
                    self.take(length, now);
                    bytes += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            if bytes >= IN_A_ROW.1 {
                break;
            }
        }
        self.send_all();
        outcome
    }

    fn send_all(&mut self) {
        self.last = None;
        for mut outgoing in self.outgoing.drain(..) {
            outgoing.send(self.tun, self.udp);
            self.spare.push(outgoing.sealed);
        }
    }

    /// Encrypts what was read for the peer that it is for.
    fn take(&mut self, length: usize, now: Instant) {
        let Self { tun, udp, frame, mtu, outgoing, spare, last } = self;
        let Ok(handed) = split::open(frame.get_mut(..length).unwrap_or_default()) else {
            return tun.link.meters.dropped("unsplittable", 1);
        };
        let whole = match &handed {
            Handed::Packet(packet) => Segment::parse(packet),
            Handed::Segments(segments) => Some(segments.whole()),
        };
        // The kernel has more to say on an interface than TCP (IPv6 looks for routers); none of it is for a peer.
        let Some(whole) = whole else { return };
        let (to, mark, asks) = (whole.destination().ip(), Mark::of_packet(whole.packet()), whole.asks());
        let place = match *last {
            Some((same, place)) if same == to => place,
            _ => {
                let parted = || tun.partings.find(to, now).filter(|_| whole.resets());
                let Some(peer) = tun.link.route(to).or_else(parted) else {
                    return tun.link.meters.dropped("no_route", 1);
                };
                place_of(outgoing, spare, peer)
            }
        };
        *last = Some((to, place));
        if let Some(outgoing) = outgoing.get_mut(place) {
            outgoing.note(mark, tun, udp);
            match handed {
                Handed::Packet(packet) => outgoing.seal_one(packet, asks, tun, udp, now),
                Handed::Segments(segments) => outgoing.seal_many(segments, *mtu, tun, udp, now),
            }
        }
        if self.outgoing.len() > MOST_PEERS {
            self.send_all();
        }
    }
}

/// Where a peer's datagrams are gathered.
fn place_of(outgoing: &mut Vec<Outgoing>, spare: &mut Vec<Batch>, peer: Arc<Peer>) -> usize {
    if let Some(place) = outgoing.iter().position(|known| Arc::ptr_eq(&known.peer, &peer)) {
        return place;
    }
    outgoing.push(Outgoing { peer, sealed: spare.pop().unwrap_or_default(), mark: Mark::NotCapable });
    outgoing.len() - 1
}

impl Outgoing {
    /// Sends what says something else of congestion than what comes now.
    fn note(&mut self, mark: Mark, tun: &Tun, udp: &Udp) {
        if mark != self.mark {
            self.send(tun, udp);
            self.mark = mark;
        }
    }

    fn seal_one(&mut self, packet: &[u8], asks: bool, tun: &Tun, udp: &Udp, now: Instant) {
        if !self.sealed.has_room_for(1, packet.len() + OVERHEAD) {
            self.send(tun, udp);
        }
        tun.link.sealer(&self.peer, now, &mut self.sealed).seal(packet, asks, &mut self.sealed);
    }

    /// Encrypts segment after segment under one lock, which is given back while a full batch is sent. What fits into one
    /// batch is not spread over two: then the far end can give it to its kernel as it was, and has one answer to it.
    fn seal_many(&mut self, segments: split::Segments<'_>, mtu: usize, tun: &Tun, udp: &Udp, now: Instant) {
        let (longest, mut left) = (segments.longest() + OVERHEAD, segments.count());
        let Some(mut packets) = segments.cut(mtu) else { return tun.link.meters.dropped("unsplittable", left) };
        if !self.sealed.has_room_for(left, longest) {
            self.send(tun, udp);
        }
        while left > 0 {
            if !self.sealed.has_room_for(1, longest) {
                self.send(tun, udp);
            }
            let mut sealer = tun.link.sealer(&self.peer, now, &mut self.sealed);
            while left > 0 && self.sealed.has_room_for(1, longest) {
                if let Some(packet) = packets.next() {
                    sealer.seal(packet, true, &mut self.sealed);
                }
                left -= 1;
            }
        }
    }

    fn send(&mut self, tun: &Tun, udp: &Udp) {
        tun.link.send_to(&self.peer, udp, &mut self.sealed, self.mark);
    }
}
