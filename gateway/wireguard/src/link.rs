//! The encrypted side of a tunnel: inner packets in and out, datagrams out and in. Knows nothing of what the packets
//! carry but their addresses.
//!
//! Locks are taken in this order and none is held while waiting: table, then one session, then the socket's backlog.

mod allowed;
mod open;
mod peers;
mod session;
mod table;
mod udp;
mod work;

use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;

use self::session::Session;
use self::table::Table;
use self::udp::Udp;
use crate::batch::Batch;
use crate::key::{PrivateKey, PublicKey};
use crate::lock::{lock, read};
use crate::meters::Meters;

pub(crate) use self::session::OVERHEAD;
pub(crate) use self::table::Peer;

/// How often [`Link::tick`] wants to be called.
const TICK: Duration = Duration::from_millis(250);

/// Handshake messages a second above which their senders have to show that they own their address (WireGuard paper,
/// section 5.3). A handshake costs some 150 microseconds.
const HANDSHAKES_A_SECOND: u64 = 1_000;

/// One socket and every peer.
pub(crate) struct Link {
    pub(crate) meters: Meters,
    pub(crate) key: PublicKey,
    private: PrivateKey,
    secret: x25519::StaticSecret,
    udp: Udp,
    table: RwLock<Table>,
    /// Counts and limits handshakes over all peers.
    limiter: RateLimiter,
    /// What sessions are given, as each wants one: it checks again what the first has checked, and never limits.
    unlimited: Arc<RateLimiter>,
}

/// Packets that came in, and who sent them.
#[derive(Default)]
pub(crate) struct Inbound {
    packets: Batch,
    peers: Vec<Arc<Peer>>,
}

impl Inbound {
    /// Every packet with its sender, to whom its source address belongs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<Peer>, &[u8])> {
        self.peers.iter().zip(self.packets.iter())
    }

    /// Adds one as if it had come in.
    #[cfg(test)]
    pub(crate) fn push(&mut self, peer: &Arc<Peer>, packet: &[u8]) {
        self.packets.push(packet);
        self.peers.push(Arc::clone(peer));
    }

    /// Forgets them, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.packets.clear();
        self.peers.clear();
    }
}

impl Link {
    /// Binds the socket. Must be called within the runtime that reads it.
    pub(crate) fn bind(private: PrivateKey, listen: SocketAddr) -> std::io::Result<Self> {
        let (secret, key) = (private.to_x25519(), private.public());
        Ok(Self {
            meters: Meters::new(),
            key,
            secret,
            udp: Udp::bind(listen)?,
            table: RwLock::default(),
            limiter: RateLimiter::new(&key.to_x25519(), HANDSHAKES_A_SECOND),
            unlimited: Arc::new(RateLimiter::new(&key.to_x25519(), u64::MAX)),
            private,
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.udp.local_addr()
    }

    /// Gives the socket back; nothing is sent or received any more.
    pub(crate) fn close(&self) {
        self.udp.close();
    }

    /// Waits until there is something to [`Link::receive`].
    async fn readable(&self) -> std::io::Result<()> {
        self.udp.readable().await
    }

    /// Waits until datagrams had to wait for the socket and are gone.
    async fn drain(&self) -> std::io::Result<()> {
        self.udp.drain().await
    }

    /// Whether nothing more should be made for the socket for now.
    pub(crate) fn is_congested(&self) -> bool {
        self.udp.is_congested()
    }

    /// Waits until more may be made for the socket.
    pub(crate) async fn uncongested(&self) {
        self.udp.uncongested().await;
    }

    /// Receives what is there, answers what the protocol asks for, and adds the packets to `inbound`.
    fn receive(&self, buffer: &mut [u8], inbound: &mut Inbound, now: Instant) -> std::io::Result<()> {
        let received = self.udp.try_receive(buffer)?;
        let datagrams = buffer.get(..received.len).unwrap_or_default();
        self.meters.received_bytes.increment(received.len as u64);
        self.open(received.from, datagrams, received.stride, inbound, now);
        Ok(())
    }

    /// Encrypts packets and sends them to a peer, in order. `asks` when an answer is due to them. `scratch` is emptied and
    /// used.
    pub(crate) fn send(&self, peer: &Peer, packets: &Batch, asks: bool, scratch: &mut Batch, now: Instant) {
        scratch.clear();
        let mut session = lock(&peer.session);
        for packet in packets.iter() {
            session.seal(packet, asks, now, scratch);
        }
        self.meters.sent_packets.increment(packets.len() as u64);
        self.send_sealed(&mut session, scratch);
    }

    fn send_sealed(&self, session: &mut Session, sealed: &mut Batch) {
        if sealed.is_empty() {
            return;
        }
        if let Some(endpoint) = session.endpoint {
            session.count_sent(sealed.size());
            self.meters.sent_bytes.increment(sealed.size() as u64);
            self.udp.send(endpoint, sealed, &self.meters);
        } else {
            self.meters.dropped("no_endpoint", sealed.len());
        }
        sealed.clear();
    }

    /// Drives the timers of every session.
    fn tick(&self, now: Instant) {
        self.limiter.reset_count();
        let peers: Vec<_> = read(&self.table).peers().map(Arc::clone).collect();
        let mut out = Batch::default();
        for peer in peers {
            let mut session = lock(&peer.session);
            session.tick(now, &mut out);
            self.send_sealed(&mut session, &mut out);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let left = read(&self.table).peers().count();
        self.meters.peers.decrement(f64::from(u32::try_from(left).unwrap_or(u32::MAX)));
    }
}
