//! What of an inner packet decides where it goes.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket};

/// The ends of a TCP segment, and the flags that start and end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// SYN without ACK: the wish for a new connection.
    pub(crate) opens: bool,
    pub(crate) closes: bool,
    /// Whether the far end owes an answer to it: it carries data, or opens or closes.
    pub(crate) asks: bool,
    pub(crate) resets: bool,
}

impl Segment {
    /// Reads the headers of a packet; none when it is not a whole TCP segment over IPv4 or IPv6. Fragments and IPv6
    /// extension headers are not: inside a tunnel with an MTU of its own nobody has a reason to send them.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let ip = Ipv4Packet::new_checked(packet).ok()?;
                let whole = !ip.more_frags() && ip.frag_offset() == 0 && ip.next_header() == IpProtocol::Tcp;
                whole.then(|| Self::of(ip.src_addr().into(), ip.dst_addr().into(), ip.payload()))?
            }
            6 => {
                let ip = Ipv6Packet::new_checked(packet).ok()?;
                let plain = ip.next_header() == IpProtocol::Tcp;
                plain.then(|| Self::of(ip.src_addr().into(), ip.dst_addr().into(), ip.payload()))?
            }
            _ => None,
        }
    }

    fn of(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Option<Self> {
        let tcp = TcpPacket::new_checked(payload).ok()?;
        Some(Self {
            source: SocketAddr::new(source, tcp.src_port()),
            destination: SocketAddr::new(destination, tcp.dst_port()),
            opens: tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin(),
            closes: tcp.fin(),
            asks: tcp.syn() || tcp.fin() || !tcp.payload().is_empty(),
            resets: tcp.rst(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
