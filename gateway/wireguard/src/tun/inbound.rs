//! The way of packets that came in to the kernel.

use postern_packets::Segment;
use postern_packets::join::Joiner;

use super::Tun;
use super::device::Queue;
use crate::link::Inbound;

/// Gives packets to the kernel, those that follow each other in a connection as one. Their checksums are looked at before,
/// since the kernel takes what was joined for right.
pub(super) fn deliver(joiner: &mut Joiner, tun: &Tun, queue: &Queue, inbound: &Inbound) {
    joiner.clear();
    let bytes = inbound.bytes();
    for (peer, range) in inbound.ranges() {
        let segment = bytes.get(range.clone()).and_then(Segment::parse);
        // Nothing but TCP for this end: an ICMP error could speak of other peers' connections.
        match segment.filter(|segment| segment.destination().ip() == tun.address && !peer.is_removed()) {
            Some(segment) => joiner.add(bytes, range, &segment),
            None => tun.link.meters.dropped("not_for_us", 1),
        }
    }
    for frame in joiner.frames(bytes) {
        if let Err(error) = queue.write(&frame) {
            tracing::trace!(%error, "the kernel does not take packets of the tunnel");
            tun.link.meters.dropped("undelivered", frame.packets());
        }
    }
}
