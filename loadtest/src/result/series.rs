//! What happened when.

use serde::{Deserialize, Serialize};

use super::Reasons;

/// One second of a run. Work is in the second in which it ended, whenever it was due.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Which one: 0 is the first second of the load.
    pub second: u32,
    /// The phase that was on when it began, as an index into the phases.
    pub phase: u32,
    /// Pieces of work that were due in it.
    pub due: u64,
    /// Pieces of work that were done in it.
    pub done: u64,
    /// Those that failed in it, by reason.
    pub failed: Reasons,
    /// Sessions that were open at its end.
    pub sessions: u64,
    /// Half of what was done had taken no longer, in microseconds; 0 when nothing was done.
    pub p50_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Something that was done to the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// When it was done, in seconds since the load began.
    pub at_s: f64,
    /// When it was over; `None` for what has no end.
    pub until_s: Option<f64>,
    /// What kind of thing it was.
    pub kind: MarkKind,
    /// To whom, such as `gateway` or a tenant.
    pub target: String,
    /// What it was, in words.
    pub text: String,
}

/// What kind of thing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MarkKind {
    /// A process was killed, and started again.
    Kill,
    /// A process was asked to end, and started again.
    Restart,
    /// A process was halted, and let go on.
    Stop,
    /// No packet passed.
    Partition,
    /// The database's disk answered late.
    SlowDisk,
    /// Packets were lost or late.
    LossyLink,
    /// The chain withdrew an app.
    Revoke,
    /// The chain allowed it again.
    Allow,
    /// A tenant came.
    Arrive,
    /// A tenant left.
    Leave,
    /// A setting changed.
    Change,
}
