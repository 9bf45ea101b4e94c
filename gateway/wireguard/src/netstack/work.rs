//! The tasks of a tunnel: each waits for one kind of event.

use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use postern_plumbing::tasks::Tasks;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

use super::Netstack;
use crate::clock;
use crate::link::{Inbound, LARGEST, TICK};
use crate::lock::lock;

/// How many times the socket is read before others get their turn.
const READS_IN_A_ROW: usize = 16;

/// A pause after the socket failed, so that a lasting failure does not keep a processor busy.
const PAUSE: Duration = Duration::from_millis(10);

impl Netstack {
    /// Starts the tasks; they end when the tunnel stops.
    pub(crate) fn start(self: &Arc<Self>, tasks: &Tasks) {
        self.spawn(tasks, "tunnel-receive", Arc::clone(self).receive());
        self.spawn(tasks, "tunnel-deadlines", Arc::clone(self).keep_deadlines());
        self.spawn(tasks, "tunnel-backlog", Arc::clone(self).drain());
        self.spawn(tasks, "tunnel-sessions", Arc::clone(self).tick());
    }

    fn spawn(&self, tasks: &Tasks, name: &'static str, work: impl Future<Output = Infallible> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        tasks.spawn(name, async move {
            tokio::select! {
                () = shutdown.triggered() => {}
                never = work => match never {}
            }
        });
    }

    /// Reads the socket while there is something, and lets others have their turn.
    async fn receive(self: Arc<Self>) -> Infallible {
        let mut buffer = vec![0; LARGEST];
        let mut inbound = Inbound::default();
        loop {
            if self.link.readable().await.is_err() {
                sleep(PAUSE).await;
            }
            if let Err(error) = self.receive_some(&mut buffer, &mut inbound) {
                tracing::debug!(%error, "the tunnel's socket could not be read");
                self.link.meters.dropped("unreadable", 1);
                sleep(PAUSE).await;
            }
            yield_now().await;
        }
    }

    fn receive_some(self: &Arc<Self>, buffer: &mut [u8], inbound: &mut Inbound) -> io::Result<()> {
        for _ in 0..READS_IN_A_ROW {
            let now = clock::now();
            inbound.clear();
            let received = self.contain(|| {
                let received = self.link.receive(buffer, inbound, now);
                self.deliver(inbound, now);
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

    /// Sleeps until the first deadline, or an earlier one that came up, and looks at the connections whose time has come.
    async fn keep_deadlines(self: Arc<Self>) -> Infallible {
        loop {
            let first = lock(&self.deadlines).first();
            let first = async {
                match first {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = first => self.work_off_deadlines(),
                () = self.earlier.notified() => {}
            }
            yield_now().await;
        }
    }

    fn work_off_deadlines(self: &Arc<Self>) {
        let now = clock::now();
        loop {
            let due = lock(&self.deadlines).pop_due(now);
            let Some((at, key)) = due else { return };
            let flow = lock(&self.flows).get(&key);
            let Some(flow) = flow else { continue };
            self.contain(|| {
                let Some(mut state) = self.lock_or_clear(&flow, now) else { return };
                if state.armed == Some(at) {
                    state.armed = None;
                    self.advance(&flow, &mut state);
                }
            });
        }
    }

    /// Sends what had to wait for the socket.
    async fn drain(self: Arc<Self>) -> Infallible {
        loop {
            if self.link.drain().await.is_err() {
                sleep(PAUSE).await;
            }
        }
    }

    /// Drives the timers of the sessions.
    async fn tick(self: Arc<Self>) -> Infallible {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.contain(|| self.link.tick(clock::now()));
        }
    }

    /// Keeps a panic to the packet that caused it. Peers are not trusted, and the TCP and the cryptography that work off
    /// what they send are not ours: a flaw there must not end the tunnel for everybody else.
    pub(super) fn contain<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let outcome = catch_unwind(AssertUnwindSafe(work)).ok();
        if outcome.is_none() {
            self.link.meters.panics.increment(1);
            tracing::error!("a packet or a timer made the tunnel panic; it goes on without it");
        }
        outcome
    }
}
