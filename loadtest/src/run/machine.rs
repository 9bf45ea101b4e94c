//! What a run runs on.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::drive::Shared;
use crate::result::Machine;

/// What this machine is, and how busy it is.
pub(super) fn here() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
        line.map(|value| value.trim().to_owned()).unwrap_or_default()
    };
    let system = rustix::system::uname();
    let words = [system.sysname(), system.release(), system.machine()].map(|word| word.to_string_lossy().into_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let memory: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let load = read("/proc/loadavg");
    Machine {
        model: field(&read("/proc/cpuinfo"), "model name"),
        cores: std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX)),
        memory_mib: memory / 1024,
        kernel: words.join(" "),
        load_before: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
        others: None,
    }
}

/// The commit of a repository, and whether it was changed since, as far as git knows.
pub(super) fn commit(repository: &Path) -> Option<String> {
    let mut command = Command::new("git");
    command.args(["describe", "--always", "--dirty", "--exclude", "*"]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.current_dir(repository).output().ok().filter(|output| output.status.success())?;
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!commit.is_empty()).then_some(commit)
}

/// How this program was built, and so those beside it.
pub(super) fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

/// Versions of what takes part. The database's is asked of the first tenant's.
pub(super) async fn versions(shared: &Arc<Shared>) -> BTreeMap<String, String> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let mut versions = BTreeMap::from([("loadtest".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let Some(lane) = shared.lanes.first().filter(|lane| lane.door.attested.is_some()) else { return versions };
    let Ok(session) = lane.door.open(PATIENCE).await else { return versions };
    let rows = session.client().simple_query("SHOW server_version").await.unwrap_or_default();
    for row in rows {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = row
            && let Ok(Some(version)) = row.try_get(0)
        {
            versions.insert("postgresql".to_owned(), version.to_owned());
        }
    }
    session.close().await;
    versions
}
