//! How soon a removal on chain reaches live sessions, what looking at the chain costs, and whether a liar gets anybody in.

mod door;
mod liar;
mod revocation;
mod view;

use anyhow::Context as _;
use clap::ValueEnum;
use tokio::runtime::Builder;

pub(crate) use self::view::MINING;
use crate::report::{Report, Row};
use crate::spread::Spread;

/// What is asked for on the command line.
#[derive(clap::Args)]
pub(crate) struct Wish {
    /// What is measured; everything when nothing is said
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    parts: Vec<Part>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Live sessions that a removal ends
    Revocation,
    /// The gateway's memory with registered instances
    Memory,
    /// A view of the chain that follows many instances, and the check on the connection path
    View,
    /// Decisions with a liar among three endpoints
    Liar,
}

/// How much is measured.
pub(crate) struct Plan {
    /// What is.
    pub(crate) parts: Vec<Part>,
    /// How often the app's compose hash is removed while sessions are live.
    pub(crate) removals: usize,
    /// How many sessions those are.
    pub(crate) sessions: usize,
    /// How many further instances register, to see what memory each takes.
    pub(crate) instances: u16,
    /// How many instances a view of the chain follows.
    pub(crate) followed: usize,
    /// How often a rule of the KMS contract concerns all of them.
    pub(crate) events: usize,
    /// How often all of them are decided about with a liar among three endpoints.
    pub(crate) lies: usize,
    /// How many checks of the connection path are timed together.
    pub(crate) checks: usize,
}

impl Plan {
    /// Enough for figures that hold.
    pub(crate) fn full(wish: &Wish) -> Self {
        let parts = if wish.parts.is_empty() { Part::value_variants().to_vec() } else { wish.parts.clone() };
        Self {
            parts,
            removals: 5,
            sessions: 1_000,
            instances: 200,
            followed: 10_000,
            events: 5,
            lies: 10,
            checks: 1_000_000,
        }
    }

    /// Whether any of these is measured.
    fn has(&self, parts: &[Part]) -> bool {
        self.parts.iter().any(|part| parts.contains(part))
    }
}

/// Runs the benchmark.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Report> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut view, mut edge) = (view::Outcome::default(), revocation::Outcome::default());
        if plan.has(&[Part::View, Part::Liar]) {
            crate::tell("views of the chain");
            view = view::measure(plan).await.context("views of the chain")?;
        }
        if plan.has(&[Part::Revocation, Part::Memory]) {
            crate::tell("a gateway, its sessions and its instances");
            edge = revocation::measure(plan).await.context("a gateway, its sessions and its instances")?;
        }
        Ok(report(plan, &view, &edge))
    })
}

fn report(plan: &Plan, view: &view::Outcome, edge: &revocation::Outcome) -> Report {
    let Plan { removals, sessions, instances, followed, events, lies, checks, .. } = plan;
    let row = |what, rounds: &[f64], decimals, bar, figure| Row {
        what,
        rounds: Spread::of(rounds),
        decimals,
        bar,
        figure: Some(figure),
    };
    let rows = vec![
        row("from a removal to the cut session, p50 ms", &edge.p50_ms, 0, None, "revocation_p50_ms"),
        row("from a removal to the cut session, p99 ms", &edge.p99_ms, 0, Some(1_000.0), "revocation_p99_ms"),
        row("all instances judged anew after one event, s", &view.reevaluation_s, 2, Some(10.0), "reevaluate_10k_s"),
        row("check on the connection path, ns", &view.check_ns, 0, Some(1_000.0), "admission_check_ns"),
        row("admissions that a liar brought about", &view.false_admissions, 0, Some(0.0), "false_admissions"),
        row("memory of the gateway per admitted instance, bytes", &edge.instance_bytes, 0, None, "instance_bytes"),
        Row {
            what: "meanwhile, other programs on this machine, % of its CPUs",
            rounds: Spread::of(&[view.others, edge.others].into_iter().flatten().collect::<Vec<_>>()),
            ..Row::default()
        },
    ];
    let notes = vec![
        format!(
            "Removals: {removals}, each with {sessions} live sessions of the app through a gateway to one instance. The clock \
             starts before the transaction is sent to a node that makes a block of it at once, and stops when a client sees the \
             end of its connection. The gateway asks one local node, four times a second."
        ),
        format!(
            "A view follows {followed} instances by one local node. An OS image is removed and added again, {events} times \
             each: the time is that from before the transaction to the last of all verdicts."
        ),
        format!("Check: the mean of {checks} with {followed} instances followed, on one thread."),
        format!(
            "A liar: {lies} times, a new view decides about {followed} instances that may not run, by three endpoints, of which \
             one says yes to everything."
        ),
        format!(
            "Memory: what the gateway's resident memory grew by with {instances} registrations, their connections closed again."
        ),
    ];
    Report { rows, notes }
}

#[cfg(test)]
mod tests;
