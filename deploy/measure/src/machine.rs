//! How busy the machine is with others, who make every latency worse.

use std::time::{Duration, Instant};

use crate::cpu;

/// The beginning of a measurement.
pub(crate) struct Watch {
    machine: Option<Ticks>,
    own: Duration,
    begin: Instant,
    spent: fn() -> Duration,
}

/// Time that all processors together have spent, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Watch {
    /// Others are all but this process.
    pub(crate) fn start() -> Self {
        Self::of(cpu::spent)
    }

    /// Others are all but those whose CPU time so far `spent` gives.
    pub(crate) fn of(spent: fn() -> Duration) -> Self {
        Self { machine: Ticks::now(), own: spent(), begin: Instant::now(), spent }
    }

    /// The part of the machine's processors that others took since the start, hosts of virtual machines included, in
    /// percent; `None` where the kernel does not tell.
    pub(crate) fn others(&self) -> Option<f64> {
        let busy = Ticks::now()?.busy_since(self.machine?)?;
        let processors = u32::try_from(std::thread::available_parallelism().ok()?.get()).ok()?;
        let own = (self.spent)().saturating_sub(self.own);
        Some(100.0 * without(busy, own, self.begin.elapsed() * processors))
    }
}

impl Ticks {
    fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq, softirq and steal; guests' time, which
    /// follows, is part of user.
    fn parse(stat: &str) -> Option<Self> {
        let numbers = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let ticks: Vec<u64> = numbers.map(str::parse).collect::<Result<_, _>>().ok()?;
        let [_, _, _, idle, iowait, ..] = ticks.as_slice() else { return None };
        let all = ticks.iter().sum();
        Some(Self { busy: all - idle - iowait, all })
    }

    /// The part of the time in which processors were busy.
    fn busy_since(self, before: Self) -> Option<f64> {
        let busy = u32::try_from(self.busy.checked_sub(before.busy)?).ok()?;
        let all = u32::try_from(self.all.checked_sub(before.all)?).ok()?;
        (all > 0).then(|| f64::from(busy) / f64::from(all))
    }
}

/// The part of a machine's time that is left once our own is taken from the busy part. Never negative, though the kernel's
/// ticks are coarse.
fn without(busy: f64, own: Duration, all: Duration) -> f64 {
    (busy - own.as_secs_f64() / all.as_secs_f64()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_line_is_read() {
        let stat = "cpu  10 2 30 400 50 6 7 8 99 99\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(Ticks::parse(stat), Some(Ticks { busy: 63, all: 513 }));
        for broken in ["", "cpu", "cpu  1 2 3 4", "intr 1 2 3 4 5 6 7 8", "cpu  1 2 3 4 five 6 7 8"] {
            assert_eq!(Ticks::parse(broken), None, "{broken}");
        }
        assert!(Ticks::now().is_some());
    }

    #[test]
    fn the_busy_part_is_that_of_the_time_between() {
        let [before, now] = [Ticks { busy: 100, all: 1000 }, Ticks { busy: 150, all: 1200 }];
        assert_eq!(now.busy_since(before), Some(0.25));
        assert_eq!(now.busy_since(now), None);
        assert_eq!(before.busy_since(now), None);
    }

    #[test]
    fn our_own_work_is_not_that_of_others() {
        let [one, four] = [1, 4].map(Duration::from_secs);
        assert_eq!(without(0.75, one, four), 0.5);
        assert_eq!(without(0.25, one, four), 0.0);
        assert_eq!(without(0.24, one, four), 0.0);
    }
}
