//! What each part cost.

use serde::{Deserialize, Serialize};

/// One part of the cluster, or all parts of a kind together: two hundred lines in a plot tell nobody anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name, such as `gateway` or `sidecars`.
    pub name: String,
    /// What it is.
    pub kind: PartKind,
    /// How many processes it has.
    pub processes: u32,
    /// CPU time that it spent during all measured phases, in seconds.
    pub cpu_seconds: f64,
    /// The most memory that it had at once, in MiB: the proportional set size where the kernel tells it, so that pages which
    /// processes share are counted once.
    pub peak_memory_mib: f64,
    /// About one sample per second.
    pub samples: Vec<PartSample>,
}

/// What a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PartKind {
    /// The edge: the gateway, or a peer in its place.
    Edge,
    /// The sidecars in serve mode.
    Sidecars,
    /// PostgreSQL.
    Databases,
    /// The chain node.
    Chain,
    /// What stands in for hardware: guest agents and the collateral service.
    Simulated,
    /// This program: clients, timetable and measuring.
    Generator,
}

/// One look at a part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PartSample {
    /// When, in seconds since the load began.
    pub at_s: f64,
    /// How many processors it kept busy since the last look.
    pub cpu: f64,
    /// Its memory, in MiB, as in [`Part::peak_memory_mib`].
    pub memory_mib: f64,
}

/// How well the generator kept its own timetable: how late it began pieces of work for which a session was free. Before an echo,
/// where nothing else can be late, how late it began any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generator {
    /// Half of all began no later than this, in microseconds.
    pub p50_error_us: u64,
    /// 99 of 100.
    pub p99_error_us: u64,
    /// The latest.
    pub max_error_us: u64,
    /// Whether the generator was the limit: then latencies say more about it than about the cluster.
    pub saturated: bool,
}
