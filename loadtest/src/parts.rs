//! CPU and memory of every part, as the kernel tells them in /proc.

mod proc;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use crate::peers::Front;
use crate::result::{Part, PartKind, PartSample};
use proc::{Usage, machine_busy, memory, usage};

/// How often CPU time is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often memory is looked at, for which the kernel walks through all pages of a process.
const MEMORY: Duration = Duration::from_secs(10);
/// The lowest priority: looking at the memory of a thousand processes takes a second of CPU time, which is to be taken from nobody.
const LOWEST: i32 = 19;

/// Looks at all parts until it is finished: at CPU time once a second, at memory now and then, each on a thread of its own.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: [Sender<()>; 2],
    looking: JoinHandle<Vec<Look>>,
    weighing: JoinHandle<Vec<Weight>>,
}

/// One look at the machine's time.
#[derive(Debug, Clone)]
struct Look {
    at: Duration,
    parts: BTreeMap<PartKind, Usage>,
    /// CPU time that the whole machine has spent, in seconds; `None` where the kernel does not tell.
    busy: Option<f64>,
}

/// One look at memory: when it began, and the parts' MiB.
#[derive(Debug, Clone)]
struct Weight {
    at: Duration,
    parts: BTreeMap<PartKind, f64>,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    looks: Vec<Look>,
    weights: Vec<Weight>,
}

impl Watch {
    /// Watches the processes that a pid file names, and this one. Without a file, only this one.
    pub(crate) fn start(pid_file: Option<PathBuf>, begin: Instant, front: Front) -> std::io::Result<Self> {
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let (stop_looking, stopped) = channel();
        let file = pid_file.clone();
        let look = move || look(file.as_ref(), front, begin.elapsed());
        let looking = thread("watch").spawn(move || repeat(look, LOOK, begin, &stopped))?;
        let (stop_weighing, stopped) = channel();
        let weigh = move || weigh(pid_file.as_ref(), front, begin.elapsed());
        let weighing = thread("memory").spawn(move || {
            // Of this thread alone, as Linux has it (setpriority(2)). Where it is refused, the look costs what it costs.
            setpriority_process(None, LOWEST).unwrap_or_default();
            repeat(weigh, MEMORY, begin, &stopped)
        })?;
        Ok(Self { stop: [stop_looking, stop_weighing], looking, weighing })
    }

    /// Looks for the last time.
    pub(crate) fn finish(self) -> Seen {
        drop(self.stop);
        let looks = self.looking.join().unwrap_or_default();
        Seen { looks, weights: self.weighing.join().unwrap_or_default() }
    }
}

/// Looks at once, whenever a multiple of `period` has passed since the beginning, and when it is stopped.
fn repeat<T>(look: impl Fn() -> T, period: Duration, begin: Instant, stopped: &Receiver<()>) -> Vec<T> {
    let mut seen = vec![look()];
    loop {
        // Where the machine is so busy that looks come late, those that were missed are not caught up with.
        let passed = begin.elapsed().as_nanos() % period.as_nanos();
        let next = period.saturating_sub(Duration::from_nanos(u64::try_from(passed).unwrap_or_default()));
        let last = stopped.recv_timeout(next) != Err(RecvTimeoutError::Timeout);
        seen.push(look());
        if last {
            return seen;
        }
    }
}

fn look(pid_file: Option<&PathBuf>, front: Front, at: Duration) -> Look {
    let mut parts: BTreeMap<PartKind, Usage> = BTreeMap::new();
    for (kind, pid) in processes(pid_file, front) {
        parts.entry(kind).or_default().add(usage(pid, has_family(kind)));
    }
    Look { at, parts, busy: machine_busy() }
}

fn weigh(pid_file: Option<&PathBuf>, front: Front, at: Duration) -> Weight {
    let mut parts: BTreeMap<PartKind, f64> = BTreeMap::new();
    for (kind, pid) in processes(pid_file, front) {
        *parts.entry(kind).or_default() += memory(pid, has_family(kind));
    }
    Weight { at, parts }
}

fn processes(pid_file: Option<&PathBuf>, front: Front) -> Vec<(PartKind, u32)> {
    let lines = pid_file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let mut processes: Vec<(PartKind, u32)> = lines.lines().filter_map(|line| parse(line, front)).collect();
    processes.push((PartKind::Generator, std::process::id()));
    processes
}

/// Whether what belongs to it runs in children too.
fn has_family(kind: PartKind) -> bool {
    matches!(kind, PartKind::Databases | PartKind::Edge)
}

/// A line of a pid file: the pid, when it was started, and the name.
fn parse(line: &str, front: Front) -> Option<(PartKind, u32)> {
    let mut words = line.split(' ');
    let pid = words.next()?.parse().ok()?;
    let name = words.nth(1)?;
    let kind = match name {
        name if front.has(name) => PartKind::Edge,
        "anvil" => PartKind::Chain,
        name if name.ends_with("-sidecar") => PartKind::Sidecars,
        name if name.starts_with("postgres") => PartKind::Databases,
        _ => PartKind::Simulated,
    };
    Some((kind, pid))
}

impl Weight {
    fn of(&self, kind: PartKind) -> f64 {
        self.parts.get(&kind).copied().unwrap_or_default()
    }
}

impl Seen {
    /// The parts, with the CPU time that they spent within the given times.
    pub(crate) fn parts(&self, measured: &[(Duration, Duration)]) -> Vec<Part> {
        let mut kinds: Vec<PartKind> = self.looks.iter().flat_map(|look| look.parts.keys().copied()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.into_iter().map(|kind| self.part(kind, measured)).collect()
    }

    fn part(&self, kind: PartKind, measured: &[(Duration, Duration)]) -> Part {
        let of = |look: &Look| look.parts.get(&kind).copied().unwrap_or_default();
        let pairs = self.looks.iter().zip(self.looks.iter().skip(1));
        // CPU time comes in ticks: of what was used within a few of them, nobody can tell how fast that was.
        let pairs = pairs.filter(|(before, now)| now.at.saturating_sub(before.at) >= LOOK / 4);
        let samples = pairs.map(|(before, now)| PartSample {
            at_s: now.at.as_secs_f64(),
            cpu: rate(of(before).cpu, of(now).cpu, now.at.saturating_sub(before.at)),
            memory_mib: self.memory(kind, now.at),
        });
        let spent = |(from, to): &(Duration, Duration)| {
            let (from, to) = (self.nearest(*from).map(of), self.nearest(*to).map(of));
            from.zip(to).map_or(0.0, |(from, to)| (to.cpu - from.cpu).max(0.0))
        };
        Part {
            name: name(kind).to_owned(),
            kind,
            processes: self.looks.iter().map(|look| of(look).processes).max().unwrap_or_default(),
            cpu_seconds: measured.iter().map(spent).sum(),
            peak_memory_mib: self.weights.iter().map(|weight| weight.of(kind)).fold(0.0, f64::max),
            samples: samples.collect(),
        }
    }

    /// The part of the machine's processors that others than the parts took within the given times, from 0 to 1.
    pub(crate) fn others(&self, measured: &[(Duration, Duration)], cores: u32) -> Option<f64> {
        let (mut others, mut all) = (0.0, 0.0);
        for (from, to) in measured {
            let (from, to) = (self.nearest(*from)?, self.nearest(*to)?);
            let own = |look: &Look| look.parts.values().map(|usage| usage.cpu).sum::<f64>();
            others += (to.busy? - from.busy?) - (own(to) - own(from));
            all += (to.at.saturating_sub(from.at)).as_secs_f64() * f64::from(cores);
        }
        (all > 0.0).then(|| (others / all).clamp(0.0, 1.0))
    }

    /// The part of the machine's processors that were busy within the given times, from 0 to 1.
    pub(crate) fn busy(&self, measured: &[(Duration, Duration)], cores: u32) -> Option<f64> {
        let (mut busy, mut all) = (0.0, 0.0);
        for (from, to) in measured {
            let (from, to) = (self.nearest(*from)?, self.nearest(*to)?);
            busy += to.busy? - from.busy?;
            all += to.at.saturating_sub(from.at).as_secs_f64() * f64::from(cores);
        }
        (all > 0.0).then(|| (busy / all).clamp(0.0, 1.0))
    }

    /// The memory of a part as last looked at: between two looks, it is what it was.
    fn memory(&self, kind: PartKind, at: Duration) -> f64 {
        let before = self.weights.iter().rfind(|weight| weight.at <= at);
        before.or(self.weights.first()).map_or(0.0, |weight| weight.of(kind))
    }

    fn nearest(&self, at: Duration) -> Option<&Look> {
        self.looks.iter().min_by_key(|look| look.at.abs_diff(at))
    }
}

/// Processors kept busy. A process that was started anew has spent less than before.
fn rate(before: f64, now: f64, between: Duration) -> f64 {
    if between.is_zero() { 0.0 } else { (now - before).max(0.0) / between.as_secs_f64() }
}

fn name(kind: PartKind) -> &'static str {
    match kind {
        PartKind::Edge => "edge",
        PartKind::Sidecars => "sidecars",
        PartKind::Databases => "databases",
        PartKind::Chain => "chain",
        PartKind::Simulated => "simulated hardware",
        PartKind::Generator => "generator",
    }
}

#[cfg(test)]
mod tests;
