//! A server that is away is not asked again by every driver that comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_plumbing::backoff::Backoff;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::failure::Failure;

/// The first and the longest pause between two attempts at a server that is away.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Whether a server may be tried now. After a failure there is a pause that grows with each further one; when it is over, one
/// attempt is made, and the others wait for what comes of it.
#[derive(Debug)]
pub struct Circuit {
    server: String,
    state: Mutex<State>,
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    backoff: Backoff,
    away: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    reason: Arc<Failure>,
    /// Whether the one attempt is being made.
    trying: bool,
}

/// The server is known to be away.
#[derive(Clone, Debug)]
pub struct Away {
    /// When it may be tried again; `None` while somebody tries it.
    pub until: Option<Instant>,
    /// What the last attempt failed for.
    pub reason: Arc<Failure>,
}

/// Leave to try the server. To be told how it went; one that is dropped untold has not been made.
#[derive(Debug)]
#[must_use = "an attempt that is dropped has not been made"]
pub struct Attempt<'a> {
    circuit: &'a Circuit,
    /// Whether others wait for this one.
    alone: bool,
}

impl Circuit {
    /// A server of which nothing is known. Whoever waits for `changed` learns of every change.
    #[must_use]
    pub fn new(server: String, changed: Arc<Notify>) -> Self {
        let state = State { backoff: Backoff::new(PAUSES.0, PAUSES.1), away: None };
        let circuit = Self { server, state: Mutex::new(state), changed };
        circuit.show(true);
        circuit
    }

    /// Leave to try the server now.
    ///
    /// # Errors
    /// When it is away, and its pause is not over or somebody else tries it.
    pub fn enter(&self, now: Instant) -> Result<Attempt<'_>, Away> {
        match &mut self.lock().away {
            None => Ok(Attempt { circuit: self, alone: false }),
            Some(pause) if pause.trying => Err(Away { until: None, reason: Arc::clone(&pause.reason) }),
            Some(pause) if now < pause.until => {
                Err(Away { until: Some(pause.until), reason: Arc::clone(&pause.reason) })
            }
            Some(pause) => {
                pause.trying = true;
                Ok(Attempt { circuit: self, alone: true })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, up: bool) {
        metrics::gauge!("postern_sidecar_target_up", "target" => self.server.clone()).set(f64::from(u8::from(up)));
    }
}

impl Attempt<'_> {
    /// The server is there.
    pub fn succeeded(mut self) {
        let mut state = self.circuit.lock();
        self.alone = false;
        if state.away.take().is_some() {
            state.backoff.reset();
            self.circuit.show(true);
            tracing::info!(server = self.circuit.server, "the server is back");
            self.circuit.changed.notify_waiters();
        }
    }

    /// The server is away. What several find out at once counts once.
    pub fn failed(mut self, reason: Arc<Failure>) {
        let mut state = self.circuit.lock();
        let alone = std::mem::take(&mut self.alone);
        if state.away.is_some() && !alone {
            return;
        }
        // At least half of the limit: full jitter could come out as no pause at all.
        let pause = state.backoff.next(0.5 + rand::random::<f64>() / 2.0);
        if state.away.is_none() {
            tracing::warn!(server = self.circuit.server, %reason, "the server is away");
        }
        state.away = Some(Pause { until: Instant::now() + pause, reason, trying: false });
        self.circuit.show(false);
        self.circuit.changed.notify_waiters();
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.alone
            && let Some(pause) = &mut self.circuit.lock().away
        {
            pause.trying = false;
            self.circuit.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::{Instant, advance};

    use super::{Circuit, PAUSES};
    use crate::connect::failure::Failure;

    fn circuit() -> Circuit {
        Circuit::new("db".to_owned(), Arc::new(Notify::new()))
    }

    fn reason() -> Arc<Failure> {
        Arc::new(Failure::Deadline { place: "db".to_owned() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_away_is_tried_less_and_less_and_by_one_at_a_time() {
        let circuit = circuit();
        circuit.enter(Instant::now()).unwrap().failed(reason());
        let mut attempts = 0;
        for _ in 0..6_000 {
            // A hundred drivers come within every ten milliseconds, for a minute.
            for _ in 0..100 {
                if let Ok(attempt) = circuit.enter(Instant::now()) {
                    assert!(circuit.enter(Instant::now()).is_err_and(|away| away.until.is_none()), "one at a time");
                    attempts += 1;
                    attempt.failed(reason());
                }
            }
            advance(Duration::from_millis(10)).await;
        }
        assert!((12..=40).contains(&attempts), "{attempts} attempts in a minute");
        let away = circuit.enter(Instant::now()).unwrap_err();
        assert!(away.until.unwrap() <= Instant::now() + PAUSES.1);
    }

    #[tokio::test(start_paused = true)]
    async fn success_opens_it_for_everybody_and_forgets_the_pauses() {
        let circuit = circuit();
        for _ in 0..5 {
            circuit.enter(Instant::now()).unwrap().failed(reason());
            advance(PAUSES.1).await;
        }
        circuit.enter(Instant::now()).unwrap().succeeded();
        let both = (circuit.enter(Instant::now()).unwrap(), circuit.enter(Instant::now()).unwrap());
        both.0.failed(reason());
        let first = circuit.enter(Instant::now()).unwrap_err().until.unwrap();
        assert!(first <= Instant::now() + PAUSES.0);
        both.1.failed(reason());
        assert_eq!(circuit.enter(Instant::now()).unwrap_err().until, Some(first), "the same failure counts once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_given_up_leaves_the_next_one_to_others() {
        let circuit = circuit();
        circuit.enter(Instant::now()).unwrap().failed(reason());
        advance(PAUSES.0).await;
        let changed = circuit.changed.notified();
        drop(circuit.enter(Instant::now()).unwrap());
        changed.await;
        drop(circuit.enter(Instant::now()).unwrap());
    }
}
