//! What keeps a link going, whatever the packets become: each of these waits for one kind of event, for ever.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Inbound, Link, TICK};
use crate::clock;
use crate::key::PrivateKey;
use crate::link::udp::LARGEST;

/// How many times the socket is read before others get their turn.
const READS_IN_A_ROW: usize = 16;

/// A pause after the socket failed, so that a lasting failure does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(10);

/// How many times a port that is in use is tried, and the pauses between.
const REBIND: (usize, Duration) = (20, Duration::from_millis(10));

impl Link {
    /// Binds the socket. A tunnel that was stopped a moment ago may still be about to give the port back.
    pub(crate) async fn bind_patiently(key: PrivateKey, listen: SocketAddr) -> io::Result<Self> {
        for _ in 0..REBIND.0 {
            match Self::bind(key.clone(), listen) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(REBIND.1).await,
                bound => return bound,
            }
        }
        Self::bind(key, listen)
    }

    /// Reads the socket while there is something, hands packets on, and lets others have their turn.
    pub(crate) async fn keep_receiving(&self, mut deliver: impl FnMut(&Inbound, Instant)) -> Infallible {
        let mut buffer = vec![0; LARGEST];
        let mut inbound = Inbound::default();
        loop {
            if self.readable().await.is_err() {
                sleep(PAUSE).await;
            }
            if let Err(error) = self.receive_some(&mut buffer, &mut inbound, &mut deliver) {
                tracing::debug!(%error, "the tunnel's socket could not be read");
                self.meters.dropped("unreadable", 1);
                sleep(PAUSE).await;
            }
            yield_now().await;
        }
    }

    fn receive_some(
        &self,
        buffer: &mut [u8],
        inbound: &mut Inbound,
        deliver: &mut impl FnMut(&Inbound, Instant),
    ) -> io::Result<()> {
        for _ in 0..READS_IN_A_ROW {
            let now = clock::now();
            inbound.clear();
            let received = self.contain(|| {
                let received = self.receive(buffer, inbound, now);
                deliver(inbound, now);
                received
            });
            match received {
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Some(Err(error)) => return Err(error),
                Some(Ok(())) | None => {}
            }
        }
        Ok(())
    }

    /// Sends what had to wait for the socket.
    pub(crate) async fn keep_draining(&self) -> Infallible {
        loop {
            if self.drain().await.is_err() {
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
