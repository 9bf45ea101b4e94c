//! Packets that came in, on their way to a datapath.

use std::ops::Range;
use std::sync::Arc;

use super::table::Peer;
use crate::batch::Batch;

/// So many packets, or bytes, are gathered before they are worked off: several times what the kernel takes at once. Whoever waits
/// for them is woken by the first that the kernel is given, and finds the others when it runs. More would not stay in the
/// processor's cache.
const FULL: (usize, usize) = (300, 400_000);

/// Packets that came in, and who sent them.
#[derive(Default)]
pub(crate) struct Inbound {
    pub(super) packets: Batch,
    /// The sender of the packets up to a number, from where those of the one before end.
    senders: Vec<(Arc<Peer>, usize)>,
}

impl Inbound {
    /// Every packet with its sender, to whom its source address belongs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<Peer>, &[u8])> {
        self.ranges().filter_map(move |(peer, range)| Some((peer, self.bytes().get(range)?)))
    }

    /// Every packet as a part of the [`Inbound::bytes`], with its sender.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (&Arc<Peer>, Range<usize>)> {
        let mut next = 0;
        self.senders.iter().flat_map(move |(peer, until)| {
            let packets = next..*until;
            next = *until;
            packets.filter_map(move |index| Some((peer, self.packets.range(index)?)))
        })
    }

    /// The packets, end to end.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.packets.bytes()
    }

    /// Whether it is time to work the packets off before more are received.
    pub(super) fn is_full(&self) -> bool {
        self.packets.len() >= FULL.0 || self.packets.size() >= FULL.1
    }

    /// Says who sent what was added since the last time.
    pub(super) fn sent_by(&mut self, peer: &Arc<Peer>) {
        let until = self.packets.len();
        match self.senders.last_mut() {
            Some((last, end)) if Arc::ptr_eq(last, peer) => *end = until,
            Some((_, end)) if *end == until => {}
            None if until == 0 => {}
            _ => self.senders.push((Arc::clone(peer), until)),
        }
    }

    /// Adds one as if it had come in.
    #[cfg(test)]
    pub(crate) fn push(&mut self, peer: &Arc<Peer>, packet: &[u8]) {
        self.packets.push(packet);
        self.sent_by(peer);
    }

    /// Forgets them, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.packets.clear();
        self.senders.clear();
    }
}
