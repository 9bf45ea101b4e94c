//! The way of packets that came in to the kernel.

use tun_rs::{GROTable, VIRTIO_NET_HDR_LEN};

use super::Tun;
use crate::link::Inbound;
use crate::segment::Segment;

/// How many packets are given to the kernel at a time: as many as one datagram of the link holds of the usual size.
const AT_A_TIME: usize = 64;

/// A packet becomes as large as that when all that follow are joined to it.
const LARGEST: usize = 65_536 + 2 * VIRTIO_NET_HDR_LEN;

/// Buffers that are used again.
pub(super) struct Joiner {
    table: GROTable,
    packets: Vec<Vec<u8>>,
    used: usize,
}

impl Joiner {
    pub(super) fn new() -> Self {
        // Memory that is never written to is never taken.
        let packets = (0..AT_A_TIME).map(|_| Vec::with_capacity(LARGEST)).collect();
        Self { table: GROTable::new(), packets, used: 0 }
    }

    /// Gives packets to the kernel, those that follow each other in a connection as one. Their checksums are looked at
    /// before, since the kernel takes what was joined for right.
    pub(super) fn deliver(&mut self, tun: &Tun, inbound: &Inbound) {
        for (peer, packet) in inbound.iter() {
            // Nothing but TCP for this end: an ICMP error could speak of other peers' connections.
            let is_ours = Segment::parse(packet).is_some_and(|segment| segment.destination.ip() == tun.address);
            if !is_ours || peer.is_removed() {
                tun.link.meters.dropped("not_for_us", 1);
                continue;
            }
            if self.used == self.packets.len() {
                self.flush(tun);
            }
            if let Some(room) = self.packets.get_mut(self.used) {
                room.clear();
                room.resize(VIRTIO_NET_HDR_LEN, 0);
                room.extend_from_slice(packet);
                self.used += 1;
            }
        }
        self.flush(tun);
    }

    fn flush(&mut self, tun: &Tun) {
        let packets = self.packets.get_mut(..self.used).unwrap_or_default();
        if let Err(error) = tun.device.write(&mut self.table, packets) {
            tracing::trace!(%error, "the kernel does not take packets of the tunnel");
            tun.link.meters.dropped("undelivered", self.used);
        }
        self.used = 0;
    }
}
