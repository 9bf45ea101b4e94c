//! What of an inner packet decides where it goes.

use std::net::SocketAddr;

/// The ends of a TCP segment, and the flags that start and end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// SYN without ACK: the wish for a new connection.
    pub(crate) opens: bool,
    pub(crate) closes: bool,
    pub(crate) resets: bool,
}

impl Segment {
    /// Reads the headers of a packet; none when it is not a whole TCP segment over IPv4 or IPv6.
    pub(crate) fn parse(packet: &[u8]) -> Option<Self> {
        let segment = postern_packets::Segment::parse(packet)?;
        Some(Self {
            source: segment.source(),
            destination: segment.destination(),
            opens: segment.opens(),
            closes: segment.closes(),
            resets: segment.resets(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
