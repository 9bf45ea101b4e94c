//! What the kernel says of other processes.

use std::ops::{Add, Sub};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

/// CPU time. What the kernel does for a process in its system calls is that of the process, and so is the network's work that
/// it does on the way out of them; what it does in threads of its own is nobody's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// In the program's own code.
    pub(crate) user: Duration,
    /// In the kernel.
    pub(crate) system: Duration,
}

impl Times {
    pub(crate) fn all(self) -> Duration {
        self.user + self.system
    }
}

impl Add for Times {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }
}

impl Sub for Times {
    type Output = Self;

    /// Never negative: the kernel divides a sum anew each time it is asked.
    fn sub(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }
}

/// The CPU time that a process has spent so far, in all threads (proc_pid_stat(5), fields 14 and 15).
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    times(pid).map(Times::all)
}

/// The same, divided into the program's own and the kernel's.
pub(crate) fn times(pid: u32) -> anyhow::Result<Times> {
    stat(Path::new(&format!("/proc/{pid}/stat"))).map(|(_, times)| times)
}

/// That of the threads of a process whose names begin with `prefix`.
pub(crate) fn times_of_threads(pid: u32, prefix: &str) -> anyhow::Result<Times> {
    let mut sum = Times::default();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        if let Ok((name, times)) = stat(&entry?.path().join("stat"))
            && name.starts_with(prefix)
        {
            sum = sum + times;
        }
    }
    Ok(sum)
}

/// That of all processes of this process namespace that still run.
pub(crate) fn times_of_all() -> Times {
    running().into_iter().filter_map(|pid| times(pid).ok()).fold(Times::default(), Times::add)
}

/// The processes that a process has started and that still run.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let is_child = |other: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{other}/stat"));
        stat.is_ok_and(|stat| parent(&stat) == Some(pid))
    };
    running().into_iter().filter(is_child).collect()
}

/// The processes of this process namespace.
fn running() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The name of a process or thread, and its CPU time.
fn stat(file: &Path) -> anyhow::Result<(String, Times)> {
    let text = std::fs::read_to_string(file)?;
    let ticks = ticks(&text).with_context(|| format!("unreadable: {}", file.display()))?;
    let [user, system] =
        ticks.map(|ticks| Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()));
    Ok((name(&text).unwrap_or_default().to_owned(), Times { user, system }))
}

/// The name in field 2 may hold spaces and brackets: the last bracket ends it.
fn name(stat: &str) -> Option<&str> {
    Some(stat.rsplit_once(") ")?.0.split_once('(')?.1)
}

fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// User and system.
fn ticks(stat: &str) -> Option<[u64; 2]> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let user = fields.nth(11)?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    Some([user, system])
}

/// The memory of a process that is in use, its program's pages included, in bytes (proc_pid_status(5), `VmRSS`).
pub(crate) fn resident(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u32 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(f64::from(kilobytes) * 1024.0)
}

/// The memory of a process that is its own, in KiB (proc_pid_smaps(5), `Private_Clean` and `Private_Dirty`).
pub(crate) fn memory(pid: u32) -> anyhow::Result<u64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    private(&rollup).context("an unreadable /proc/PID/smaps_rollup")
}

fn private(rollup: &str) -> Option<u64> {
    let value = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some(value("Private_Clean:")? + value("Private_Dirty:")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_understood() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some([250, 50]));
        assert_eq!((name(stat), parent(stat)), (Some("a (b) c"), Some(1)));
        assert_eq!((ticks("7 (a"), name("7 (a"), parent("7 (a")), (None, None, None));
        let rollup = "1-2 ---p 0 0:0 0 [rollup]\nRss:  900 kB\nPrivate_Clean:   10 kB\nPrivate_Dirty:  200 kB\n";
        assert_eq!(private(rollup), Some(210));
        assert_eq!(private("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap() > 0);
        assert!(resident(pid).unwrap() > 0.0);
        cpu(pid).unwrap();
    }

    #[test]
    fn threads_are_told_apart_and_children_are_found() {
        let enough = Duration::from_millis(50);
        let pid = std::process::id();
        let work = move || {
            while times_of_threads(pid, "worker").unwrap().all() < enough {}
        };
        std::thread::Builder::new().name("worker".to_owned()).spawn(work).unwrap().join().unwrap();
        assert_eq!(times_of_threads(pid, "idler").unwrap(), Times::default());
        assert!(cpu(pid).unwrap() >= enough);

        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = children(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()), "{found:?}");
        assert!(times_of_all().all() >= enough);
    }
}
