//! Reads /proc (proc(5)).

use std::fs;

/// What one process or several have used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) processes: u32,
    /// CPU time, in seconds.
    pub(super) cpu: f64,
    /// Proportional set size, in MiB.
    pub(super) memory: f64,
}

impl Usage {
    pub(super) fn add(&mut self, other: Self) {
        self.processes += other.processes;
        self.cpu += other.cpu;
        self.memory += other.memory;
    }
}

/// What a process has used; and with `family`, its children, those that have ended included.
pub(super) fn usage(pid: u32, family: bool, with_memory: bool) -> Usage {
    let Some(stat) = read(pid, "stat") else { return Usage::default() };
    let mut found = Usage { processes: 1, cpu: cpu(&stat, family), memory: 0.0 };
    if with_memory {
        found.memory = memory(pid);
    }
    if family {
        let children = read(pid, &format!("task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let Usage { cpu, memory, .. } = usage(child, false, with_memory);
            found.cpu += cpu;
            found.memory += memory;
        }
    }
    found
}

fn read(pid: u32, file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

/// The CPU time of a process: fields 14 and 15 of its stat, and 16 and 17 for children that were waited for.
fn cpu(stat: &str, with_ended_children: bool) -> f64 {
    // The name in field 2 may hold spaces and brackets: the last bracket ends it, and field 3 follows.
    let Some((_, fields)) = stat.rsplit_once(") ") else { return 0.0 };
    let count = if with_ended_children { 4 } else { 2 };
    let ticks: u64 = fields.split(' ').skip(11).take(count).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    seconds(ticks)
}

fn memory(pid: u32) -> f64 {
    let rollup = read(pid, "smaps_rollup").unwrap_or_default();
    let kib =
        rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    kib.map_or(0.0, |kib: u32| f64::from(kib) / 1024.0)
}

/// The CPU time that the whole machine has spent: user, nice, system, irq, softirq and steal; guests' time is part of user.
pub(super) fn machine_busy() -> Option<f64> {
    busy(&fs::read_to_string("/proc/stat").ok()?)
}

fn busy(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let fields: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = *fields.as_slice() else { return None };
    Some(seconds(user + nice + system + irq + softirq + steal))
}

#[expect(clippy::cast_precision_loss, reason = "ticks are far below 2^52")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-9
    }

    #[test]
    fn the_kernel_s_lines_are_read() {
        let second = rustix::param::clock_ticks_per_second();
        let stat = format!("7 (a ) b) S 1 7 7 0 -1 4 0 0 0 0 {second} {second} {second} {second} 20 0 1 0 5");
        assert!(close(cpu(&stat, false), 2.0), "{}", cpu(&stat, false));
        assert!(close(cpu(&stat, true), 4.0));
        assert!(close(cpu("nonsense", true), 0.0));
        let machine = format!("cpu  {second} 0 {second} 99 99 0 0 {second} 0 0\ncpu0 1");
        assert!(busy(&machine).is_some_and(|busy| close(busy, 3.0)));
        assert_eq!(busy("cpu 1 2"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let own = usage(std::process::id(), true, true);
        assert_eq!(own.processes, 1);
        assert!(own.memory > 1.0, "{own:?}");
        assert!(machine_busy().is_some_and(|busy| busy >= 0.0));
        assert_eq!(usage(u32::MAX, true, true), Usage::default());
    }
}
