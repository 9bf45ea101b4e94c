//! What a run ran on.

use serde::{Deserialize, Serialize};

/// What a run ran on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub model: String,
    /// How many processors this process may use.
    pub cores: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel: its name, release and architecture.
    pub kernel: String,
    /// The load average over one minute before anything was started.
    pub load_before: f64,
    /// The part of the machine's processors that programs other than this cluster took while measuring, from 0 to 1; `None`
    /// where the kernel does not tell.
    pub others: Option<f64>,
}
