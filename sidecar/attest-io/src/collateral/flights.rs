//! Who is fetching what: each kind of platform once at a time, few kinds at a time, and none again at once after a failure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_attest::Fmspc;
use tokio::sync::watch;
use tokio::time::Instant;

use super::failure::FetchError;

/// How many kinds of platform are fetched at a time. A certificate names its kind before anything of it is verified, so that
/// names are free.
const MAX_FLIGHTS: usize = 8;
/// How many failures are remembered. A name beyond them is not even asked for.
const MAX_FAILURES: usize = 256;

/// How a flight ended; `None` while it goes on.
pub(super) type Outcome = watch::Receiver<Option<Result<(), FetchError>>>;

pub(super) struct Flights {
    entries: Mutex<Entries>,
    pause: Duration,
}

#[derive(Default)]
struct Entries {
    flying: BTreeMap<Fmspc, Outcome>,
    failed: BTreeMap<Fmspc, Instant>,
}

/// What somebody who needs collateral has to do.
pub(super) enum Boarding {
    /// Wait: somebody else fetches it.
    Wait(Outcome),
    /// Fetch it, and tell how it went.
    Fly(Flight, Outcome),
}

/// The duty to fetch, which ends when the outcome is told or this is dropped.
pub(super) struct Flight {
    flights: Arc<Flights>,
    fmspc: Fmspc,
    tell: watch::Sender<Option<Result<(), FetchError>>>,
}

impl Flights {
    /// After a failure, a kind of platform is not asked for again for `pause`.
    pub(super) fn new(pause: Duration) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), pause })
    }

    pub(super) fn board(self: &Arc<Self>, fmspc: Fmspc) -> Result<Boarding, FetchError> {
        let mut entries = self.entries();
        if let Some(outcome) = entries.flying.get(&fmspc) {
            return Ok(Boarding::Wait(outcome.clone()));
        }
        let now = Instant::now();
        entries.failed.retain(|_, at| now.duration_since(*at) < self.pause);
        if entries.failed.contains_key(&fmspc) {
            return Err(FetchError::FailedRecently(fmspc));
        }
        if entries.flying.len() >= MAX_FLIGHTS || entries.failed.len() >= MAX_FAILURES {
            return Err(FetchError::Busy);
        }
        let (tell, outcome) = watch::channel(None);
        entries.flying.insert(fmspc, outcome.clone());
        Ok(Boarding::Fly(Flight { flights: Arc::clone(self), fmspc, tell }, outcome))
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    pub(super) fn land(self, outcome: Result<(), FetchError>) {
        if outcome.is_err() {
            self.flights.entries().failed.insert(self.fmspc, Instant::now());
        }
        self.tell.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.entries().flying.remove(&self.fmspc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn kind(number: usize) -> Fmspc {
        let [.., a, b] = number.to_be_bytes();
        Fmspc([0, 0, 0, 0, a, b])
    }

    fn fly(flights: &Arc<Flights>, number: usize) -> Flight {
        match flights.board(kind(number)) {
            Ok(Boarding::Fly(flight, _)) => flight,
            _ => panic!("there is a flight already, or there may be none"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_fetches_and_the_others_wait() {
        let flights = Flights::new(PAUSE);
        let flight = fly(&flights, 1);
        let Ok(Boarding::Wait(mut outcome)) = flights.board(kind(1)) else { panic!("a second flight") };
        flight.land(Ok(()));
        assert_eq!(*outcome.wait_for(Option::is_some).await.unwrap(), Some(Ok(())));
        fly(&flights, 1).land(Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_left_alone_for_a_while() {
        let flights = Flights::new(PAUSE);
        fly(&flights, 1).land(Err(FetchError::Busy));
        assert_eq!(flights.board(kind(1)).err(), Some(FetchError::FailedRecently(kind(1))));
        tokio::time::advance(PAUSE).await;
        drop(fly(&flights, 1));
        // A flight that was broken off is no failure of any source.
        drop(fly(&flights, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn free_names_take_a_bounded_place() {
        let flights = Flights::new(PAUSE);
        let flying: Vec<_> = (0..MAX_FLIGHTS).map(|number| fly(&flights, number)).collect();
        assert_eq!(flights.board(kind(MAX_FLIGHTS)).err(), Some(FetchError::Busy));
        drop(flying);
        for number in 0..MAX_FAILURES {
            fly(&flights, number).land(Err(FetchError::Busy));
        }
        assert_eq!(flights.board(kind(MAX_FAILURES)).err(), Some(FetchError::Busy));
        tokio::time::advance(PAUSE).await;
        assert!(flights.board(kind(MAX_FAILURES)).is_ok());
    }
}
