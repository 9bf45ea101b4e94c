//! What is measured: per tenant in the phase that is on, and per second.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Notify;

use super::Shared;
use super::lane::lock;
use crate::result::{Latency, Reasons, Second, empty_histogram};

/// What was measured so far.
pub(super) struct Recorder {
    begin: OnceLock<Instant>,
    tenants: Vec<Mutex<Tally>>,
    common: Mutex<Common>,
    /// Pieces of work that were due and have not ended.
    outstanding: AtomicU64,
    settled: Notify,
    phase: AtomicU32,
    measured: AtomicBool,
    lateness: Mutex<Histogram<u64>>,
    seconds: Mutex<Vec<Second>>,
}

/// One tenant in one phase.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    pub(super) latency: Histogram<u64>,
    pub(super) due: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
}

/// All tenants together in one phase, and in the second that is on.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub(super) failed: Reasons,
    pub(super) connect: Histogram<u64>,
    pub(super) connect_failed: Reasons,
    pub(super) bytes: u64,
    pub(super) sessions: u64,
    second: Second,
    of_second: Histogram<u64>,
}

impl Tally {
    fn new() -> Self {
        Self { latency: empty_histogram(), due: 0, done: 0, failed: 0 }
    }
}

impl Common {
    fn new() -> Self {
        Self {
            failed: Reasons::new(),
            connect: empty_histogram(),
            connect_failed: Reasons::new(),
            bytes: 0,
            sessions: 0,
            second: Second::default(),
            of_second: empty_histogram(),
        }
    }
}

impl Recorder {
    pub(super) fn new(tenants: usize) -> Self {
        Self {
            begin: OnceLock::new(),
            tenants: (0..tenants).map(|_| Mutex::new(Tally::new())).collect(),
            common: Mutex::new(Common::new()),
            outstanding: AtomicU64::new(0),
            settled: Notify::new(),
            phase: AtomicU32::new(0),
            measured: AtomicBool::new(false),
            lateness: Mutex::new(empty_histogram()),
            seconds: Mutex::default(),
        }
    }

    /// When the load began: now, when it has not.
    pub(super) fn begin(&self) -> Instant {
        *self.begin.get_or_init(Instant::now)
    }

    /// Begins a phase: what was measured before is thrown away.
    pub(super) fn begin_phase(&self, number: u32, measured: bool) {
        self.phase.store(number, Ordering::Relaxed);
        self.measured.store(measured, Ordering::Relaxed);
        drop(self.take());
    }

    /// What was measured in the phase, per tenant and for all together.
    pub(super) fn take(&self) -> (Vec<Tally>, Common) {
        let tallies = self.tenants.iter().map(|tally| std::mem::replace(&mut *lock(tally), Tally::new())).collect();
        let mut common = lock(&self.common);
        let taken = common.clone();
        *common = Common { second: taken.second.clone(), of_second: taken.of_second.clone(), ..Common::new() };
        (tallies, taken)
    }

    /// A piece of work is due.
    pub(super) fn due(&self, tenant: usize) {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        if let Some(tally) = self.tenants.get(tenant) {
            lock(tally).due += 1;
        }
        lock(&self.common).second.due += 1;
    }

    /// A piece of work was begun, which could have begun earlier.
    pub(super) fn begun(&self, possible: Instant, begun: Instant) {
        if self.measured.load(Ordering::Relaxed) {
            lock(&self.lateness).saturating_record(micros(begun.saturating_duration_since(possible)));
        }
    }

    /// A piece of work has ended.
    pub(super) fn done(&self, tenant: usize, took: Duration, failed: Option<String>, bytes: u64) {
        let micros = micros(took);
        if let Some(tally) = self.tenants.get(tenant) {
            let mut tally = lock(tally);
            if failed.is_none() {
                tally.done += 1;
                tally.latency.saturating_record(micros);
            } else {
                tally.failed += 1;
            }
        }
        let mut common = lock(&self.common);
        common.bytes += bytes;
        match failed {
            None => {
                common.second.done += 1;
                common.of_second.saturating_record(micros);
            }
            Some(reason) => {
                *common.second.failed.entry(reason.clone()).or_default() += 1;
                *common.failed.entry(reason).or_default() += 1;
            }
        }
        drop(common);
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.settled.notify_waiters();
        }
    }

    /// Waits until nothing is due any more.
    pub(super) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.outstanding.load(Ordering::Acquire) == 0 {
                return;
            }
            settled.await;
        }
    }

    /// A session was opened.
    pub(super) fn connected(&self, took: Duration) {
        lock(&self.common).connect.saturating_record(micros(took));
    }

    /// A session was not opened.
    pub(super) fn not_connected(&self, reason: String) {
        *lock(&self.common).connect_failed.entry(reason).or_default() += 1;
    }

    /// How late work was begun that could have been begun earlier.
    pub(super) fn lateness(&self) -> Latency {
        Latency::of(&lock(&self.lateness))
    }

    /// The seconds so far.
    pub(super) fn seconds(&self) -> Vec<Second> {
        lock(&self.seconds).clone()
    }

    /// Closes the second that is on.
    fn close_second(&self, number: u32, sessions: u64) -> Second {
        let mut common = lock(&self.common);
        common.sessions = common.sessions.max(sessions);
        let histogram = &common.of_second;
        let at = |quantile| if histogram.is_empty() { 0 } else { histogram.value_at_quantile(quantile) };
        let (p50_us, p99_us, max_us) = (at(0.5), at(0.99), histogram.max());
        let second = Second {
            second: number,
            phase: self.phase.load(Ordering::Relaxed),
            sessions,
            p50_us,
            p99_us,
            max_us,
            ..std::mem::take(&mut common.second)
        };
        common.of_second.reset();
        drop(common);
        lock(&self.seconds).push(second.clone());
        second
    }
}

/// Closes a second whenever one is over.
pub(super) async fn tick(shared: Arc<Shared>, phases: Vec<String>) {
    let begin = shared.recorder.begin();
    for number in 0.. {
        let end = begin + Duration::from_secs(u64::from(number) + 1);
        tokio::time::sleep_until(end.into()).await;
        let sessions: usize = shared.lanes.iter().map(|lane| lane.open()).sum();
        let second = shared.recorder.close_second(number, u64::try_from(sessions).unwrap_or(u64::MAX));
        let phase = usize::try_from(second.phase).ok().and_then(|phase| phases.get(phase));
        shared.observer.second(phase.map_or("", String::as_str), &second);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
