//! The way of packets that the kernel sends to the link.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tun_rs::{IDEAL_BATCH_SIZE, VIRTIO_NET_HDR_LEN};

use super::Tun;
use crate::batch::Batch;
use crate::clock;
use crate::link::Peer;
use crate::segment::Segment;

/// How many times the interface is read before what was read is sent: some of it waits meanwhile, though never for more.
const READS_IN_A_ROW: usize = 32;

/// How many peers' packets are gathered before they are sent.
const MOST_PEERS: usize = 64;

/// A pause after the interface failed, so that a lasting failure does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(10);

/// Buffers that are used again, and the packets of each peer.
struct Splitter {
    joined: Vec<u8>,
    packets: Vec<Vec<u8>>,
    lengths: Vec<usize>,
    outgoing: Vec<Outgoing>,
    spare: Vec<Batch>,
    sealed: Batch,
}

/// Packets that wait for more of the same peer.
struct Outgoing {
    peer: Arc<Peer>,
    packets: Batch,
    asks: bool,
}

impl Tun {
    /// Reads the interface while there is something, and sends it, until `stop` is closed at its other end.
    pub(super) fn keep_sending(&self, stop: &UnixStream, mtu: u16, runtime: &Runtime) {
        let mut splitter = Splitter::new(mtu);
        while !self.shutdown.is_triggered() {
            let outcome = self.device.wait(stop).and_then(|()| {
                if self.link.is_congested() {
                    // What the kernel holds back meanwhile makes its TCP send less.
                    runtime.block_on(async {
                        tokio::select! {
                            () = self.link.uncongested() => {}
                            () = self.shutdown.triggered() => {}
                        }
                    });
                }
                self.link.contain(|| splitter.send_some(self)).unwrap_or(Ok(()))
            });
            if let Err(error) = outcome {
                tracing::debug!(%error, "the tunnel's interface could not be read");
                self.link.meters.dropped("unreadable", 1);
                std::thread::sleep(PAUSE);
            }
        }
    }
}

impl Splitter {
    fn new(mtu: u16) -> Self {
        Self {
            joined: vec![0; VIRTIO_NET_HDR_LEN + usize::from(u16::MAX)],
            packets: vec![vec![0; mtu.into()]; IDEAL_BATCH_SIZE],
            lengths: vec![0; IDEAL_BATCH_SIZE],
            outgoing: Vec::new(),
            spare: Vec::new(),
            sealed: Batch::default(),
        }
    }

    fn send_some(&mut self, tun: &Tun) -> io::Result<()> {
        let now = clock::now();
        let mut outcome = Ok(());
        for _ in 0..READS_IN_A_ROW {
            match tun.device.read(&mut self.joined, &mut self.packets, &mut self.lengths) {
                Ok(count) => self.sort(tun, count, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // What cannot be split is lost, and what comes after it is not.
                Err(error) if error.raw_os_error().is_none() => tun.link.meters.dropped("unsplittable", 1),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.send_all(tun, now);
        outcome
    }

    fn send_all(&mut self, tun: &Tun, now: Instant) {
        for outgoing in &mut self.outgoing {
            outgoing.send(tun, &mut self.sealed, now);
        }
        self.spare.extend(self.outgoing.drain(..).map(|outgoing| outgoing.packets));
    }

    /// Puts packets to those of their peers, and sends what is enough for one system call.
    fn sort(&mut self, tun: &Tun, count: usize, now: Instant) {
        let mtu = u16::try_from(self.packets.first().map_or(0, Vec::len)).unwrap_or(u16::MAX);
        let mut last: Option<(IpAddr, usize)> = None;
        for (buffer, length) in self.packets.iter().zip(&self.lengths).take(count) {
            let packet = buffer.get(..*length).unwrap_or_default();
            // The kernel has more to say on an interface than TCP (IPv6 looks for routers); none of it is for a peer.
            let Some(segment) = Segment::parse(packet) else { continue };
            let to = segment.destination.ip();
            let place = match last {
                Some((same, place)) if same == to => place,
                _ => {
                    let peer = tun.link.route(to);
                    let parted = || tun.partings.find(to, now).filter(|_| segment.resets);
                    let Some(peer) = peer.or_else(parted) else {
                        tun.link.meters.dropped("no_route", 1);
                        continue;
                    };
                    place_of(&mut self.outgoing, &mut self.spare, peer)
                }
            };
            last = Some((to, place));
            let Some(outgoing) = self.outgoing.get_mut(place) else { continue };
            if outgoing.packets.is_full(mtu) {
                outgoing.send(tun, &mut self.sealed, now);
            }
            outgoing.packets.push(packet);
            outgoing.asks |= segment.asks;
        }
        if self.outgoing.len() > MOST_PEERS {
            self.send_all(tun, now);
        }
    }
}

/// Where a peer's packets are gathered.
fn place_of(outgoing: &mut Vec<Outgoing>, spare: &mut Vec<Batch>, peer: Arc<Peer>) -> usize {
    if let Some(place) = outgoing.iter().position(|known| Arc::ptr_eq(&known.peer, &peer)) {
        return place;
    }
    outgoing.push(Outgoing { peer, packets: spare.pop().unwrap_or_default(), asks: false });
    outgoing.len() - 1
}

impl Outgoing {
    fn send(&mut self, tun: &Tun, sealed: &mut Batch, now: Instant) {
        if !self.packets.is_empty() {
            tun.link.send(&self.peer, &self.packets, self.asks, sealed, now);
        }
        self.packets.clear();
        self.asks = false;
    }
}
