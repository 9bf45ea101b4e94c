//! What mutual RA-TLS costs beside plain mutual TLS, what an appraisal costs, and whether strangers who arrive in numbers
//! slow down a session that is going on.

mod attested;
mod crowd;
pub(crate) mod guest;
mod live;
mod plain;
mod processor;
mod service;
mod under_load;

use std::time::Duration;

use anyhow::Context as _;

use crate::report::Report;

/// How much is measured.
pub(crate) struct Plan {
    /// Rounds in which plain and attested handshakes and appraisals take turns.
    pub(crate) rounds: usize,
    /// How many of each there are in a round.
    pub(crate) batch: u32,
    /// Rounds in which a live session is alone and then among strangers.
    pub(crate) loaded_rounds: u64,
    /// How many strangers arrive in such a round.
    pub(crate) strangers: usize,
    /// How many of them arrive each second.
    pub(crate) rate: f64,
}

impl Plan {
    /// Enough for figures that hold.
    pub(crate) fn full() -> Self {
        Self { rounds: 21, batch: 100, loaded_rounds: 5, strangers: 1000, rate: 500.0 }
    }

    /// For how long strangers arrive in a round.
    fn arriving(&self) -> Duration {
        Duration::from_secs(1).mul_f64(f64::from(u32::try_from(self.strangers).unwrap_or(u32::MAX)) / self.rate)
    }
}

/// Runs the benchmark.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<Report> {
    crate::tell("handshakes and appraisals");
    let costs = processor::measure(plan).context("handshakes and appraisals")?;
    crate::tell("a live session among strangers");
    let load = under_load::measure(plan).context("a live session among strangers")?;
    Ok(report(plan, &costs, &load))
}

fn report(plan: &Plan, costs: &processor::Costs, load: &under_load::Outcome) -> Report {
    let Plan { rounds, batch, loaded_rounds, strangers, rate } = plan;
    let mut notes = vec![
        format!(
            "CPU is that of the whole process, so of both sides: the mean of {batch}, in {rounds} interleaved rounds."
        ),
        "Plain mutual TLS has P-256 certificates directly under a CA, and our groups and suites; neither has tickets. It \
         verifies both certificates in each handshake, where RA-TLS remembers its verdicts."
            .to_owned(),
        "The simulator's quotes are shorter than real ones; what the difference adds to the flight is computed."
            .to_owned(),
        format!(
            "Load: {loaded_rounds} rounds of {strangers} strangers, each with a certificate and an address of its own, who \
             arrive at random, {rate} a second. The live session has a request each millisecond. All share this machine."
        ),
    ];
    notes.extend_from_slice(load.troubles());
    Report { rows: costs.rows().into_iter().chain(load.rows()).collect(), notes }
}

#[cfg(test)]
mod tests;
