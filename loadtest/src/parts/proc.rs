//! Reads /proc (proc(5)).

use std::fs;
use std::ops::Range;

/// What one process or several have used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) processes: u32,
    /// CPU time, in seconds.
    pub(super) cpu: f64,
}

impl Usage {
    pub(super) fn add(&mut self, other: Self) {
        self.processes += other.processes;
        self.cpu += other.cpu;
    }
}

/// How often a family is looked at again when one of it ended meanwhile.
const ATTEMPTS: usize = 10;

/// What a process has used; and with `family`, its children, those that have ended included.
pub(super) fn usage(pid: u32, family: bool) -> Usage {
    let Some(mut stat) = read(pid, "stat") else { return Usage::default() };
    if !family {
        return Usage { processes: 1, cpu: cpu(&stat, false) };
    }
    let mut all = 0.0;
    for _ in 0..ATTEMPTS {
        let alive = children(pid).filter_map(|child| read(child, "stat"));
        all = cpu(&stat, true) + alive.map(|child| cpu(&child, false)).sum::<f64>();
        let Some(after) = read(pid, "stat") else { break };
        // Who ended and was waited for in between is neither among the living nor in what was read of the ended.
        if ticks(&after, ENDED_CHILDREN) == ticks(&stat, ENDED_CHILDREN) {
            break;
        }
        stat = after;
    }
    Usage { processes: 1, cpu: all }
}

/// The proportional set size of a process, in MiB; and with `family`, that of its children too.
pub(super) fn memory(pid: u32, family: bool) -> f64 {
    let children = family.then(|| children(pid)).into_iter().flatten();
    proportional(pid) + children.map(proportional).sum::<f64>()
}

fn children(pid: u32) -> impl Iterator<Item = u32> {
    let children = read(pid, &format!("task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    children.into_iter()
}

fn read(pid: u32, file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

/// Fields 14 and 15 of a process' stat: its own time, user and system, counted from field 3.
const OWN: Range<usize> = 11..13;
/// Fields 16 and 17: that of its children that were waited for.
const ENDED_CHILDREN: Range<usize> = 13..15;

/// The CPU time of a process, in seconds.
fn cpu(stat: &str, with_ended_children: bool) -> f64 {
    let children = if with_ended_children { ticks(stat, ENDED_CHILDREN) } else { 0 };
    seconds(ticks(stat, OWN) + children)
}

fn ticks(stat: &str, fields: Range<usize>) -> u64 {
    // The name in field 2 may hold spaces and brackets: the last bracket ends it, and field 3 follows.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return 0 };
    rest.split(' ').skip(fields.start).take(fields.len()).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn proportional(pid: u32) -> f64 {
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
        let own = std::process::id();
        assert_eq!(usage(own, true).processes, 1);
        assert!(memory(own, true) > 1.0, "{}", memory(own, true));
        assert!(machine_busy().is_some_and(|busy| busy >= 0.0));
        assert_eq!((usage(u32::MAX, true), usage(u32::MAX, false)), Default::default());
        assert!(close(memory(u32::MAX, true), 0.0));
    }
}
