//! What is compared: the numbers of a run, which way is better, and how much of a difference never counts.

use std::collections::BTreeSet;

use crate::report::units::{self, float};
use crate::result::{PartKind, RunResult, Second};

/// One number of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measure {
    /// What it is.
    pub(crate) name: String,
    /// Which number.
    pub(crate) number: Number,
    /// A relative difference that never counts; for [`Number::Failed`] an absolute one.
    pub(crate) floor: f64,
}

/// Where a measure comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Number {
    /// What was done a second.
    Rate,
    /// Latency.
    P50,
    /// Latency.
    P99,
    /// Latency.
    P999,
    /// Of new sessions.
    ConnectP99,
    /// The part of all work that failed.
    Failed,
    /// Jain's index.
    Jain,
    /// The worst tenant's p99 over the median.
    WorstOverMedian,
    /// CPU seconds per 1,000 requests.
    Cpu(PartKind),
    /// The most memory, in MiB.
    Memory(PartKind),
    /// Writes that are not as they should be.
    WrongWrites,
    /// One of the scenario's own measures, less of which is better.
    Further(String),
}

/// Parts whose costs are ours; the generator's and the chain's are not.
const PARTS: [(PartKind, &str); 3] =
    [(PartKind::Edge, "edge"), (PartKind::Sidecars, "sidecars"), (PartKind::Databases, "databases")];

/// Ends of names of measures less of which is better.
const LESS_IS_BETTER: [&str; 6] = ["_us", "_ms", "_s", "_mib", "_kib", "_bytes"];

/// Everything that can be compared between runs.
pub(crate) fn all<'a>(runs: impl Iterator<Item = &'a RunResult>) -> Vec<Measure> {
    let measure = |name: &str, number, floor| Measure { name: name.to_owned(), number, floor };
    let mut measures = vec![
        measure("requests a second", Number::Rate, 0.02),
        measure("p50", Number::P50, 0.05),
        measure("p99", Number::P99, 0.1),
        measure("p99.9", Number::P999, 0.25),
        measure("p99 of new sessions", Number::ConnectP99, 0.1),
        measure("failed", Number::Failed, 0.000_5),
        measure("Jain's index", Number::Jain, 0.005),
        measure("worst p99 over median", Number::WorstOverMedian, 0.15),
        measure("writes that are wrong", Number::WrongWrites, 0.0),
    ];
    for (kind, name) in PARTS {
        measures.push(measure(&format!("CPU of the {name} per 1,000 requests"), Number::Cpu(kind), 0.03));
        measures.push(measure(&format!("memory of the {name}"), Number::Memory(kind), 0.05));
    }
    let further: BTreeSet<&String> = runs.flat_map(|run| run.measures.keys()).collect();
    let further = further.into_iter().filter(|name| LESS_IS_BETTER.iter().any(|end| name.ends_with(end)));
    measures.extend(further.map(|name| measure(name, Number::Further(name.clone()), 0.1)));
    measures
}

impl Number {
    /// Whether more of it is better.
    pub(crate) fn more_is_better(&self) -> bool {
        matches!(self, Self::Rate | Self::Jain)
    }

    /// Whether it is a latency, which says nothing where the generator was the limit.
    pub(crate) fn is_latency(&self) -> bool {
        matches!(self, Self::P50 | Self::P99 | Self::P999 | Self::ConnectP99 | Self::WorstOverMedian)
    }

    /// Its value in a run; `None` when the run does not have it.
    pub(crate) fn of(&self, run: &RunResult) -> Option<f64> {
        let total = &run.total;
        let measured = |us: u64, count: u64| (count > 0).then(|| float(us));
        match self {
            Self::Rate => Some(total.per_second).filter(|&rate| rate > 0.0),
            Self::P50 => measured(total.latency.p50_us, total.latency.count),
            Self::P99 => measured(total.latency.p99_us, total.latency.count),
            Self::P999 => measured(total.latency.p999_us, total.latency.count),
            Self::ConnectP99 => measured(total.connect.p99_us, total.connect.count),
            Self::Failed => (total.due > 0).then(|| float(total.failed.values().sum()) / float(total.due)),
            Self::Jain => total.fairness.index().filter(|_| total.tenants.len() > 1),
            Self::WorstOverMedian => {
                Some(total.fairness.worst_over_median()).filter(|&ratio| total.tenants.len() > 1 && ratio > 0.0)
            }
            Self::Cpu(kind) => {
                let of = run.parts.iter().filter(|part| part.kind == *kind).map(|part| part.cpu_seconds);
                sum(of).filter(|_| total.done > 0).map(|seconds| seconds * 1_000.0 / float(total.done))
            }
            Self::Memory(kind) => {
                sum(run.parts.iter().filter(|part| part.kind == *kind).map(|part| part.peak_memory_mib))
            }
            Self::WrongWrites => {
                let ledger = run.ledger.as_ref()?;
                Some(float(ledger.lost + ledger.twice + ledger.unexpected + ledger.unread.len() as u64))
            }
            Self::Further(name) => run.measures.get(name).copied(),
        }
    }

    /// The same in each second of the measured phases, where a run tells.
    pub(crate) fn each_second(&self, run: &RunResult) -> Vec<f64> {
        let seconds = run.seconds.iter().filter(|second| is_measured(run, f64::from(second.second)));
        let latency = |of: fn(&Second) -> u64| {
            seconds.clone().filter(|second| second.done > 0).map(|second| float(of(second))).collect()
        };
        match self {
            Self::Rate => seconds.map(|second| float(second.done)).collect(),
            Self::P50 => latency(|second| second.p50_us),
            Self::P99 => latency(|second| second.p99_us),
            Self::Failed => {
                let part = |second: &Second| float(second.failed.values().sum()) / float(second.due.max(1));
                seconds.map(part).collect()
            }
            Self::Cpu(kind) => {
                let of = run.parts.iter().filter(|part| part.kind == *kind);
                let samples = of.flat_map(|part| &part.samples).filter(|sample| is_measured(run, sample.at_s - 1.0));
                samples.map(|sample| sample.cpu).collect()
            }
            Self::P999
            | Self::ConnectP99
            | Self::Jain
            | Self::WorstOverMedian
            | Self::Memory(_)
            | Self::WrongWrites
            | Self::Further(_) => Vec::new(),
        }
    }

    /// A value as people read it.
    pub(crate) fn words(&self, value: f64) -> String {
        match self {
            Self::Rate | Self::WrongWrites | Self::Further(_) => units::count(value),
            Self::P50 | Self::P99 | Self::P999 | Self::ConnectP99 => units::micros(value),
            Self::Failed => units::percent(value),
            Self::Jain => format!("{value:.4}"),
            Self::WorstOverMedian => format!("{value:.2}"),
            Self::Cpu(_) => units::micros(value * 1e6),
            Self::Memory(_) => units::mib(value),
        }
    }
}

/// Whether a second of a run begins in a measured phase.
fn is_measured(run: &RunResult, second: f64) -> bool {
    run.measured().any(|phase| (phase.begins_s..phase.begins_s + phase.seconds).contains(&second))
}

fn sum(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(|one, other| one + other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn the_seconds_of_the_warm_up_do_not_count() {
        let run = example::result();
        assert_eq!(Number::Rate.each_second(&run).len(), 25);
        assert_eq!(Number::P99.each_second(&run).len(), 25);
        assert_eq!(Number::Cpu(PartKind::Edge).each_second(&run).len(), 25);
    }

    #[test]
    fn a_run_without_something_has_no_number_for_it() {
        let [run, empty] = [example::result(), example::empty()];
        for measure in all([&run].into_iter()) {
            assert!(measure.number.of(&run).is_some(), "{}", measure.name);
            assert_eq!(measure.number.of(&empty), None, "{}", measure.name);
        }
        assert_eq!(Number::Cpu(PartKind::Edge).of(&run), Some(0.125));
    }
}
