//! Packets that came in, as the kernel likes them: those that follow each other in a connection as one.

use std::ops::Range;

use crate::checksum;
use crate::field::{set_u16, u16_at};
use crate::segment::Segment;
use crate::vnet::{self, Cut, Header};

/// How many of the newest frames are looked at for one that a packet continues. Connections beyond that, in a batch, are
/// carried all the same, in smaller pieces.
const LOOKED_AT: usize = 16;

/// The most packets that become one. As many system calls would not pay more.
pub const MOST_JOINED: usize = 64;

/// The largest packet that IP can describe, in bytes.
const LARGEST: usize = 65_535;

/// The longest headers: the interface's, those of IP and TCP with all their options.
const HEAD: usize = vnet::LEN + 60 + 60;

/// Finds out which packets of a batch become one. Keeps its memory from batch to batch.
#[derive(Debug, Default)]
pub struct Joiner {
    frames: Vec<Joined>,
    used: usize,
}

/// One packet, or several that follow each other.
#[derive(Debug, Default)]
struct Joined {
    /// Where the first is.
    first: Range<usize>,
    tcp_at: usize,
    payload_at: usize,
    /// Where the payloads of the others are.
    more: Vec<Range<usize>>,
    /// How many bytes each carries but the last.
    size: usize,
    /// How long it is with what was added.
    length: usize,
    /// The sequence number that continues it.
    next: u32,
    pushes: bool,
    /// Whether anything may follow.
    open: bool,
}

/// What is written to the interface at a time.
#[derive(Debug)]
pub struct Frame<'a> {
    head: [u8; HEAD],
    head_len: usize,
    bytes: &'a [u8],
    first: Range<usize>,
    more: &'a [Range<usize>],
}

impl Joiner {
    /// Forgets the packets of the last batch.
    pub fn clear(&mut self) {
        self.used = 0;
    }

    /// Adds the packet that is at `at` in `bytes`, which is the same for a whole batch and not changed meanwhile. `segment`
    /// is what it is.
    pub fn add(&mut self, bytes: &[u8], at: Range<usize>, segment: &Segment<'_>) {
        let newest = self.frames.get_mut(..self.used).unwrap_or_default();
        let last_of_flow = newest.iter_mut().rev().take(LOOKED_AT).find(|frame| frame.is_of_flow(bytes, segment));
        // The kernel takes what was joined for right, so it has to be.
        let joinable = is_joinable(segment) && segment.is_intact();
        if let Some(frame) = last_of_flow.filter(|frame| joinable && frame.is_continued_by(bytes, segment)) {
            frame.append(at.start, segment);
            return;
        }
        if self.used == self.frames.len() {
            self.frames.push(Joined::default());
        }
        if let Some(frame) = self.frames.get_mut(self.used) {
            frame.begin(at, segment, joinable);
            self.used += 1;
        }
    }

    /// What is to be written, in order.
    pub fn frames<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Frame<'a>> {
        self.frames.iter().take(self.used).map(move |frame| frame.write(bytes))
    }
}

/// Whether a segment may be one of many: it carries something and says nothing that is meant for its place only.
fn is_joinable(segment: &Segment<'_>) -> bool {
    let plain = segment.flags() & !Segment::PSH == Segment::ACK;
    let no_ip_options = !segment.is_v4() || segment.tcp_at == 20;
    plain && no_ip_options && !segment.payload().is_empty()
}

impl Joined {
    fn begin(&mut self, at: Range<usize>, segment: &Segment<'_>, joinable: bool) {
        let carried = segment.payload().len();
        self.first = at.start..at.start + segment.packet().len();
        (self.tcp_at, self.payload_at) = (segment.tcp_at, segment.payload_at);
        self.more.clear();
        (self.size, self.length) = (carried, segment.packet().len());
        self.next = segment.sequence().wrapping_add(u32::try_from(carried).unwrap_or(0));
        self.pushes = segment.flags() & Segment::PSH != 0;
        self.open = joinable && !self.pushes;
    }

    fn append(&mut self, start: usize, segment: &Segment<'_>) {
        let carried = segment.payload().len();
        self.more.push(start + segment.payload_at..start + segment.packet().len());
        self.length += carried;
        self.next = self.next.wrapping_add(u32::try_from(carried).unwrap_or(0));
        self.pushes = segment.flags() & Segment::PSH != 0;
        self.open = carried == self.size && !self.pushes && self.more.len() + 1 < MOST_JOINED;
    }

    fn is_of_flow(&self, bytes: &[u8], segment: &Segment<'_>) -> bool {
        let (own, other) = (self.headers(bytes), segment.headers());
        let same_addresses =
            if is_v4(own) { own.get(12..20) == other.get(12..20) } else { own.get(8..40) == other.get(8..40) };
        is_v4(own) == segment.is_v4()
            && same_addresses
            && own.get(self.tcp_at..self.tcp_at + 4) == segment.tcp().get(..4)
    }

    /// Whether a joinable segment of the same flow comes next and differs in nothing that its place does not explain.
    fn is_continued_by(&self, bytes: &[u8], segment: &Segment<'_>) -> bool {
        let carried = segment.payload().len();
        let fits = carried <= self.size && self.length + carried <= LARGEST;
        let follows = self.open && segment.sequence() == self.next && fits;
        follows
            && self.payload_at == segment.payload_at
            && is_alike(self.headers(bytes), segment.headers(), self.tcp_at)
    }

    fn headers<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.first.start..self.first.start + self.payload_at).unwrap_or_default()
    }

    fn write<'a>(&'a self, bytes: &'a [u8]) -> Frame<'a> {
        let mut frame =
            Frame { head: [0; HEAD], head_len: vnet::LEN, bytes, first: self.first.clone(), more: &self.more };
        if !self.more.is_empty() {
            self.write_head(bytes, &mut frame);
        }
        frame
    }

    /// The headers of the whole, instead of those of the first.
    fn write_head(&self, bytes: &[u8], frame: &mut Frame<'_>) {
        let headers = self.headers(bytes);
        let Some((vnet, room)) = frame.head.split_at_mut_checked(vnet::LEN) else { return };
        let Some(room) = room.get_mut(..headers.len()) else { return };
        room.copy_from_slice(headers);
        let is_v4 = is_v4(headers);
        let Some((ip, tcp)) = room.split_at_mut_checked(self.tcp_at) else { return };
        let tcp_length = u16::try_from(self.length - self.tcp_at).unwrap_or(u16::MAX);
        let pseudo_header = if is_v4 {
            set_u16(ip, 2, u16::try_from(self.length).unwrap_or(u16::MAX));
            set_u16(ip, 10, 0);
            let sum = u16::from_be_bytes(checksum::finish(checksum::sum(ip)));
            set_u16(ip, 10, sum);
            checksum::sum(ip.get(12..20).unwrap_or_default())
        } else {
            set_u16(ip, 4, tcp_length);
            checksum::sum(ip.get(8..40).unwrap_or_default())
        };
        // The sum of the pseudo-header, to which the kernel would add the rest.
        let sum = checksum::add(checksum::add(pseudo_header, 6), tcp_length);
        set_u16(tcp, 16, u16::from_be_bytes(checksum::fold(sum)));
        if let Some(flags) = tcp.get_mut(13).filter(|_| self.pushes) {
            *flags |= Segment::PSH;
        }
        vnet.copy_from_slice(
            &Header {
                needs_checksum: true,
                cut: if is_v4 { Cut::TcpV4 } else { Cut::TcpV6 },
                headers: u16::try_from(headers.len()).unwrap_or(0),
                size: u16::try_from(self.size).unwrap_or(0),
                checksum_start: u16::try_from(self.tcp_at).unwrap_or(0),
                checksum_offset: 16,
            }
            .to_bytes(),
        );
        frame.head_len = vnet::LEN + headers.len();
        frame.first.start += headers.len();
    }
}

fn is_v4(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
}

/// Whether headers are the same but for lengths, checksums, the packet's number, the sequence number and PSH.
fn is_alike(one: &[u8], other: &[u8], tcp_at: usize) -> bool {
    let same = |range: Range<usize>| one.get(range.clone()) == other.get(range);
    let same_ip = if tcp_at == 20 { same(0..2) && same(6..10) } else { same(0..4) && same(6..8) };
    let acknowledgement = tcp_at + 8..tcp_at + 13;
    let same_window = u16_at(one, tcp_at + 14) == u16_at(other, tcp_at + 14);
    same_ip && same(acknowledgement) && same_window && same(tcp_at + 18..one.len()) && one.len() == other.len()
}

impl<'a> Frame<'a> {
    /// The pieces that are written behind each other.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let head = self.head.get(..self.head_len).unwrap_or_default();
        let bytes: &'a [u8] = self.bytes;
        let payloads = self.more.iter().map(move |range| bytes.get(range.clone()).unwrap_or_default());
        let first = bytes.get(self.first.clone()).unwrap_or_default();
        [head, first].into_iter().chain(payloads)
    }

    /// How many packets it is.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.more.len() + 1
    }
}

#[cfg(test)]
mod tests;
