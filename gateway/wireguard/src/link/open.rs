//! The way of a datagram that came in to its session.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};
use postern_packets::congestion::Mark;

use super::session::{self, Opened};
use super::table::Peer;
use super::udp::{Arrivals, Udp};
use super::{Inbound, Link, OVERHEAD};
use crate::batch::Batch;
use crate::key::PublicKey;
use crate::lock::{lock, read};

/// A message of the cookie kind, in bytes.
const COOKIE: usize = 64;

impl Link {
    /// Opens datagrams. Neighbours of one session are opened under one lock.
    pub(super) fn open(&self, udp: &Udp, arrivals: &Arrivals, inbound: &mut Inbound, now: Instant) {
        let mut answers = Batch::default();
        let mut datagrams = arrivals.datagrams().peekable();
        while let Some((message, first)) = datagrams.next() {
            let from = message.from;
            let Some(peer) = self.identify(udp, from, first) else { continue };
            let table = read(&self.table);
            let mut session = lock(&peer.session);
            self.wake(&peer, &mut session, now, &mut answers);
            let (mut next, mut count) = (Some((message, first)), 0);
            // Neighbours mostly have the same source, whose owner need not be looked up again.
            let mut owned: Option<IpAddr> = None;
            while let Some((message, datagram)) = next {
                match session.open(datagram, from, now, &mut inbound.packets, &mut answers) {
                    Ok(Opened::Packet(source)) if owned == Some(source) || table.owns(&peer, source) => {
                        owned = Some(source);
                        self.tell_congestion(message.mark, &mut inbound.packets);
                    }
                    Ok(Opened::Packet(_)) => {
                        inbound.packets.drop_last();
                        self.meters.dropped("not_allowed", 1);
                    }
                    Ok(Opened::Handshake) => self.meters.handshakes.increment(1),
                    Ok(Opened::Protocol) => {}
                    Err(_) => self.meters.dropped("not_authentic", 1),
                }
                count += 1;
                next = datagrams.next_if(|(message, next)| message.from == from && is_same_session(first, next));
            }
            self.meters.received_packets.increment(count);
            inbound.sent_by(&peer);
            self.send_sealed(udp, &mut session, &mut answers);
        }
    }

    /// Tells the packet that was added last what the outer header said of the way.
    fn tell_congestion(&self, mark: Mark, packets: &mut Batch) {
        if !packets.last_mut().is_none_or(|packet| mark.tell(packet)) {
            packets.drop_last();
            self.meters.dropped("congested", 1);
        }
    }

    /// The peer that a datagram claims to be from. What it claims is proven by opening it.
    fn identify(&self, udp: &Udp, from: SocketAddr, datagram: &[u8]) -> Option<Arc<Peer>> {
        let mut cookie = [0; COOKIE];
        let packet = match self.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(reply)) => {
                let mut answer = Batch::default();
                answer.push(reply);
                udp.send(from, &answer, Mark::NotCapable, &self.meters);
                self.meters.dropped("handshakes_limited", 1);
                return None;
            }
            Err(_) => {
                self.meters.dropped("malformed", 1);
                return None;
            }
        };
        let peer = match packet {
            Packet::HandshakeInit(initiation) => {
                let half = parse_handshake_anon(&self.secret, &self.key.to_x25519(), &initiation).ok();
                half.and_then(|half| {
                    read(&self.table).by_key(&PublicKey::from_bytes(half.peer_static_public)).map(Arc::clone)
                })
            }
            Packet::HandshakeResponse(response) => self.by_receiver(response.receiver_idx),
            Packet::PacketCookieReply(reply) => self.by_receiver(reply.receiver_idx),
            Packet::PacketData(data) => self.by_receiver(data.receiver_idx),
        };
        if peer.is_none() {
            self.meters.dropped("unknown_peer", 1);
        }
        peer
    }

    fn by_receiver(&self, receiver: u32) -> Option<Arc<Peer>> {
        read(&self.table).by_receiver(receiver).map(Arc::clone)
    }
}

/// Whether two datagrams are data of the same session: same type, same receiver.
fn is_same_session(one: &[u8], other: &[u8]) -> bool {
    one.first() == Some(&session::DATA) && one.get(..8) == other.get(..8) && other.len() >= OVERHEAD
}

#[cfg(test)]
mod tests;
