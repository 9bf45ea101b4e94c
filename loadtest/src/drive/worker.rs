//! One client: it keeps a session, or opens one for each piece of work, and takes what is due in its tenant's lane.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_plumbing::backoff::Backoff;

use super::lane::{Due, Lane};
use super::{CONNECT, Shared};
use crate::client::{NoSession, Session};
use crate::ledger::Fate;
use crate::work::{Outcome, Prepared, ask, perform, reason, writes};

/// Pauses between attempts to open a session.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Work that waited until less than one part of so many is left of its time is not begun. It would end by its timeout, and its
/// session with it: after a stall, when all that waits is old, no session would live long enough to do anything.
const LEAST_LEFT: u32 = 10;

/// Works until the load is stopped.
pub(super) async fn run(shared: Arc<Shared>, lane: Arc<Lane>, tenant: usize) {
    let client = Worker { shared, lane, tenant };
    if !client.lane.work.kind.keeps_sessions() {
        return client.visit().await;
    }
    while let Some((session, prepared)) = client.session().await {
        client.lane.note_open();
        let by_us = client.keep(&session, &prepared).await;
        client.lane.note_end(by_us);
    }
}

struct Worker {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    tenant: usize,
}

impl Worker {
    /// Opens a session that is to be kept, however long that takes; nothing when the load is stopped.
    async fn session(&self) -> Option<(Session, Prepared)> {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let place = tokio::select! {
                place = self.shared.opening.acquire() => place,
                () = self.shared.stop.triggered() => return None,
            };
            let begun = Instant::now();
            let opened = tokio::select! {
                opened = Box::pin(self.open()) => opened,
                () = self.shared.stop.triggered() => return None,
            };
            drop(place);
            match opened {
                Ok(session) => {
                    self.shared.recorder.connected(begun.elapsed());
                    return Some(session);
                }
                Err(reason) => self.shared.recorder.not_connected(reason),
            }
            self.give_up_late();
            tokio::select! {
                () = backoff.wait() => {}
                () = self.shared.stop.triggered() => return None,
            }
        }
    }

    async fn open(&self) -> Result<(Session, Prepared), String> {
        let session = self.lane.door.open(CONNECT).await.map_err(|error| error.reason())?;
        let prepared = tokio::time::timeout(CONNECT, Prepared::on(&session, &self.lane.work)).await;
        let prepared = prepared.map_err(|_| "prepare_deadline")?.map_err(|error| reason(&error))?;
        Ok((session, prepared))
    }

    /// Does what is due until the session ends or the load does; says whether we ended it.
    async fn keep(&self, session: &Session, prepared: &Prepared) -> bool {
        loop {
            let free = Instant::now();
            let due = tokio::select! {
                biased;
                () = self.shared.stop.triggered() => return true,
                () = session.ended() => return false,
                due = self.lane.next() => due,
            };
            let Some(left) = self.begin(&due, free) else { continue };
            let work = &self.lane.work;
            let Ok(outcome) = tokio::time::timeout(left, Box::pin(perform(work, session, prepared, due.piece))).await
            else {
                // What the server still does on this session is not to be mixed with other work.
                self.done(&due, Outcome::broken_off(writes(work, due.piece), "timeout"));
                return true;
            };
            self.done(&due, outcome);
            if session.is_over() {
                return false;
            }
        }
    }

    /// Opens a session for each piece of work and closes it.
    async fn visit(&self) {
        loop {
            let free = Instant::now();
            let due = tokio::select! {
                biased;
                () = self.shared.stop.triggered() => return,
                due = self.lane.next() => due,
            };
            let Some(left) = self.begin(&due, free) else { continue };
            let begun = Instant::now();
            match self.lane.door.open(left).await {
                Ok(session) => {
                    self.shared.recorder.connected(begun.elapsed());
                    self.lane.note_open();
                    let asked = tokio::time::timeout(left.saturating_sub(begun.elapsed()), ask(&session)).await;
                    let outcome = match asked {
                        Ok(answer) => {
                            Outcome { failed: answer.err().map(|error| reason(&error)), write: None, bytes: 0 }
                        }
                        Err(_) => Outcome::broken_off(false, "timeout"),
                    };
                    self.done(&due, outcome);
                    session.close().await;
                    self.lane.note_end(true);
                }
                Err(error) => {
                    self.shared.recorder.not_connected(error.reason());
                    let is_late = matches!(error, NoSession::Deadline(_));
                    let reason = if is_late { "timeout".to_owned() } else { error.reason() };
                    self.done(&due, Outcome::not_begun(&reason));
                }
            }
        }
    }

    /// Begins a piece of work on a session that has been free since a moment. Gives the time that is left for it; when there is
    /// hardly any, it has failed.
    fn begin(&self, due: &Due, free: Instant) -> Option<Duration> {
        let begun = Instant::now();
        let timeout = self.lane.work.timeout;
        let left = timeout.checked_sub(begun.saturating_duration_since(due.at));
        let left = left.filter(|left| *left > timeout / LEAST_LEFT);
        if left.is_some() {
            let possible = if self.shared.is_alone { due.at } else { due.at.max(free) };
            self.shared.recorder.begun(possible, begun);
        } else {
            self.done(due, Outcome::not_begun("late"));
        }
        left
    }

    /// While there is no session, what waits too long has failed.
    fn give_up_late(&self) {
        let Some(before) = Instant::now().checked_sub(self.lane.work.timeout) else { return };
        for due in self.lane.expired(before) {
            self.done(&due, Outcome::not_begun("no_session"));
        }
    }

    fn done(&self, due: &Due, outcome: Outcome) {
        self.shared.done(&self.lane, self.tenant, due, outcome);
    }
}

impl Shared {
    /// Notes what became of a piece of work.
    pub(super) fn done(&self, lane: &Lane, tenant: usize, due: &Due, outcome: Outcome) {
        let not_begun = outcome.write.is_none() && outcome.failed.is_some() && writes(&lane.work, due.piece);
        if let Some(fate) = outcome.write.or(not_begun.then_some(Fate::Refused)) {
            lane.note_write(due.piece.number, fate);
        }
        self.recorder.done(tenant, due.at.elapsed(), outcome.failed, outcome.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::tests::shared;
    use crate::work::Piece;

    #[tokio::test]
    async fn old_work_costs_no_session_its_life() {
        let shared = shared("10s");
        let worker = Worker { lane: Arc::clone(&shared.lanes[0]), shared, tenant: 0 };
        let begin = |waited: u64| {
            let now = Instant::now();
            let at = now.checked_sub(Duration::from_millis(waited)).unwrap();
            worker.begin(&Due { at, piece: Piece { number: 0, salt: 0 } }, now)
        };
        assert!(begin(8_500).is_some_and(|left| left > Duration::from_secs(1)));
        assert_eq!([begin(9_500), begin(20_000)], [None, None]);
        let (tallies, common) = worker.shared.recorder.take();
        assert_eq!((tallies[0].failed, common.failed.get("late").copied()), (2, Some(2)));
    }
}
