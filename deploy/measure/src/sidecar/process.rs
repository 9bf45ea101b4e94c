//! What the kernel says of another process.

use std::time::Duration;

use anyhow::Context as _;

/// The CPU time that a process has spent so far, in all threads (proc_pid_stat(5), fields 14 and 15).
pub(super) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).context("an unreadable /proc/PID/stat")?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

fn ticks(stat: &str) -> Option<u64> {
    // The name in field 2 may hold spaces and brackets: the last bracket ends it.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// The memory of a process that is its own, in KiB (proc_pid_smaps(5), `Private_Clean` and `Private_Dirty`).
pub(super) fn memory(pid: u32) -> anyhow::Result<u64> {
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
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a"), None);
        let rollup = "1-2 ---p 0 0:0 0 [rollup]\nRss:  900 kB\nPrivate_Clean:   10 kB\nPrivate_Dirty:  200 kB\n";
        assert_eq!(private(rollup), Some(210));
        assert_eq!(private("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(memory(pid).unwrap() > 0);
        cpu(pid).unwrap();
    }
}
