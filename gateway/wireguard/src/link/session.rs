//! What is shared with one peer: keys, handshakes and keepalives. Bytes in, bytes out; the time is an argument.
//!
//! The cryptography and the timers of the protocol are boringtun's. Added here is what it leaves to its device: the
//! place of the peer on the network, keepalives that survive a change of their interval and go on when the handshake was
//! given up, and noticing soon that the far end has forgotten the session.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};

use crate::batch::Batch;
use crate::config::PeerStatus;
use crate::key::{PrivateKey, PublicKey};
use crate::link::wheel::TICK;

/// What a data message adds to a packet: type, receiver, counter and authentication tag.
pub(crate) const OVERHEAD: usize = 32;
/// The longest handshake message, and the least room that boringtun wants for its output.
const HANDSHAKE: usize = 148;

/// The types of messages (WireGuard paper, section 5.4), each the first byte of a datagram.
pub(super) const INITIATION: u8 = 1;
pub(super) const RESPONSE: u8 = 2;
pub(super) const DATA: u8 = 4;

/// A handshake that was not answered is not started again before this has passed (REKEY_TIMEOUT of the WireGuard paper,
/// section 6.1).
const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// When nothing at all came back for this long after something that asks for an answer, the far end may have restarted:
/// a handshake finds out. It is over before TCP sends its segment for the third time, 3 seconds after the first; boringtun,
/// which does not know what asks for an answer, would wait for 15 seconds.
const UNANSWERED: Duration = Duration::from_secs(2);
/// A handshake is not started before this has passed since the last one.
const HANDSHAKE_PAUSE: Duration = Duration::from_secs(1);
/// A far end that has sent data and got nothing for this long is told that it was heard (KEEPALIVE_TIMEOUT of the WireGuard
/// paper, section 6.1). A session is never left alone for longer, so keys are forgotten at most so much too late.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The state shared with a peer.
pub(super) struct Session {
    tunn: Tunn,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) keepalive: Option<Duration>,
    /// The longest of the packets that boringtun holds until there is a session.
    queued: Option<usize>,
    /// Whether we answered a handshake that the peer has not used yet.
    unconfirmed: bool,
    handshake: Option<Instant>,
    initiated: Option<Instant>,
    received: Option<Instant>,
    sent: Option<Instant>,
    /// When the first packet was sent that asks for an answer, and nothing at all has come back after.
    unanswered: Option<Instant>,
    /// When the timers were driven last. boringtun takes that for the present time.
    ticked: Option<Instant>,
    /// The tick of the wheel that counts.
    pub(super) armed: Option<u64>,
    /// Whether something may have happened since the timers were driven.
    pub(super) awake: bool,
    rx: u64,
    tx: u64,
}

/// What a datagram was.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// A packet that says to be from this address; it was added to the inner batch.
    Packet(IpAddr),
    /// Part of a handshake that is complete now.
    Handshake,
    /// Something of the protocol's own.
    Protocol,
}

impl Session {
    pub(super) fn new(private: &PrivateKey, peer: PublicKey, index: u32, limiter: &Arc<RateLimiter>) -> Self {
        Self {
            tunn: Tunn::new(private.to_x25519(), peer.to_x25519(), None, None, index, Some(Arc::clone(limiter))),
            endpoint: None,
            keepalive: None,
            queued: None,
            unconfirmed: false,
            handshake: None,
            initiated: None,
            received: None,
            sent: None,
            unanswered: None,
            ticked: None,
            armed: None,
            awake: false,
            rx: 0,
            tx: 0,
        }
    }

    /// Encrypts a packet, or keeps it (up to 256 of them) and starts a handshake when there is no session yet. `asks` when
    /// an answer is due to it.
    pub(super) fn seal(&mut self, packet: &[u8], asks: bool, now: Instant, out: &mut Batch) {
        let room = HANDSHAKE.max(packet.len() + OVERHEAD);
        let kind = out.push_up_to(room, |room| written(self.tunn.encapsulate(packet, room)));
        self.note_sent(kind, now);
        if asks {
            self.unanswered.get_or_insert(now);
        }
        if kind != Some(DATA) {
            self.queued = self.queued.max(Some(packet.len()));
        }
    }

    /// Takes a datagram in. A packet in it goes to `inner`, answers go to `out`, and `from` becomes the peer's endpoint,
    /// all of it only when the datagram is authentic.
    pub(super) fn open(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Instant,
        inner: &mut Batch,
        out: &mut Batch,
    ) -> Result<Opened, WireGuardError> {
        let kind = datagram.first().copied();
        let tunn = &mut self.tunn;
        let (opened, answer) = inner.push_up_to(HANDSHAKE.max(datagram.len()), |room| {
            match tunn.decapsulate(Some(from.ip()), datagram, room) {
                TunnResult::Done => (0, (Ok(Opened::Protocol), None)),
                TunnResult::Err(error) => (0, (Err(error), None)),
                TunnResult::WriteToNetwork(answer) => {
                    out.push(answer);
                    (0, (Ok(Opened::Protocol), answer.first().copied()))
                }
                TunnResult::WriteToTunnelV4(packet, source) => {
                    (packet.len(), (Ok(Opened::Packet(source.into())), None))
                }
                TunnResult::WriteToTunnelV6(packet, source) => {
                    (packet.len(), (Ok(Opened::Packet(source.into())), None))
                }
            }
        });
        let opened = opened?;
        self.note_sent(answer, now);
        if !matches!((kind, answer), (Some(DATA), _) | (Some(INITIATION | RESPONSE), Some(_))) {
            return Ok(opened);
        }
        self.endpoint = Some(from);
        self.received = Some(now);
        self.unanswered = None;
        self.rx = self.rx.saturating_add(datagram.len() as u64);
        let complete = self.note_handshake(kind, now);
        self.release_queued(now, out);
        Ok(if complete && opened == Opened::Protocol { Opened::Handshake } else { opened })
    }

    /// Whether the timers were driven so lately that the session may be used.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        !passed(self.ticked, 2 * TICK, now)
    }

    /// When something is due next, if nothing happens until then.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let heard = self.sent.into_iter().chain(self.received);
        let pauses = [KEEPALIVE_TIMEOUT, KEEPALIVE_TIMEOUT + REKEY_TIMEOUT];
        let own = heard.flat_map(|at| pauses.map(|pause| at + pause));
        let asked = self.unanswered.map(|at| at + UNANSWERED);
        let begun = self.initiated.map(|at| at + REKEY_TIMEOUT);
        let kept = self.keepalive.and_then(|keepalive| Some(self.sent? + keepalive));
        // What is due and could not be done yet is tried again.
        let tried = asked.into_iter().chain(begun).chain(kept).map(|at| at.max(now + HANDSHAKE_PAUSE));
        let first = own.filter(|at| *at > now).chain(tried).min();
        first.map_or(now + KEEPALIVE_TIMEOUT, |first| first.min(now + KEEPALIVE_TIMEOUT))
    }

    /// Does what is due: to be called a few times a second while something happens, and when [`Session::next`] says.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Batch) {
        (self.ticked, self.awake) = (Some(now), false);
        let kind = out.push_up_to(HANDSHAKE, |room| written(self.tunn.update_timers(room)));
        self.note_sent(kind, now);
        if self.tunn.is_expired() {
            self.unanswered = None;
        }
        if kind.is_some() || self.endpoint.is_none() {
            return;
        }
        if self.unanswered.is_some_and(|since| now.saturating_duration_since(since) >= UNANSWERED) {
            self.initiate(now, out);
        }
        let Some(keepalive) = self.keepalive else { return };
        if passed(self.sent, keepalive, now) {
            if self.tunn.time_since_last_handshake().is_some() {
                let kind = out.push_up_to(HANDSHAKE, |room| written(self.tunn.encapsulate(&[], room)));
                self.note_sent(kind, now);
            } else {
                self.initiate(now, out);
            }
        }
        // Two keepalives long nothing was heard, not even an answer to one of ours: see whether anybody is there.
        if self.handshake.is_some() && passed(self.received, keepalive.saturating_mul(2).max(REKEY_TIMEOUT), now) {
            self.initiate(now, out);
        }
    }

    /// Starts a handshake, unless one is running or was started a moment ago.
    pub(super) fn initiate(&mut self, now: Instant, out: &mut Batch) {
        if passed(self.initiated, REKEY_TIMEOUT, now) && passed(self.handshake, HANDSHAKE_PAUSE, now) {
            let kind = out.push_up_to(HANDSHAKE, |room| written(self.tunn.format_handshake_initiation(room, false)));
            self.note_sent(kind, now);
        }
    }

    /// Counts bytes that went out to the peer.
    pub(super) fn count_sent(&mut self, bytes: usize) {
        self.tx = self.tx.saturating_add(bytes as u64);
    }

    pub(super) fn status(&self, public_key: PublicKey, mtu: Option<u16>, now: Instant) -> PeerStatus {
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        PeerStatus {
            public_key,
            endpoint: self.endpoint,
            mtu,
            last_handshake: since(self.handshake),
            last_received: since(self.received),
            rx: self.rx,
            tx: self.tx,
        }
    }

    fn note_sent(&mut self, kind: Option<u8>, now: Instant) {
        if kind.is_some() {
            self.sent = Some(now);
        }
        if kind == Some(INITIATION) {
            self.initiated = Some(now);
        }
    }

    /// The initiator has the session with the response; the responder knows of it when the first data comes with it.
    fn note_handshake(&mut self, kind: Option<u8>, now: Instant) -> bool {
        let complete = kind == Some(RESPONSE) || kind == Some(DATA) && self.unconfirmed;
        self.unconfirmed = kind == Some(INITIATION);
        if complete {
            self.handshake = Some(now);
            self.initiated = None;
        }
        complete
    }

    /// Sends what waited for the handshake. Without a session it would only go round in the queue.
    fn release_queued(&mut self, now: Instant, out: &mut Batch) {
        let Some(longest) = self.queued.filter(|_| self.tunn.time_since_last_handshake().is_some()) else { return };
        self.queued = None;
        let room = HANDSHAKE.max(longest + OVERHEAD);
        while let Some(kind) = out.push_up_to(room, |room| written(self.tunn.decapsulate(None, &[], room))) {
            self.note_sent(Some(kind), now);
        }
    }
}

/// The length and the type of what boringtun wants to be sent.
fn written(result: TunnResult<'_>) -> (usize, Option<u8>) {
    match result {
        TunnResult::WriteToNetwork(datagram) => (datagram.len(), datagram.first().copied()),
        TunnResult::Done | TunnResult::Err(_) | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
            (0, None)
        }
    }
}

/// Whether `pause` has passed since then, or there was no then.
fn passed(then: Option<Instant>, pause: Duration, now: Instant) -> bool {
    then.is_none_or(|then| now.saturating_duration_since(then) >= pause)
}

#[cfg(test)]
mod tests;
