//! Packets laid end to end in one buffer, so that many of them cost one allocation and one system call.

use std::ops::Range;

/// As much as one system call carries: 64 packets, and no more than 62 KiB before encryption.
const FULL: (usize, usize) = (64, 62 * 1024);

/// The most that is given to the system to split: datagrams (UDP_MAX_SEGMENTS of older kernels), and the bytes that one
/// datagram over IPv4 can carry.
pub(crate) const MOST_JOINED: (usize, usize) = (64, 65_507);

/// How many datagrams of `length` bytes are given to the system to split.
pub(crate) fn most_joined(length: usize) -> usize {
    MOST_JOINED.0.min(MOST_JOINED.1 / length.max(1)).max(1)
}

/// Packets in the order in which they were added. Clearing it keeps the memory.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Longer than what is used of it, so that nothing is cleared only to be written over.
    memory: Vec<u8>,
    used: usize,
    ends: Vec<usize>,
}

/// Neighbours in a batch that can be sent as one: all of the size of the first, and none after one that is shorter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run<'a> {
    /// The packets, end to end.
    pub(crate) bytes: &'a [u8],
    /// The size of each but the last, which may be shorter.
    pub(crate) stride: usize,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.ends.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether the packets are to be encrypted and sent before another one of `mtu` bytes is added.
    pub(crate) fn is_full(&self, mtu: u16) -> bool {
        self.len() >= FULL.0 || self.size() + usize::from(mtu) > FULL.1
    }

    /// Whether `count` more datagrams of `length` bytes at most can be given to the system together with these.
    pub(crate) fn has_room_for(&self, count: usize, length: usize) -> bool {
        self.len() + count <= MOST_JOINED.0 && self.size() + count * length <= MOST_JOINED.1
    }

    /// How many packets there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many bytes they have together.
    pub(crate) fn size(&self) -> usize {
        self.used
    }

    /// The packets, end to end.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.memory.get(..self.used).unwrap_or_default()
    }

    /// Adds a packet of at most `room` bytes. `fill` writes it over whatever is there and says how long it became, and what
    /// else it has to say; with a length of zero nothing is added.
    pub(crate) fn push_up_to<T>(&mut self, room: usize, fill: impl FnOnce(&mut [u8]) -> (usize, T)) -> T {
        let start = self.used;
        if self.memory.len() < start + room {
            self.memory.resize(start + room, 0);
        }
        let (used, result) = fill(self.memory.get_mut(start..start + room).unwrap_or_default());
        self.used = start + used.min(room);
        if used > 0 {
            self.ends.push(self.used);
        }
        result
    }

    /// Adds a packet of exactly `len` bytes, all zero but for those that `fill` writes.
    pub(crate) fn push_exactly<T>(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> T) -> T {
        self.push_up_to(len, |room| {
            room.fill(0);
            (len, fill(room))
        })
    }

    /// Adds a packet.
    pub(crate) fn push(&mut self, packet: &[u8]) {
        self.push_up_to(packet.len(), |room| {
            room.copy_from_slice(packet);
            (packet.len(), ())
        });
    }

    /// The packet that was added last.
    pub(crate) fn last(&self) -> Option<&[u8]> {
        self.get(self.ends.len().checked_sub(1)?)
    }

    /// Takes the packet that was added last away.
    pub(crate) fn drop_last(&mut self) {
        self.ends.pop();
        self.used = self.ends.last().copied().unwrap_or(0);
    }

    /// A packet by its place.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        self.memory.get(self.range(index)?)
    }

    /// A packet by its place, to be changed.
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let range = self.range(index)?;
        self.memory.get_mut(range)
    }

    /// The packet that was added last, to be changed.
    pub(crate) fn last_mut(&mut self) -> Option<&mut [u8]> {
        self.get_mut(self.ends.len().checked_sub(1)?)
    }

    /// The packets in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).filter_map(|index| self.get(index))
    }

    /// The packets as runs of at most `most` packets and `largest` bytes each. A packet above `largest` is a run of its
    /// own.
    pub(crate) fn runs(&self, most: usize, largest: usize) -> impl Iterator<Item = Run<'_>> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = self.range(next)?;
            let (start, stride) = (first.start, first.len());
            let (mut end, mut count) = (first.end, 1);
            while let Some(packet) = self.range(next + count) {
                let shorter_before = (end - start) % stride != 0;
                if shorter_before || packet.len() > stride || count >= most || packet.end - start > largest {
                    break;
                }
                end = packet.end;
                count += 1;
            }
            next += count;
            Some(Run { bytes: self.memory.get(start..end)?, stride })
        })
    }

    /// Where a packet is among the [`Batch::bytes`].
    pub(crate) fn range(&self, index: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        Some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(packets: &[Vec<u8>]) -> Batch {
        let mut batch = Batch::default();
        packets.iter().for_each(|packet| batch.push(packet));
        batch
    }

    #[test]
    fn a_packet_is_cut_to_what_was_written_and_nothing_written_is_no_packet() {
        let mut batch = Batch::default();
        assert!(batch.push_up_to(100, |room| (room.len() / 50, true)));
        batch.push_up_to(100, |_| (0, ()));
        assert_eq!((batch.len(), batch.size()), (1, 2));
        batch.push(b"abc");
        batch.drop_last();
        assert_eq!(batch.last(), Some(&[0, 0][..]));
        batch.drop_last();
        batch.drop_last();
        assert!(batch.is_empty() && batch.last().is_none());
    }

    #[test]
    fn what_was_there_before_does_not_show() {
        let mut batch = Batch::default();
        batch.push(&[7; 50]);
        batch.clear();
        batch.push_exactly(20, |room| room[0] = 1);
        assert_eq!((batch.bytes().len(), batch.bytes().iter().map(|byte| u32::from(*byte)).sum()), (20, 1_u32));
    }

    #[test]
    fn a_run_ends_after_a_shorter_packet_and_before_a_longer_one() {
        let batch = batch(&[vec![1; 4], vec![2; 4], vec![3; 2], vec![4; 2], vec![5; 3]]);
        let runs: Vec<_> = batch.runs(64, 1000).map(|run| (run.bytes.len(), run.stride)).collect();
        assert_eq!(runs, [(10, 4), (2, 2), (3, 3)]);
    }

    #[test]
    fn a_run_is_limited_in_packets_and_bytes() {
        let batch = batch(&vec![vec![7; 10]; 7]);
        assert_eq!(batch.runs(3, 1000).map(|run| run.bytes.len()).collect::<Vec<_>>(), [30, 30, 10]);
        assert_eq!(batch.runs(64, 25).map(|run| run.bytes.len()).collect::<Vec<_>>(), [20, 20, 20, 10]);
        assert_eq!(batch.runs(64, 5).count(), 7);
    }

    proptest! {
        #[test]
        fn runs_say_the_same_as_the_packets(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6), 0..40),
            most in 1_usize..9,
            largest in 1_usize..60,
        ) {
            let batch = batch(&packets);
            let mut seen = Vec::new();
            for run in batch.runs(most, largest) {
                let parts: Vec<_> = run.bytes.chunks(run.stride).map(<[u8]>::to_vec).collect();
                prop_assert!(parts.len() <= most);
                prop_assert!(parts.len() == 1 || run.bytes.len() <= largest);
                seen.extend(parts);
            }
            prop_assert_eq!(&seen, &packets);
            prop_assert_eq!(batch.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), packets);
        }
    }
}
