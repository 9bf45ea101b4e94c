//! The encrypted side of a tunnel: inner packets in and out, datagrams out and in. Knows nothing of what the packets
//! carry but their addresses.
//!
//! Locks are taken in this order and none is held while waiting: table, then one session, then the wheel of the timers or
//! a socket's backlog.

mod allowed;
mod inbound;
mod open;
mod peers;
mod session;
mod table;
mod timers;
mod udp;
mod wheel;
mod work;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519;
use postern_packets::congestion::Mark;

use self::session::Session;
use self::table::Table;
use self::udp::Arrivals;
use self::wheel::Wheel;
use crate::batch::Batch;
use crate::clock;
use crate::key::{PrivateKey, PublicKey};
use crate::lock::{lock, read};
use crate::meters::Meters;

pub(crate) use self::inbound::Inbound;
pub(crate) use self::session::OVERHEAD;
pub(crate) use self::table::Peer;
pub(crate) use self::udp::Udp;
pub(crate) use self::wheel::TICK;
pub(crate) use self::work::{PAUSE, Receiver};

/// Handshake messages a second above which their senders have to show that they own their address (WireGuard paper,
/// section 5.3). A handshake costs some 150 microseconds.
const HANDSHAKES_A_SECOND: u64 = 1_000;

/// One address and every peer.
pub(crate) struct Link {
    pub(crate) meters: Meters,
    pub(crate) key: PublicKey,
    private: PrivateKey,
    secret: x25519::StaticSecret,
    /// The socket, and more of the same port for more threads. Who sends to it is shared out among them by the system.
    udp: Udp,
    more: Vec<Udp>,
    table: RwLock<Table>,
    /// When which session has to be looked at.
    wheel: Mutex<Wheel>,
    /// Counts and limits handshakes over all peers.
    limiter: RateLimiter,
    /// What sessions are given, as each wants one: it checks again what the first has checked, and never limits.
    unlimited: Arc<RateLimiter>,
}

/// The session of a peer, held while packets are encrypted for it.
pub(crate) struct Sealer<'a> {
    session: MutexGuard<'a, Session>,
    now: Instant,
}

impl Sealer<'_> {
    /// Encrypts a packet, or keeps it until there is a session. `asks` when an answer is due to it.
    pub(crate) fn seal(&mut self, packet: &[u8], asks: bool, out: &mut Batch) {
        self.session.seal(packet, asks, self.now, out);
    }
}

impl Link {
    /// Binds the socket. Must be called within the runtime that reads it.
    #[cfg(test)]
    pub(crate) fn bind(private: PrivateKey, listen: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(private, Udp::bind(listen)?, Vec::new()))
    }

    /// A link over a socket, and maybe more of the same port.
    pub(crate) fn new(private: PrivateKey, udp: Udp, more: Vec<Udp>) -> Self {
        let (secret, key) = (private.to_x25519(), private.public());
        Self {
            meters: Meters::new(),
            key,
            secret,
            udp,
            more,
            table: RwLock::default(),
            wheel: Mutex::new(Wheel::new(clock::now())),
            limiter: RateLimiter::new(&key.to_x25519(), HANDSHAKES_A_SECOND),
            unlimited: Arc::new(RateLimiter::new(&key.to_x25519(), u64::MAX)),
            private,
        }
    }

    /// A socket by its number; the first one when there are fewer.
    pub(crate) fn udp(&self, number: usize) -> &Udp {
        number.checked_sub(1).and_then(|number| self.more.get(number)).unwrap_or(&self.udp)
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.udp.local_addr()
    }

    /// Gives the socket back; nothing is sent or received any more.
    pub(crate) fn close(&self) {
        self.udp.close();
        self.more.iter().for_each(Udp::close);
    }

    /// Whether nothing more should be made for the socket for now.
    pub(crate) fn is_congested(&self) -> bool {
        self.udp.is_congested()
    }

    /// Receives what is there, answers what the protocol asks for, and adds the packets to `inbound`. Returns whether there may
    /// be more.
    fn receive(&self, udp: &Udp, arrivals: &mut Arrivals, inbound: &mut Inbound, now: Instant) -> io::Result<bool> {
        let more = udp.try_receive(arrivals)?;
        let bytes: usize = arrivals.messages().map(|(message, _)| message.len).sum();
        self.meters.received_bytes.increment(bytes as u64);
        self.open(udp, arrivals, inbound, now);
        Ok(more)
    }

    /// The session of a peer, to encrypt packets with. What else it has to say goes to `out`.
    pub(crate) fn sealer<'a>(&self, peer: &'a Peer, now: Instant, out: &mut Batch) -> Sealer<'a> {
        let mut session = lock(&peer.session);
        self.wake(peer, &mut session, now, out);
        Sealer { session, now }
    }

    /// Sends what was encrypted for a peer, and empties it.
    pub(crate) fn send_to(&self, peer: &Peer, udp: &Udp, sealed: &mut Batch, mark: Mark) {
        if sealed.is_empty() {
            return;
        }
        let endpoint = {
            let mut session = lock(&peer.session);
            session.count_sent(sealed.size());
            session.endpoint
        };
        self.meters.sent_packets.increment(sealed.len() as u64);
        self.transmit(udp, endpoint, sealed, mark);
    }

    /// Encrypts packets and sends them to a peer, in order. `asks` when an answer is due to them. `scratch` is emptied and
    /// used.
    pub(crate) fn send(&self, peer: &Peer, packets: &Batch, asks: bool, scratch: &mut Batch, now: Instant) {
        scratch.clear();
        let mut sealer = self.sealer(peer, now, scratch);
        for packet in packets.iter() {
            sealer.seal(packet, asks, scratch);
        }
        drop(sealer);
        self.send_to(peer, &self.udp, scratch, Mark::NotCapable);
    }

    /// Sends what a session had to say of its own.
    fn send_sealed(&self, udp: &Udp, session: &mut Session, sealed: &mut Batch) {
        if !sealed.is_empty() {
            session.count_sent(sealed.size());
            self.transmit(udp, session.endpoint, sealed, Mark::NotCapable);
        }
    }

    fn transmit(&self, udp: &Udp, endpoint: Option<SocketAddr>, sealed: &mut Batch, mark: Mark) {
        if let Some(endpoint) = endpoint {
            self.meters.sent_bytes.increment(sealed.size() as u64);
            udp.send(endpoint, sealed, mark, &self.meters);
        } else {
            self.meters.dropped("no_endpoint", sealed.len());
        }
        sealed.clear();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let left = read(&self.table).peers().count();
        self.meters.peers.decrement(f64::from(u32::try_from(left).unwrap_or(u32::MAX)));
    }
}
