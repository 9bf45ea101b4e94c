//! What keeps a link going, whatever the packets become: each of these waits for one kind of event, for ever.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::udp::{Arrivals, Udp, bind_all};
use super::wheel::TICK;
use super::{Inbound, Link};
use crate::clock;

/// How many times packets are worked off before others get their turn.
const BATCHES_IN_A_ROW: usize = 16;

/// How often the socket is read for a batch at most, even if that does not fill it.
const CALLS_A_BATCH: usize = 8;

/// A pause after something failed, so that a lasting failure does not keep a processor busy.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// How many times a port that is in use is tried, and the pauses between.
const REBIND: (usize, Duration) = (20, Duration::from_millis(10));

/// What receiving needs, used again and again.
pub(crate) struct Receiver {
    arrivals: Arrivals,
    inbound: Inbound,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self { arrivals: Arrivals::new(), inbound: Inbound::default() }
    }
}

impl Link {
    /// Binds so many sockets of one port. A tunnel that was stopped a moment ago may still be about to give the port back.
    pub(crate) async fn bind_patiently(listen: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
        for _ in 0..REBIND.0 {
            match bind_all(listen, count) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(REBIND.1).await,
                bound => return bound,
            }
        }
        bind_all(listen, count)
    }

    /// Reads a socket while there is something, hands packets on, and lets others have their turn.
    pub(crate) async fn keep_receiving(&self, udp: &Udp, mut deliver: impl FnMut(&Inbound, Instant)) -> Infallible {
        let mut receiver = Receiver::new();
        loop {
            if udp.readable().await.is_err() {
                sleep(PAUSE).await;
            }
            if let Err(error) = self.receive_many(udp, &mut receiver, &mut deliver) {
                self.note_unreadable("the tunnel's socket", &error);
                sleep(PAUSE).await;
            }
            yield_now().await;
        }
    }

    fn receive_many(
        &self,
        udp: &Udp,
        receiver: &mut Receiver,
        deliver: &mut impl FnMut(&Inbound, Instant),
    ) -> io::Result<()> {
        for _ in 0..BATCHES_IN_A_ROW {
            if !self.receive_some(udp, receiver, clock::now(), &mut *deliver)? {
                break;
            }
        }
        Ok(())
    }

    /// Receives until there is enough to be worked off, or nothing more, and hands that on. Returns whether there may be more.
    ///
    /// # Errors
    /// When the socket cannot be read. What had been received before was handed on.
    pub(crate) fn receive_some(
        &self,
        udp: &Udp,
        receiver: &mut Receiver,
        now: Instant,
        mut deliver: impl FnMut(&Inbound, Instant),
    ) -> io::Result<bool> {
        let Receiver { arrivals, inbound } = receiver;
        inbound.clear();
        let received = self.contain(|| {
            let received = self.receive_batch(udp, arrivals, inbound, now);
            deliver(inbound, now);
            received
        });
        match received {
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Some(received) => received,
            None => Ok(true),
        }
    }

    /// Receives until there is enough to be worked off, or nothing more. Returns whether there may be more.
    fn receive_batch(
        &self,
        udp: &Udp,
        arrivals: &mut Arrivals,
        inbound: &mut Inbound,
        now: Instant,
    ) -> io::Result<bool> {
        // Handshakes fill no batch.
        for _ in 0..CALLS_A_BATCH {
            if !self.receive(udp, arrivals, inbound, now)? {
                return Ok(false);
            }
            if inbound.is_full() {
                break;
            }
        }
        Ok(true)
    }

    /// Counts that something could not be read.
    pub(crate) fn note_unreadable(&self, what: &'static str, error: &io::Error) {
        tracing::debug!(%error, "{what} could not be read");
        self.meters.dropped("unreadable", 1);
    }

    /// Sends what had to wait for a socket.
    pub(crate) async fn keep_draining(&self, udp: &Udp) -> Infallible {
        loop {
            if udp.drain().await.is_err() {
                sleep(PAUSE).await;
            }
        }
    }

    /// Drives the timers of the sessions.
    pub(crate) async fn keep_ticking(&self) -> Infallible {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.contain(|| self.tick(clock::now()));
        }
    }

    /// Keeps a panic to the packet that caused it. Peers are not trusted, and the TCP and the cryptography that work off
    /// what they send are not ours: a flaw there must not end the tunnel for everybody else.
    pub(crate) fn contain<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let outcome = catch_unwind(AssertUnwindSafe(work)).ok();
        if outcome.is_none() {
            self.meters.panics.increment(1);
            tracing::error!("a packet or a timer made the tunnel panic; it goes on without it");
        }
        outcome
    }
}
