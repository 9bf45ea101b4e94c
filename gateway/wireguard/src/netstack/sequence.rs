//! The sequence number of acknowledgements.
//!
//! After a timeout smoltcp sends again from what is not acknowledged, and counts what it sends from there, also for
//! segments that only acknowledge. The far end, which may have received more than that, takes such a segment for an old
//! one and does not look at what it acknowledges. When both ends have timed out, neither hears the other ever again. So
//! a segment without data is numbered here with the next number that was never used, as RFC 9293 (section 3.10.7.4) has it.

use std::net::IpAddr;

use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber};

use crate::batch::Batch;

/// What was sent on a connection.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// The next number that was never used.
    next: Option<TcpSeqNumber>,
    /// Whether the far end has said that it has no room. A byte is sent to it now and then all the same, to be told when it
    /// has; it may well not take it, so it does not count.
    probing: bool,
}

impl Sequence {
    /// Looks at a packet that came in.
    pub(super) fn note_received(&mut self, packet: &[u8]) {
        if let Some(tcp) = payload(packet).and_then(|(.., tcp)| TcpPacket::new_checked(tcp).ok()) {
            self.probing = tcp.window_len() == 0 && !tcp.rst();
        }
    }

    /// Looks at packets that are to be sent, from the one at `first` on, and sets their numbers right.
    pub(super) fn correct(&mut self, out: &mut Batch, first: usize) {
        for index in first..out.len() {
            if let Some(packet) = out.get_mut(index) {
                self.correct_one(packet);
            }
        }
    }

    fn correct_one(&mut self, packet: &mut [u8]) {
        let Some((source, destination, tcp)) = payload(packet) else { return };
        let start = packet.len() - tcp.len();
        let Some(Ok(mut tcp)) = packet.get_mut(start..).map(TcpPacket::new_checked) else { return };
        let number = tcp.seq_number();
        let used = tcp.payload_mut().len() + usize::from(tcp.syn()) + usize::from(tcp.fin());
        if used > 0 {
            let next = number + used;
            if !self.probing && self.next.is_none_or(|known| next > known) {
                self.next = Some(next);
            }
        } else if !tcp.rst()
            && let Some(next) = self.next.filter(|next| *next > number)
        {
            tcp.set_seq_number(next);
            tcp.fill_checksum(&source.into(), &destination.into());
        }
    }
}

/// The addresses of a packet and the TCP segment in it.
fn payload(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    match packet.first()? >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            Some((ip.src_addr().into(), ip.dst_addr().into(), ip.payload()))
        }
        6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            Some((ip.src_addr().into(), ip.dst_addr().into(), ip.payload()))
        }
        _ => None,
    }
}
