//! Drives the load: a task that keeps the timetable, others that keep sessions and do the work, and what is measured.

mod alarm;
mod lane;
mod phase;
mod recorder;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Task;
use tokio::sync::Semaphore;

use crate::client::{Door, describe};
use crate::result::{Ledger, Second};
use crate::scenario::{Databases, Scenario};
use crate::work::{found, has_ledger};

pub(crate) use lane::Lane;
pub(crate) use phase::PhasePlan;
use recorder::Recorder;

/// How many sessions are opened at once, where sessions are kept and when rows are read back: a crowd that all begins at once
/// measures nothing.
const OPENING: usize = 32;
/// How long one attempt to open a session may take.
const CONNECT: Duration = Duration::from_secs(20);
/// How long the rows of one tenant may take to be read back, attempts to log in included.
const READING: Duration = Duration::from_secs(120);

/// Is told how the load goes.
pub trait Observer: Send + Sync {
    /// A sentence for whoever watches.
    fn tell(&self, text: &str);
    /// A second is over, in a phase of this name.
    fn second(&self, phase: &str, second: &Second);
}

/// What all tasks of a load share.
pub(crate) struct Shared {
    pub(crate) lanes: Vec<Arc<Lane>>,
    /// Whether nothing but this program can make work late, as before an echo: then a busy session is no excuse.
    is_alone: bool,
    recorder: Recorder,
    stop: Shutdown,
    opening: Semaphore,
    observer: Arc<dyn Observer>,
}

/// A load that is ready or under way.
pub(crate) struct Drive {
    shared: Arc<Shared>,
    workers: Vec<Task<()>>,
    ticker: Option<Task<()>>,
}

impl Drive {
    /// Prepares the tables of each tenant and starts its clients.
    pub(crate) async fn start(
        scenario: &Scenario,
        doors: Vec<Door>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, String> {
        let lane = |(tenant, door)| Arc::new(Lane::new(door, scenario.work_of(tenant).clone()));
        let lanes: Vec<_> = doors.into_iter().enumerate().map(lane).collect();
        let recorder = Recorder::new(lanes.len());
        let stop = Shutdown::new();
        let is_alone = scenario.cluster.databases == Databases::Echo;
        let shared = Arc::new(Shared { lanes, is_alone, recorder, stop, opening: Semaphore::new(OPENING), observer });
        let preparing = shared.lanes.iter().map(|lane| {
            let (shared, lane) = (Arc::clone(&shared), Arc::clone(lane));
            Task::spawn("prepare", async move { lane.prepare(&shared).await })
        });
        for preparing in preparing.collect::<Vec<_>>() {
            preparing.join().await.map_err(|error| error.to_string())??;
        }
        let mut workers = Vec::new();
        for (tenant, lane) in shared.lanes.iter().enumerate() {
            for _ in 0..scenario.clients(tenant) {
                let (shared, lane) = (Arc::clone(&shared), Arc::clone(lane));
                workers.push(Task::spawn("client", worker::run(shared, lane, tenant)));
            }
        }
        Ok(Self { shared, workers, ticker: None })
    }

    /// What the tasks share, for whoever does something to the cluster meanwhile.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits until each tenant has as many sessions as it may have, for as long as `patience`; says how many are missing.
    pub(crate) async fn sessions(&self, wanted: impl Fn(usize) -> usize, patience: Duration) -> usize {
        let end = Instant::now() + patience;
        loop {
            let lanes = self.shared.lanes.iter().enumerate().filter(|(_, lane)| lane.work.kind.keeps_sessions());
            let missing: usize = lanes.map(|(tenant, lane)| wanted(tenant).saturating_sub(lane.open())).sum();
            if missing == 0 || Instant::now() >= end {
                return missing;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Begins to count seconds. Gives the beginning.
    pub(crate) fn begin(&mut self, phases: Vec<String>) -> Instant {
        let begin = self.shared.recorder.begin();
        self.ticker = Some(Task::spawn("seconds", recorder::tick(Arc::clone(&self.shared), phases)));
        begin
    }

    /// Ends the load: stops the clients, and gives the seconds.
    pub(crate) async fn finish(&mut self) -> Vec<Second> {
        self.shared.stop.trigger();
        for worker in self.workers.drain(..) {
            worker.stop().await;
        }
        if let Some(ticker) = self.ticker.take() {
            ticker.stop().await;
        }
        self.shared.recorder.seconds()
    }

    /// Reads every write back, once nobody writes any more.
    pub(crate) async fn ledger(&self) -> Option<Ledger> {
        let writing: Vec<_> = self.shared.lanes.iter().filter(|lane| has_ledger(&lane.work)).collect();
        if writing.is_empty() {
            return None;
        }
        let mut ledger = Ledger::default();
        let reading = writing.into_iter().map(|lane| async move {
            let rows = tokio::time::timeout(READING, lane.read_back()).await;
            (lane, rows.unwrap_or_else(|_| Err(format!("not read within {READING:?}"))))
        });
        let mut reading = stream::iter(reading).buffered(OPENING);
        while let Some((lane, rows)) = reading.next().await {
            lane.reconcile(rows, &mut ledger);
        }
        Some(ledger)
    }

    /// How late the generator was in the phases that count.
    pub(crate) fn lateness(&self) -> crate::result::Latency {
        self.shared.recorder.lateness()
    }
}

impl Lane {
    async fn prepare(&self, shared: &Shared) -> Result<(), String> {
        let place = shared.opening.acquire().await;
        let words = |error: String| format!("tenant {}: {error}", self.door.tenant);
        let session = self.door.open(CONNECT).await.map_err(|error| words(error.to_string()))?;
        crate::work::prepare(&session, &self.work).await.map_err(|error| words(describe(&error)))?;
        session.close().await;
        drop(place);
        Ok(())
    }

    async fn read_back(&self) -> Result<Vec<u64>, String> {
        // All sessions have ended at once, and a database that cleans up after them may refuse the next for a while.
        let session = self.door.open_patiently(CONNECT, READING / 2).await.map_err(|error| error.to_string())?;
        let rows = found(&session, &self.work).await.map_err(|error| describe(&error))?;
        session.close().await;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests;
