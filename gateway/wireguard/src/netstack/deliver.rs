//! The way of a packet that came in to its connection.

use std::sync::Arc;
use std::time::Instant;

use smoltcp::iface::SocketSet;

use super::Netstack;
use super::connection::Connection;
use super::flow::{Flow, FlowKey};
use super::table::Found;
use super::wire::Wire;
use crate::batch::Batch;
use crate::link::{self, Inbound};
use crate::lock::lock;
use crate::segment::Segment;

impl Netstack {
    /// Works packets off, each with its connection.
    pub(super) fn deliver(self: &Arc<Self>, inbound: &Inbound, now: Instant) {
        let parsed = inbound.iter().map(|(peer, packet)| (peer, packet, Segment::parse(packet)));
        let mut packets = parsed.peekable();
        while let Some((peer, packet, segment)) = packets.next() {
            let Some(segment) = segment.filter(|segment| segment.destination.ip() == self.address) else {
                self.link.meters.dropped("not_for_us", 1);
                continue;
            };
            let key = FlowKey { port: segment.destination.port(), remote: segment.source };
            let Some(flow) = self.find(key, peer, packet, segment, now) else { continue };
            let Some(mut state) = self.lock_or_clear(&flow, now) else { continue };
            if !Arc::ptr_eq(&flow.peer, peer) {
                // The address has a new owner, and the connections of the old one are about to be cut.
                self.link.meters.dropped("not_allowed", 1);
                continue;
            }
            let mut scratch = self.take_scratch();
            let mut next = Some((packet, segment));
            while let Some((packet, segment)) = next {
                state.connection.ingest(packet, segment.resets, self.tcp_time(now), &mut scratch.packets);
                let same = packets.next_if(|(sender, _, following)| {
                    let is_same = |f: Segment| f.source == segment.source && f.destination == segment.destination;
                    Arc::ptr_eq(sender, peer) && following.is_some_and(is_same)
                });
                next = same.and_then(|(_, packet, segment)| Some((packet, segment?)));
            }
            self.advance_with(&flow, &mut state, &mut scratch, now);
            self.give_scratch(scratch);
        }
    }

    /// The connection that a packet is for, a new one if it asks for it. What is for no connection is answered here.
    fn find(
        &self,
        key: FlowKey,
        peer: &Arc<link::Peer>,
        packet: &[u8],
        segment: Segment,
        now: Instant,
    ) -> Option<Arc<Flow>> {
        let found = lock(&self.flows).find(&key, segment.opens, self.tcp.backlog, now);
        match found {
            Found::Flow(flow) => Some(flow),
            Found::Listener(accepting) => {
                let flow = Connection::incoming(self.terms(key.port, peer), self.tcp_time(now))
                    .map(|connection| Flow::new(key, peer, connection, Some(Arc::clone(&accepting))))
                    .filter(|flow| lock(&self.flows).insert(flow).is_ok());
                match flow {
                    Some(_) => self.link.meters.connections.increment(1.0),
                    None => accepting.leave(),
                }
                flow
            }
            Found::Resting(answer) => {
                if segment.closes {
                    let mut packets = Batch::default();
                    packets.push(&answer);
                    self.link.send(peer, &packets, false, &mut Batch::default(), now);
                }
                None
            }
            Found::Full => {
                self.link.meters.dropped("backlog", 1);
                None
            }
            Found::Nothing => {
                self.refuse(peer, packet, now);
                None
            }
        }
    }

    /// Answers a packet that is for no connection with a reset.
    fn refuse(&self, peer: &link::Peer, packet: &[u8], now: Instant) {
        let mut packets = Batch::default();
        let mut wire = Wire { mtu: self.mtu, inbound: Some(packet), outbound: &mut packets };
        lock(&self.stranger).poll_ingress_single(self.tcp_time(now), &mut wire, &mut SocketSet::new(Vec::new()));
        self.link.send(peer, &packets, false, &mut Batch::default(), now);
    }
}
