//! What the kernel hands over, as packets.

use crate::checksum;
use crate::field::{set_u16, set_u32, u16_at};
use crate::segment::Segment;
use crate::vnet::{Cut, Header};

/// What was behind one header of the interface.
#[derive(Debug)]
pub enum Handed<'a> {
    /// A packet as it is.
    Packet(&'a [u8]),
    /// Many packets of one connection.
    Segments(Segments<'a>),
}

/// The kernel handed over something that cannot be made packets of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsplittable {
    /// The header of the interface is short, or of a kind that was not asked for.
    #[error("no header of the interface that is understood")]
    Header,
    /// The checksum to be completed would be outside the packet.
    #[error("the checksum is not inside the packet")]
    Checksum,
    /// It is said to be segments of TCP, and is none or has nothing to be cut.
    #[error("no TCP segments")]
    Segments,
}

/// Reads what the interface gave, which begins with a [`Header`]. The checksum of a packet that is to stay one is
/// completed in place.
///
/// # Errors
/// When it cannot be made packets of.
pub fn open(frame: &mut [u8]) -> Result<Handed<'_>, Unsplittable> {
    let (header, packet) = Header::read(frame).ok_or(Unsplittable::Header)?;
    if header.cut == Cut::Nothing {
        if header.needs_checksum {
            complete(packet, header).ok_or(Unsplittable::Checksum)?;
        }
        return Ok(Handed::Packet(packet));
    }
    Segments::new(packet, header).map(Handed::Segments).ok_or(Unsplittable::Segments)
}

/// Adds what is missing to a checksum whose field holds the sum of the pseudo-header.
fn complete(packet: &mut [u8], header: Header) -> Option<()> {
    let part = packet.get_mut(header.checksum_start.into()..)?;
    let sum = checksum::finish(checksum::sum(part));
    let at = usize::from(header.checksum_offset);
    part.get_mut(at..at + 2)?.copy_from_slice(&sum);
    Some(())
}

/// Packets of one connection that follow each other.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a mut [u8],
    tcp_at: usize,
    payload_at: usize,
    /// How many bytes each carries but the last.
    size: usize,
}

/// The longest headers: those of IP and TCP with all their options.
const HEADERS: usize = 60 + 60;

/// The packets, one after the other.
///
/// Each is made where its payload is: its headers are written over the end of the packet before it, which nobody needs any
/// more. So nothing is copied but headers.
#[derive(Debug)]
pub struct Packets<'a> {
    segments: Segments<'a>,
    /// The headers of the whole, without checksums. What else differs from packet to packet is written over.
    headers: [u8; HEADERS],
    is_v4: bool,
    pseudo_header: u64,
    sequence: u32,
    /// The number that IPv4 gives the first.
    first: u16,
    flags: u8,
    /// How many packets there were.
    index: usize,
}

impl<'a> Segments<'a> {
    fn new(packet: &'a mut [u8], header: Header) -> Option<Self> {
        let whole = Segment::parse(packet)?;
        let is_v4 = header.cut == Cut::TcpV4;
        let sound = is_v4 == whole.is_v4() && header.size > 0 && !whole.payload().is_empty();
        let (tcp_at, payload_at, length) = (whole.tcp_at, whole.payload_at, whole.packet().len());
        let packet = packet.get_mut(..length).filter(|_| sound)?;
        Some(Self { packet, tcp_at, payload_at, size: header.size.into() })
    }

    /// All of them as one: where they go is where this goes.
    #[must_use]
    pub fn whole(&self) -> Segment<'_> {
        Segment { packet: self.packet, tcp_at: self.tcp_at, payload_at: self.payload_at }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        (self.packet.len() - self.payload_at).div_ceil(self.size)
    }

    /// The length of the longest of them.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.packet.len().min(self.payload_at + self.size)
    }

    /// The packets. None when one would be longer than `most` bytes.
    #[must_use]
    pub fn cut(self, most: usize) -> Option<Packets<'a>> {
        if self.longest() > most {
            return None;
        }
        let whole = self.whole();
        let (is_v4, pseudo_header, sequence) = (whole.is_v4(), whole.pseudo_header(), whole.sequence());
        let (flags, first) = (whole.flags(), u16_at(whole.packet(), 4));
        let mut headers = [0; HEADERS];
        headers.get_mut(..self.payload_at)?.copy_from_slice(whole.headers());
        set_u16(&mut headers, self.tcp_at + 16, 0);
        if is_v4 {
            set_u16(&mut headers, 10, 0);
        }
        Some(Packets { segments: self, headers, is_v4, pseudo_header, sequence, first, flags, index: 0 })
    }
}

impl Packets<'_> {
    /// The next one.
    #[expect(
        clippy::should_implement_trait,
        reason = "what an iterator gives cannot be overwritten by what it gives next"
    )]
    pub fn next(&mut self) -> Option<&[u8]> {
        let Self { segments: Segments { packet, tcp_at, payload_at, size }, headers, index, .. } = self;
        let done = index.checked_mul(*size)?;
        let end = packet.len().min(*payload_at + done + *size);
        let is_last = end == packet.len();
        // Headers and no payload would be left of nothing.
        let room = packet.get_mut(done..end).filter(|room| room.len() > *payload_at)?;
        room.get_mut(..*payload_at)?.copy_from_slice(headers.get(..*payload_at)?);
        let (ip, tcp) = room.split_at_mut_checked(*tcp_at)?;
        let tcp_length = u16::try_from(tcp.len()).ok()?;
        if self.is_v4 {
            number(ip, self.first, *index, tcp_length);
        } else {
            set_u16(ip, 4, tcp_length);
        }
        set_u32(tcp, 4, self.sequence.wrapping_add(u32::try_from(done).ok()?));
        let last_only = if is_last { 0 } else { Segment::FIN | Segment::PSH };
        let first_only = if *index == 0 { 0 } else { Segment::CWR };
        *tcp.get_mut(13)? = self.flags & !(last_only | first_only);
        let sum = checksum::finish(checksum::add(self.pseudo_header + checksum::sum(tcp), tcp_length));
        tcp.get_mut(16..18)?.copy_from_slice(&sum);
        *index += 1;
        Some(room)
    }
}

/// Writes what differs from packet to packet in a header of IPv4 that has no checksum yet.
fn number(ip: &mut [u8], first: u16, index: usize, tcp_length: u16) {
    let length = usize::from(tcp_length) + ip.len();
    set_u16(ip, 2, u16::try_from(length).unwrap_or(u16::MAX));
    // It only has to differ, and it may go round.
    set_u16(ip, 4, first.wrapping_add(u16::try_from(index & 0xffff).unwrap_or(0)));
    let sum = checksum::finish(checksum::sum(ip));
    if let Some(field) = ip.get_mut(10..12) {
        field.copy_from_slice(&sum);
    }
}

#[cfg(test)]
pub(crate) mod tests;
