//! Whether the unit costs foretell what runs measured.

use super::costs::Costs;
use super::size::{self, Demand};
use crate::Datapath;
use crate::report::units::float;
use crate::result::{PartKind, RunResult};

/// One number that was foretold and measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Checked {
    /// The run: its scenario and how many tenants it had.
    pub(crate) run: String,
    /// What was foretold, with its unit.
    pub(crate) what: &'static str,
    pub(crate) foretold: f64,
    pub(crate) measured: f64,
}

impl Checked {
    /// How far the prediction is off, in relation to what was measured.
    pub(crate) fn error(&self) -> f64 {
        self.foretold / self.measured - 1.0
    }
}

/// Foretells what a run took, from its load alone. What the run did not measure is left out.
pub(crate) fn check(costs: &Costs, datapath: Datapath, run: &RunResult) -> Vec<Checked> {
    let Some(demand) = demand(run) else { return Vec::new() };
    let gateway = costs.gateway(datapath);
    let numbers = [
        ("processors of the edge", size::cores(gateway, &demand), cores(run, PartKind::Edge)),
        ("memory of the edge, MiB", size::memory_mib(gateway, &demand), memory(run, PartKind::Edge)),
        ("processors of the sidecars", size::sidecar_cores(&costs.sidecar, &demand), cores(run, PartKind::Sidecars)),
        (
            "memory of the sidecars, MiB",
            // They all run on the one machine.
            size::sidecar_memory_mib(&costs.sidecar, &demand, 1.0),
            memory(run, PartKind::Sidecars),
        ),
    ];
    let name = format!("{}, {} tenants", run.scenario.name, run.subject.tenants);
    let checked = numbers.into_iter().filter_map(|(what, foretold, measured)| {
        let measured = measured.filter(|&measured| measured > 0.0)?;
        Some(Checked { run: name.clone(), what, foretold, measured })
    });
    checked.collect()
}

/// What a run asked of its cluster; `None` when it measured nothing.
fn demand(run: &RunResult) -> Option<Demand> {
    const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
    let seconds = run.total.seconds;
    (seconds > 0.0).then(|| Demand {
        instances: f64::from(run.subject.tenants),
        sessions: float(run.total.sessions),
        connections: float(run.total.connect.count) / seconds,
        requests: round_trips(run) / seconds,
        gib: float(run.total.bytes) / GIB / seconds,
    })
}

/// How many small requests were answered. A piece of work can be several of them: a plan counts what is sent and waited for.
fn round_trips(run: &RunResult) -> f64 {
    let settings = &run.scenario.settings;
    let further = (0..).map_while(|number| settings.get(&format!("mixes[{number}].kind")));
    let kinds: Vec<&String> = settings.get("work.kind").into_iter().chain(further).collect();
    let of_piece = |tenant: usize| match kinds.get(tenant % kinds.len().max(1)).map(|kind| kind.as_str()) {
        // BEGIN, five statements and COMMIT.
        Some("tpcb") => 7.0,
        _ => 1.0,
    };
    // Tenants stand in the order of their numbers, in which they take turns among the kinds of work.
    run.total.tenants.iter().enumerate().map(|(number, tenant)| float(tenant.done) * of_piece(number)).sum()
}

fn cores(run: &RunResult, kind: PartKind) -> Option<f64> {
    let seconds = run.parts.iter().filter(|part| part.kind == kind).map(|part| part.cpu_seconds);
    seconds.reduce(|one, other| one + other).map(|seconds| seconds / run.total.seconds)
}

fn memory(run: &RunResult, kind: PartKind) -> Option<f64> {
    let memory = run.parts.iter().filter(|part| part.kind == kind).map(|part| part.peak_memory_mib);
    memory.reduce(|one, other| one + other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn what_was_measured_is_compared_with_what_the_load_foretells() {
        let costs = Costs::load(None).unwrap();
        let run = example::result();
        let checked = check(&costs, Datapath::Netstack, &run);
        let edge = checked.first().unwrap();
        assert_eq!((edge.run.as_str(), edge.what), ("pool, 4 tenants", "processors of the edge"));
        assert!((edge.measured - 0.12).abs() < 1e-9, "3 s of 25");
        let load = costs.netstack;
        let requests = run.total.tenants.iter().map(|tenant| float(tenant.done)).sum::<f64>() / 25.0;
        let expected = load.base_cores
            + (4.0 * load.instance_us_per_second + requests * load.request.us(requests) + 0.64 * load.connection_us)
                / 1e6;
        assert!((edge.foretold - expected).abs() < 1e-9);
        assert!((edge.error() - (expected / 0.12 - 1.0)).abs() < 1e-9);
        assert_eq!(checked.len(), 4);
        let first = run.total.tenants.first().map_or(0.0, |tenant| float(tenant.done)) / 25.0;
        let mut mixed = run;
        for (key, kind) in
            [("work.kind", "tpcb"), ("mixes[0].kind", "ping"), ("mixes[1].kind", "ping"), ("mixes[2].kind", "ping")]
        {
            mixed.scenario.settings.insert(key.to_owned(), kind.to_owned());
        }
        assert!(
            (round_trips(&mixed) / 25.0 - requests - 6.0 * first).abs() < 1e-6,
            "the first tenant asks seven times"
        );
        assert!(check(&costs, Datapath::Netstack, &example::empty()).is_empty());
    }
}
