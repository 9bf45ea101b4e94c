//! Puts everything that was measured into one result.

use std::collections::BTreeMap;
use std::time::Duration;

use super::machine;
use crate::events::Chronicle;
use crate::fairness::ratio;
use crate::parts::Seen;
use crate::peers::{Edge, Front};
use crate::result::{
    Fairness, Generator, Latency, Ledger, Machine, Part, PartKind, Phase, PhaseKind, RunResult, SCHEMA, ScenarioRecord,
    Second, Subject, TenantPhase, empty_histogram,
};
use crate::scenario::{Databases, Scenario, WorkKind};

/// How late the generator may be for 99 of 100 pieces of work, in microseconds, before it counts as the limit.
const LATE_US: u64 = 5000;
/// The part of a second's work that the generator may take of all processors before it is named.
const BUSY: f64 = 0.5;
/// How busy a machine is that has nothing left to give.
const FULL: f64 = 0.95;
/// What other programs may take of the machine before they are named.
const OTHERS: f64 = 0.1;

/// What a run has measured.
pub(super) struct Ran<'a> {
    pub(super) started: u64,
    pub(super) seed: u64,
    pub(super) scenario: &'a Scenario,
    pub(super) machine: Machine,
    pub(super) commit: Option<String>,
    pub(super) tenants: usize,
    pub(super) startup: Duration,
    pub(super) phases: Vec<Phase>,
    pub(super) seconds: Vec<Second>,
    pub(super) chronicle: Chronicle,
    pub(super) seen: Seen,
    pub(super) lateness: Latency,
    pub(super) ledger: Option<Ledger>,
    /// The part of all sessions that were open in the end.
    pub(super) alive: f64,
    pub(super) versions: BTreeMap<String, String>,
    pub(super) is_target: bool,
    pub(super) front: Front,
}

impl Ran<'_> {
    pub(super) fn compose(self) -> RunResult {
        let measured: Vec<&Phase> = self.phases.iter().filter(|phase| phase.kind == PhaseKind::Measured).collect();
        let times: Vec<(Duration, Duration)> = measured.iter().map(|phase| times(phase)).collect();
        let parts = self.seen.parts(&times);
        let others = self.seen.others(&times, self.machine.cores);
        let machine = Machine { others, ..self.machine.clone() };
        let total = total(&measured);
        let generator = self.generator(&parts, &times);
        let busy = self.seen.busy(&times, machine.cores);
        let notes = self.notes(&machine, &generator, &parts, busy);
        let measures = self.measures(&total, &parts);
        let (subject, failures) = (self.subject(), self.failures(&measured));
        RunResult {
            schema: SCHEMA,
            started: self.started,
            seed: self.seed,
            scenario: ScenarioRecord {
                name: self.scenario.name.clone(),
                about: self.scenario.about.clone(),
                settings: self.scenario.settings.clone(),
            },
            subject,
            machine,
            total,
            phases: self.phases,
            seconds: self.seconds,
            marks: self.chronicle.marks,
            parts,
            generator,
            ledger: self.ledger,
            measures,
            failures,
            notes,
        }
    }

    fn subject(&self) -> Subject {
        let databases = if self.is_target { "target" } else { self.scenario.cluster.databases.word() };
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let is_echo = databases == "echo";
        Subject {
            edge: if is_echo { Edge::Direct } else { self.front.edge }.name().to_owned(),
            commit: self.commit.clone(),
            build: machine::build().to_owned(),
            versions: self.versions.clone(),
            tenants: count(self.tenants),
            clients_per_tenant: count(self.scenario.cluster.clients),
            gateways: u32::from(!is_echo),
            datapath: self.front.datapath,
            databases: databases.to_owned(),
            startup_seconds: self.startup.as_secs_f64(),
        }
    }

    fn generator(&self, parts: &[Part], times: &[(Duration, Duration)]) -> Generator {
        let late = &self.lateness;
        let is_echo = self.scenario.cluster.databases == Databases::Echo;
        let saturated = is_limit(late, self.generator_load(parts, times), is_echo);
        Generator { p50_error_us: late.p50_us, p99_error_us: late.p99_us, max_error_us: late.max_us, saturated }
    }

    /// The part of all processors that the generator took.
    fn generator_load(&self, parts: &[Part], times: &[(Duration, Duration)]) -> f64 {
        let seconds: f64 = times.iter().map(|(from, to)| to.saturating_sub(*from).as_secs_f64()).sum();
        let spent = parts.iter().find(|part| part.kind == PartKind::Generator).map_or(0.0, |part| part.cpu_seconds);
        let all = seconds * f64::from(self.machine.cores);
        if all > 0.0 { spent / all } else { 0.0 }
    }

    /// What the system under test did that it must not.
    fn failures(&self, measured: &[&Phase]) -> Vec<String> {
        let mut failures = self.chronicle.failures.clone();
        for phase in measured.iter().filter(|phase| phase.due > 0 && phase.done == 0) {
            failures.push(format!("nothing of what was due was done in the phase {}", phase.name));
        }
        if let Some(ledger) = self.ledger.as_ref().filter(|ledger| !ledger.is_sound()) {
            failures.push(format!(
                "{} acknowledged writes were lost, {} are there twice, {} should not be there, and {} tenants could not be read",
                ledger.lost,
                ledger.twice,
                ledger.unexpected,
                ledger.unread.len()
            ));
        }
        failures
    }

    fn notes(&self, machine: &Machine, generator: &Generator, parts: &[Part], busy: Option<f64>) -> Vec<String> {
        let mut notes = self.chronicle.notes.clone();
        let warm_up = self.phases.iter().filter(|phase| phase.kind == PhaseKind::WarmUp);
        for phase in warm_up {
            notes.push(format!(
                "the phase {} is warm-up: its {:.0} s and {} pieces of work are in no total",
                phase.name, phase.seconds, phase.due
            ));
        }
        if generator.saturated {
            notes.push(format!(
                "the generator was the limit, at least in part: 99 of 100 pieces of work began up to {} µs late, and it took \
                 {:.1} s of CPU; latencies say more about it than about the cluster",
                generator.p99_error_us,
                parts.iter().find(|part| part.kind == PartKind::Generator).map_or(0.0, |part| part.cpu_seconds)
            ));
        }
        if let Some(busy) = busy.filter(|busy| *busy > FULL) {
            notes.push(format!(
                "the machine was busy to {:.0} %: the figures are what everything on it could do together, this program included",
                busy * 100.0
            ));
        }
        if let Some(others) = machine.others.filter(|others| *others > OTHERS) {
            notes.push(format!("other programs took {:.0} % of the machine meanwhile", others * 100.0));
        }
        if machine::build() != "release" {
            notes.push("the programs are not built for speed (debug): the figures say little".to_owned());
        }
        notes
    }

    fn measures(&self, total: &Phase, parts: &[Part]) -> BTreeMap<String, f64> {
        let mut measures = BTreeMap::new();
        for (name, values) in &self.chronicle.figures {
            let longest = values.iter().copied().fold(0.0, f64::max);
            measures.insert(name.clone(), longest);
        }
        if self.scenario.work.kind.keeps_sessions() {
            measures.insert("sessions_alive_in_the_end_ratio".to_owned(), self.alive);
        }
        if total.bytes > 0 && total.seconds > 0.0 {
            measures.insert("copied_mib_per_s".to_owned(), ratio(total.bytes, 1024 * 1024) / total.seconds);
        }
        let memory = |kind| parts.iter().find(|part| part.kind == kind).map(|part| part.peak_memory_mib);
        let tenants = f64::from(u32::try_from(self.tenants).unwrap_or(u32::MAX));
        let sessions = ratio(total.sessions, 1);
        if let Some(sidecars) = memory(PartKind::Sidecars) {
            measures.insert("sidecar_memory_per_tenant_mib".to_owned(), sidecars / tenants);
        }
        if let Some(databases) = memory(PartKind::Databases) {
            measures.insert("database_memory_per_tenant_mib".to_owned(), databases / tenants);
        }
        if let Some(gateway) = memory(PartKind::Edge).filter(|_| self.scenario.work.kind == WorkKind::Idle) {
            measures.insert("gateway_memory_per_session_kib".to_owned(), gateway * 1024.0 / sessions.max(1.0));
        }
        self.noise(&mut measures);
        measures
    }

    /// What the others feel of a noisy tenant: their median p99 in relation to that of the last phase without noise.
    fn noise(&self, measures: &mut BTreeMap<String, f64>) {
        let (mut quiet, mut number) = (None, 0);
        for phase in self.phases.iter().filter(|phase| phase.kind == PhaseKind::Measured) {
            if phase.tenants.iter().any(|tenant| tenant.noisy) {
                number += 1;
                let Some(quiet) = quiet.filter(|quiet| *quiet > 0) else { continue };
                let name = phase.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").replace("__", "_");
                measures.insert(format!("others_p99_{name}_ratio"), ratio(phase.fairness.median_p99_us, quiet));
            } else if number == 0 {
                quiet = Some(phase.fairness.median_p99_us);
            }
        }
    }
}

/// Whether the generator was too slow for its timetable, or took so much of the machine that the cluster had to do with less.
fn is_limit(late: &Latency, load: f64, is_echo: bool) -> bool {
    // An echo is a part of this program, and its work no sign of one that is too slow.
    late.p99_us > LATE_US || (!is_echo && load > BUSY)
}

/// When a phase began and ended, since the load began.
fn times(phase: &Phase) -> (Duration, Duration) {
    let begin = Duration::from_secs_f64(phase.begins_s);
    (begin, begin + Duration::from_secs_f64(phase.seconds))
}

/// Several phases as one.
fn total(phases: &[&Phase]) -> Phase {
    let mut tenants: BTreeMap<&str, Vec<&TenantPhase>> = BTreeMap::new();
    for tenant in phases.iter().flat_map(|phase| &phase.tenants) {
        tenants.entry(&tenant.tenant).or_default().push(tenant);
    }
    let tenants: Vec<TenantPhase> = tenants.into_values().filter_map(|parts| one_tenant(&parts)).collect();
    let add = |field: fn(&Phase) -> &BTreeMap<String, u64>| {
        let mut all = BTreeMap::new();
        for (reason, count) in phases.iter().flat_map(|phase| field(phase)) {
            *all.entry(reason.clone()).or_default() += count;
        }
        all
    };
    let seconds: f64 = phases.iter().map(|phase| phase.seconds).sum();
    let done = phases.iter().map(|phase| phase.done).sum();
    Phase {
        name: "total".to_owned(),
        kind: PhaseKind::Measured,
        begins_s: phases.first().map_or(0.0, |phase| phase.begins_s),
        seconds,
        due: phases.iter().map(|phase| phase.due).sum(),
        done,
        failed: add(|phase| &phase.failed),
        bytes: phases.iter().map(|phase| phase.bytes).sum(),
        sessions: phases.iter().map(|phase| phase.sessions).max().unwrap_or_default(),
        per_second: if seconds > 0.0 { ratio(done, 1) / seconds } else { 0.0 },
        latency: together(phases.iter().map(|phase| &phase.latency)),
        connect: together(phases.iter().map(|phase| &phase.connect)),
        connect_failed: add(|phase| &phase.connect_failed),
        fairness: Fairness::of(&tenants),
        tenants,
    }
}

fn one_tenant(parts: &[&TenantPhase]) -> Option<TenantPhase> {
    let first = parts.first()?;
    Some(TenantPhase {
        tenant: first.tenant.clone(),
        noisy: parts.iter().any(|part| part.noisy),
        disturbed: parts.iter().any(|part| part.disturbed),
        share: first.share,
        due: parts.iter().map(|part| part.due).sum(),
        done: parts.iter().map(|part| part.done).sum(),
        failed: parts.iter().map(|part| part.failed).sum(),
        latency: together(parts.iter().map(|part| &part.latency)),
    })
}

fn together<'a>(parts: impl Iterator<Item = &'a Latency>) -> Latency {
    let mut all = empty_histogram();
    for histogram in parts.filter_map(Latency::histogram) {
        // All have the same bounds.
        all.add(&histogram).unwrap_or_default();
    }
    Latency::of(&all)
}

#[cfg(test)]
mod tests;
