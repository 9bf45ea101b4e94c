//! The way of a datagram that came in to its session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, TunnResult};

use super::session::{self, Opened};
use super::table::Peer;
use super::{Inbound, Link, OVERHEAD};
use crate::batch::Batch;
use crate::key::PublicKey;
use crate::lock::{lock, read};

/// A message of the cookie kind, in bytes.
const COOKIE: usize = 64;

impl Link {
    /// Opens datagrams of one sender.
    pub(super) fn open(&self, from: SocketAddr, datagrams: &[u8], stride: usize, inbound: &mut Inbound, now: Instant) {
        let mut answers = Batch::default();
        let mut datagrams = datagrams.chunks(stride.max(1)).peekable();
        while let Some(first) = datagrams.next() {
            let Some(peer) = self.identify(from, first) else { continue };
            let table = read(&self.table);
            let mut session = lock(&peer.session);
            let mut next = Some(first);
            while let Some(datagram) = next {
                match session.open(datagram, from, now, &mut inbound.packets, &mut answers) {
                    Ok(Opened::Packet(source)) if table.owns(&peer, source) => inbound.peers.push(Arc::clone(&peer)),
                    Ok(Opened::Packet(_)) => {
                        inbound.packets.drop_last();
                        self.meters.dropped("not_allowed", 1);
                    }
                    Ok(Opened::Handshake) => self.meters.handshakes.increment(1),
                    Ok(Opened::Protocol) => {}
                    Err(_) => self.meters.dropped("not_authentic", 1),
                }
                self.meters.received_packets.increment(1);
                next = datagrams.next_if(|next| is_same_session(first, next));
            }
            self.send_sealed(&mut session, &mut answers);
        }
    }

    /// The peer that a datagram claims to be from. What it claims is proven by opening it.
    fn identify(&self, from: SocketAddr, datagram: &[u8]) -> Option<Arc<Peer>> {
        let mut cookie = [0; COOKIE];
        let packet = match self.limiter.verify_packet(Some(from.ip()), datagram, &mut cookie) {
            Ok(packet) => packet,
            Err(TunnResult::WriteToNetwork(reply)) => {
                let mut answer = Batch::default();
                answer.push(reply);
                self.udp.send(from, &answer, &self.meters);
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
