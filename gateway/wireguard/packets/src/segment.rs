//! A packet that is a TCP segment, and where its parts are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::checksum;
use crate::field::{u16_at, u32_at};

/// The IP header of version 6, which has no options of its own.
const IPV6_HEADER: usize = 40;
/// The protocol number of TCP.
const TCP: u8 = 6;
/// A TCP header without options.
const TCP_HEADER: usize = 20;

/// A TCP segment over IPv4 or IPv6, whole and with nothing behind it.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    pub(crate) packet: &'a [u8],
    /// Where the TCP header begins.
    pub(crate) tcp_at: usize,
    /// Where the payload begins.
    pub(crate) payload_at: usize,
}

/// The flags of TCP, in the 14th byte of its header.
impl Segment<'_> {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const CWR: u8 = 0x80;
}

impl<'a> Segment<'a> {
    /// Reads the headers of a packet; none when it is not a whole TCP segment. Fragments and IPv6 extension headers are not:
    /// inside a tunnel with an MTU of its own nobody has a reason to send them.
    #[must_use]
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (tcp_at, length) = match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet.first()? & 0x0f) * 4;
                // More fragments, or not the first one.
                let is_fragment = u16_at(packet, 6) & 0x3fff != 0;
                let is_plain = header >= 20 && !is_fragment && packet.get(9) == Some(&TCP);
                (is_plain.then_some(header)?, usize::from(u16_at(packet, 2)))
            }
            6 => {
                let is_plain = packet.len() >= IPV6_HEADER && packet.get(6) == Some(&TCP);
                (is_plain.then_some(IPV6_HEADER)?, IPV6_HEADER + usize::from(u16_at(packet, 4)))
            }
            _ => return None,
        };
        let packet = packet.get(..length)?;
        let header = usize::from(packet.get(tcp_at + 12)? >> 4) * 4;
        let payload_at = tcp_at + header;
        (header >= TCP_HEADER && payload_at <= packet.len()).then_some(Self { packet, tcp_at, payload_at })
    }

    /// Where the segment is from.
    #[must_use]
    pub fn source(&self) -> SocketAddr {
        SocketAddr::new(self.address(false), u16_at(self.tcp(), 0))
    }

    /// Where the segment is going.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        SocketAddr::new(self.address(true), u16_at(self.tcp(), 2))
    }

    /// Whether it is the wish for a new connection: SYN without ACK.
    #[must_use]
    pub fn opens(&self) -> bool {
        self.flags() & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }

    /// Whether it is the last one of its direction.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.flags() & Self::FIN != 0
    }

    /// Whether it breaks the connection off.
    #[must_use]
    pub fn resets(&self) -> bool {
        self.flags() & Self::RST != 0
    }

    /// Whether the far end owes an answer to it: it carries data, or opens or closes.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.flags() & (Self::SYN | Self::FIN) != 0 || !self.payload().is_empty()
    }

    /// What it carries.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.packet.get(self.payload_at..).unwrap_or_default()
    }

    /// The packet, without what may have been behind it.
    #[must_use]
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// Whether TCP's checksum is right.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let tcp = self.tcp();
        let length = u16::try_from(tcp.len()).unwrap_or(u16::MAX);
        let sum = self.pseudo_header() + checksum::sum(tcp);
        checksum::finish(checksum::add(sum, length)) == [0, 0]
    }

    /// The sum of the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1) but for the length.
    pub(crate) fn pseudo_header(&self) -> u64 {
        let addresses = if self.is_v4() { self.packet.get(12..20) } else { self.packet.get(8..40) };
        checksum::add(checksum::sum(addresses.unwrap_or_default()), TCP.into())
    }

    pub(crate) fn is_v4(&self) -> bool {
        self.packet.first().is_some_and(|first| first >> 4 == 4)
    }

    pub(crate) fn flags(&self) -> u8 {
        self.tcp().get(13).copied().unwrap_or(0)
    }

    pub(crate) fn sequence(&self) -> u32 {
        u32_at(self.tcp(), 4)
    }

    /// Both IP and TCP headers.
    pub(crate) fn headers(&self) -> &'a [u8] {
        self.packet.get(..self.payload_at).unwrap_or_default()
    }

    pub(crate) fn tcp(&self) -> &'a [u8] {
        self.packet.get(self.tcp_at..).unwrap_or_default()
    }

    fn address(&self, destination: bool) -> IpAddr {
        let at = |first: usize, length: usize| first + if destination { length } else { 0 };
        if self.is_v4() {
            let octets: [u8; 4] = u32_at(self.packet, at(12, 4)).to_be_bytes();
            Ipv4Addr::from(octets).into()
        } else {
            let first = at(8, 16);
            let octets =
                self.packet.get(first..first + 16).and_then(|octets| octets.try_into().ok()).unwrap_or([0; 16]);
            Ipv6Addr::from(octets).into()
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
