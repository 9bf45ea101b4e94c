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
#[derive(Debug, Clone, Copy)]
pub struct Segments<'a> {
    whole: Segment<'a>,
    /// How many bytes each carries but the last.
    size: usize,
    pseudo_header: u64,
}

impl<'a> Segments<'a> {
    fn new(packet: &'a [u8], header: Header) -> Option<Self> {
        let whole = Segment::parse(packet)?;
        let is_v4 = header.cut == Cut::TcpV4;
        let sound = is_v4 == whole.is_v4() && header.size > 0 && !whole.payload().is_empty();
        sound.then(|| Self { whole, size: header.size.into(), pseudo_header: whole.pseudo_header() })
    }

    /// All of them as one: where they go is where this goes.
    #[must_use]
    pub fn whole(&self) -> &Segment<'a> {
        &self.whole
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.whole.payload().len().div_ceil(self.size)
    }

    /// The length of the longest of them.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.whole.headers().len() + self.size.min(self.whole.payload().len())
    }

    /// Writes a packet by its place. None when there is no such packet, or it is larger than `room`.
    pub fn write<'r>(&self, index: usize, room: &'r mut [u8]) -> Option<&'r [u8]> {
        let (payload, headers) = (self.whole.payload(), self.whole.headers());
        let from = index.checked_mul(self.size)?;
        let rest = payload.get(from..).filter(|rest| !rest.is_empty())?;
        let (carried, is_last) = (rest.get(..self.size).unwrap_or(rest), rest.len() <= self.size);
        let packet = room.get_mut(..headers.len() + carried.len())?;
        let (head, body) = packet.split_at_mut_checked(headers.len())?;
        head.copy_from_slice(headers);
        body.copy_from_slice(carried);
        let (ip, tcp) = head.split_at_mut_checked(self.whole.tcp_at)?;
        let tcp_length = u16::try_from(tcp.len() + body.len()).ok()?;
        self.number(ip, index, tcp_length);

        set_u32(tcp, 4, self.whole.sequence().wrapping_add(u32::try_from(from).ok()?));
        let last_only = if is_last { 0 } else { Segment::FIN | Segment::PSH };
        let first_only = if index == 0 { 0 } else { Segment::CWR };
        *tcp.get_mut(13)? &= !(last_only | first_only);
        set_u16(tcp, 16, 0);
        let sum = self.pseudo_header + checksum::sum(tcp) + checksum::sum(body);
        tcp.get_mut(16..18)?.copy_from_slice(&checksum::finish(checksum::add(sum, tcp_length)));
        Some(packet)
    }

    /// Writes what differs from packet to packet in an IP header.
    fn number(&self, ip: &mut [u8], index: usize, tcp_length: u16) {
        if !self.whole.is_v4() {
            set_u16(ip, 4, tcp_length);
            return;
        }
        let length = usize::from(tcp_length) + ip.len();
        set_u16(ip, 2, u16::try_from(length).unwrap_or(u16::MAX));
        // It only has to differ, and it may go round.
        let number = u16::try_from(index & 0xffff).unwrap_or(0);
        set_u16(ip, 4, u16_at(ip, 4).wrapping_add(number));
        set_u16(ip, 10, 0);
        let sum = checksum::finish(checksum::sum(ip));
        if let Some(field) = ip.get_mut(10..12) {
            field.copy_from_slice(&sum);
        }
    }
}

#[cfg(test)]
mod tests;
