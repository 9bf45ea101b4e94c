//! One phase: its arrivals are dispatched at their times, and what is still due in the end is waited for.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_plumbing::tasks::Task;
use tokio::task::coop::consume_budget;

use super::alarm::Alarm;
use super::lane::Due;
use super::recorder::{Common, Tally};
use super::{Drive, Shared};
use crate::arrivals::{Load, Timetable};
use crate::fairness::ratio;
use crate::result::{Fairness, Latency, Phase, PhaseKind, TenantPhase, empty_histogram};
use crate::work::{Outcome, Piece};

/// How much longer than its timeout a piece of work is waited for.
const GRACE: Duration = Duration::from_secs(2);
/// The shortest time that the timetable sleeps: what becomes due meanwhile is handed out at once. To wake up for each of 20,000
/// pieces a second takes more of a processor than a small machine has left, and makes all of them later than this.
const BATCH: Duration = Duration::from_micros(200);

/// A phase that is to be driven.
#[derive(Debug, Clone)]
pub(crate) struct PhasePlan {
    /// Its number in the run.
    pub(crate) number: u32,
    /// Its name.
    pub(crate) name: String,
    /// Whether it counts.
    pub(crate) measured: bool,
    /// How long work arrives.
    pub(crate) length: Duration,
    /// What arrives.
    pub(crate) load: Load,
    /// Where the arrivals come from.
    pub(crate) seed: u64,
    /// The tenant that is noisy.
    pub(crate) noisy: Option<usize>,
    /// The tenants to whom something is done.
    pub(crate) disturbed: Vec<usize>,
}

impl Drive {
    /// Drives a phase, whose first piece of work has the number `first`. Gives what was measured, and the number of the next
    /// piece of work.
    pub(crate) async fn phase(&self, plan: &PhasePlan, first: u64) -> Result<(Phase, u64), String> {
        let recorder = &self.shared.recorder;
        recorder.begin_phase(plan.number, plan.measured);
        let begin = recorder.begin();
        let start = Instant::now();
        let timetable = Timetable::new(plan.seed, u64::from(plan.number), &plan.load, plan.length, first);
        let shared = Arc::clone(&self.shared);
        // On a processor of those that do the work: for a thread of its own, they would have to step aside each time.
        let dispatched =
            Task::spawn("timetable", async move { dispatch(&shared, timetable, start).await }).join().await;
        let dispatched = dispatched.map_err(|error| error.to_string())?;
        let next = first + dispatched.map_err(|error| format!("the timetable: {error}"))?;
        tokio::time::sleep_until((start + plan.length).into()).await;
        // What was open while work arrived; the ticker may not have looked since.
        let sessions: usize = self.shared.lanes.iter().map(|lane| lane.open()).sum();
        let timeouts = self.shared.lanes.iter().map(|lane| lane.work.timeout);
        let patience = timeouts.max().unwrap_or_default() + GRACE;
        if tokio::time::timeout(patience, recorder.settled()).await.is_err() {
            self.give_up();
        }
        let (tallies, mut common) = recorder.take();
        common.sessions = common.sessions.max(u64::try_from(sessions).unwrap_or(u64::MAX));
        let begins = start.saturating_duration_since(begin);
        Ok((self.describe(plan, begins, &tallies, common), next))
    }

    /// Ends what nobody has begun.
    fn give_up(&self) {
        for (tenant, lane) in self.shared.lanes.iter().enumerate() {
            for due in lane.expired(Instant::now()) {
                self.shared.done(lane, tenant, &due, Outcome::not_begun("not_begun"));
            }
        }
    }

    fn describe(&self, plan: &PhasePlan, begins: Duration, tallies: &[Tally], common: Common) -> Phase {
        let mut all = empty_histogram();
        let mut tenants = Vec::new();
        let shares = plan.load.shares();
        for (number, (tally, lane)) in tallies.iter().zip(&self.shared.lanes).enumerate() {
            // Both have the same bounds.
            all.add(&tally.latency).unwrap_or_default();
            tenants.push(TenantPhase {
                tenant: lane.door.tenant.clone(),
                noisy: plan.noisy == Some(number),
                disturbed: plan.disturbed.contains(&number),
                share: shares.get(number).copied().unwrap_or_default(),
                due: tally.due,
                done: tally.done,
                failed: tally.failed,
                latency: Latency::of(&tally.latency),
            });
        }
        let done = tenants.iter().map(|tenant| tenant.done).sum();
        Phase {
            name: plan.name.clone(),
            kind: if plan.measured { PhaseKind::Measured } else { PhaseKind::WarmUp },
            begins_s: begins.as_secs_f64(),
            seconds: plan.length.as_secs_f64(),
            due: tenants.iter().map(|tenant| tenant.due).sum(),
            done,
            failed: common.failed,
            bytes: common.bytes,
            sessions: common.sessions,
            per_second: ratio(done, 1) / plan.length.as_secs_f64(),
            latency: Latency::of(&all),
            connect: Latency::of(&common.connect),
            connect_failed: common.connect_failed,
            fairness: Fairness::of(&tenants),
            tenants,
        }
    }
}

/// Hands out work at its time. Gives how many pieces there were.
async fn dispatch(shared: &Shared, timetable: Timetable, start: Instant) -> io::Result<u64> {
    let (alarm, mut count, mut now) = (Alarm::new()?, 0, start);
    for arrival in timetable {
        let at = start + arrival.at;
        while at > now {
            now = Instant::now();
            let Some(early) = at.checked_duration_since(now).filter(|early| !early.is_zero()) else { break };
            tokio::select! {
                biased;
                () = shared.stop.triggered() => return Ok(count),
                slept = alarm.sleep(early.max(BATCH)) => slept?,
            }
        }
        let Some(lane) = shared.lanes.get(arrival.tenant) else { continue };
        shared.recorder.due(arrival.tenant);
        lane.push(Due { at, piece: Piece { number: arrival.number, salt: arrival.salt } });
        count += 1;
        // Where so much is due that there is never time to sleep, those who are to do it have their turn all the same.
        consume_budget().await;
    }
    Ok(count)
}
