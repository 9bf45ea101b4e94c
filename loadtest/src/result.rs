//! What a run leaves behind: one JSON file that holds every measured number and what it was measured on.
//!
//! Times within a run are seconds since its load began. Latencies are microseconds, from when a piece of work was *due* to
//! when its answer was complete; so the time that work had to wait for a session is part of it.

mod latency;
mod ledger;
mod machine;
mod parts;
mod phase;
mod series;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Datapath, Failure};
pub use latency::{DIGITS, Latency, Quantile, empty_histogram};
pub use ledger::Ledger;
pub use machine::Machine;
pub use parts::{Generator, Part, PartKind, PartSample};
pub use phase::{Fairness, Phase, PhaseKind, Reasons, TenantPhase};
pub use series::{Mark, MarkKind, Second};

/// The version of the format. Readers take files of this version; a field that is added does not change it.
pub const SCHEMA: u32 = 1;

/// The longest result file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024 * 1024;

/// The outcome of one run of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When the load began, in seconds since the Unix epoch.
    pub started: u64,
    /// What every random choice came from. The same seed gives the same arrivals.
    pub seed: u64,
    /// What was asked for.
    pub scenario: ScenarioRecord,
    /// What was measured.
    pub subject: Subject,
    /// What it ran on.
    pub machine: Machine,
    /// The phases, in the order in which they ran.
    pub phases: Vec<Phase>,
    /// All measured phases together; warm-up is not part of it.
    pub total: Phase,
    /// One entry per second, from the beginning of the first phase to the end of the last.
    pub seconds: Vec<Second>,
    /// What was done to the cluster, and when.
    pub marks: Vec<Mark>,
    /// CPU and memory of every part, over time.
    pub parts: Vec<Part>,
    /// How well the generator kept its own timetable.
    pub generator: Generator,
    /// Whether every acknowledged write was found again, and none twice. `None`: the workload has no writes to check.
    pub ledger: Option<Ledger>,
    /// Further figures of this scenario by name; the unit is the end of the name, such as `revocation_cut_p99_ms`.
    pub measures: BTreeMap<String, f64>,
    /// What the system under test did that it must not: it lost acknowledged writes, did no work at all, or kept what was
    /// withdrawn. A run with any of these ends with exit code 1.
    #[serde(default)]
    pub failures: Vec<String>,
    /// What a reader has to know: that the generator was the limit, what was left out and why.
    pub notes: Vec<String>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioRecord {
    /// The scenario's name.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// Every setting that was in force, by its key in the scenario file.
    pub settings: BTreeMap<String, String>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// The edge on the way: `gateway`, `direct` (no edge), or the name of a peer such as `haproxy`.
    pub edge: String,
    /// The commit of the repository, and whether it was changed since; `None` where nobody knows.
    pub commit: Option<String>,
    /// `release` or `debug`: how the programs were built.
    pub build: String,
    /// Versions of what takes part, by name.
    pub versions: BTreeMap<String, String>,
    /// How many tenants there were.
    pub tenants: u32,
    /// How many sessions each tenant's clients kept at most.
    pub clients_per_tenant: u32,
    /// How many gateways there were.
    pub gateways: u32,
    /// How packets of their tunnels became connections.
    #[serde(default)]
    pub datapath: Datapath,
    /// `shared`: one PostgreSQL with a database per tenant; `each`: one server per tenant; `target`: a fleet that was there.
    pub databases: String,
    /// How long the whole cluster took to be ready, in seconds; 0 for a fleet that was there.
    pub startup_seconds: f64,
}

impl RunResult {
    /// The phases whose numbers count.
    pub fn measured(&self) -> impl Iterator<Item = &Phase> {
        self.phases.iter().filter(|phase| phase.kind == PhaseKind::Measured)
    }

    /// Reads a result.
    ///
    /// # Errors
    /// When the file cannot be read, or is no result of this version.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let length = fs::metadata(path).map_err(|error| Failure::file(path, error))?.len();
        let not = |why: String| Failure::NotAResult { path: path.to_owned(), why };
        if length > MAX_FILE {
            return Err(not("it is longer than 1 GiB".to_owned()));
        }
        let text = fs::read(path).map_err(|error| Failure::file(path, error))?;
        let version: Version = serde_json::from_slice(&text).map_err(|error| not(error.to_string()))?;
        if version.schema != SCHEMA {
            return Err(not(format!("its schema is {}, and this program reads {SCHEMA}", version.schema)));
        }
        serde_json::from_slice(&text).map_err(|error| not(error.to_string()))
    }

    /// Finds out whether a result can be written there, before there is one to lose. Nothing is left behind.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn has_place(path: &Path) -> Result<(), Failure> {
        let is_new = !path.exists();
        let open = fs::OpenOptions::new().append(true).create(true).open(path);
        open.map_err(|error| Failure::file(path, error))?;
        if is_new { fs::remove_file(path).map_err(|error| Failure::file(path, error)) } else { Ok(()) }
    }

    /// Writes the result, readable for humans too.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| Failure::file(path, error.into()))?;
        text.push(b'\n');
        fs::write(path, text).map_err(|error| Failure::file(path, error))
    }
}

#[derive(Deserialize)]
struct Version {
    schema: u32,
}

#[cfg(test)]
mod tests;
