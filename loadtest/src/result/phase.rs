//! What happened in one phase of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Latency;

/// How many times each thing went wrong, by a short stable name such as `refused`, `tls` or `40001`.
pub type Reasons = BTreeMap<String, u64>;

/// What happened in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name in the scenario.
    pub name: String,
    /// Whether it counts.
    pub kind: PhaseKind,
    /// When it began, in seconds since the load began.
    pub begins_s: f64,
    /// How long work arrived, in seconds.
    pub seconds: f64,
    /// Pieces of work that were due.
    pub due: u64,
    /// Those that were done.
    pub done: u64,
    /// Those that were not, by reason; `not_begun` are those that no session was free for until the phase was over.
    pub failed: Reasons,
    /// Bytes that were copied in and out, for workloads that do.
    pub bytes: u64,
    /// The most sessions that were open at once.
    pub sessions: u64,
    /// What was done a second.
    pub per_second: f64,
    /// How long what was done took.
    pub latency: Latency,
    /// Attempts to open a session that failed, by reason. Work waits for a session, and is late or fails if it gets none.
    #[serde(default)]
    pub connect_failed: Reasons,
    /// How long new sessions took, from the first byte to readiness for queries.
    pub connect: Latency,
    /// How evenly tenants were served.
    pub fairness: Fairness,
    /// The same per tenant.
    pub tenants: Vec<TenantPhase>,
}

/// Whether a phase counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseKind {
    /// Its numbers are kept, and discarded from all totals.
    WarmUp,
    /// Its numbers count.
    Measured,
}

/// What happened to one tenant in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantPhase {
    /// The tenant.
    pub tenant: String,
    /// Whether it is the one that takes more than its share.
    pub noisy: bool,
    /// Whether something was done to it in this phase, such as a revocation.
    #[serde(default)]
    pub disturbed: bool,
    /// Its part of all arrivals, from 0 to 1.
    pub share: f64,
    /// Pieces of work that were due.
    pub due: u64,
    /// Those that were done.
    pub done: u64,
    /// Those that were not.
    pub failed: u64,
    /// How long what was done took.
    pub latency: Latency,
}

/// How evenly tenants were served. The noisy tenant is not part of it, nor are those to whom something was done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    /// Jain's index over each tenant's done work relative to its due work: 1 when all get the same part of what they ask
    /// for, 1/n when one tenant gets everything. 0 when there was nothing.
    pub jain: f64,
    /// The tenant with the highest p99,
    pub worst_tenant: String,
    /// which is this, in microseconds.
    pub worst_p99_us: u64,
    /// The median of all tenants' p99, in microseconds.
    pub median_p99_us: u64,
}

impl Fairness {
    /// Jain's index; `None` when there was nobody to compare, as when something was done to every tenant, or nothing was done.
    #[must_use]
    pub fn index(&self) -> Option<f64> {
        Some(self.jain).filter(|jain| *jain > 0.0)
    }

    /// The worst tenant's p99 in relation to the median; 0 when there was nothing.
    #[must_use]
    pub fn worst_over_median(&self) -> f64 {
        let [worst, median] = [self.worst_p99_us, self.median_p99_us].map(as_f64);
        if median > 0.0 { worst / median } else { 0.0 }
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^52")]
fn as_f64(micros: u64) -> f64 {
    micros as f64
}
