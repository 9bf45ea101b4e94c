//! CPU and memory of every part, as the kernel tells them in /proc.

mod proc;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::peers::Front;
use crate::result::{Part, PartKind, PartSample};
use proc::{Usage, machine_busy, usage};

/// How often CPU time is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How many looks there are between two looks at memory, which cost far more.
const MEMORY: u32 = 10;

/// Looks at all parts once a second, on a thread of its own, until it is finished.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Sender<()>,
    watching: JoinHandle<Vec<Look>>,
}

/// One look at the machine.
#[derive(Debug, Clone)]
struct Look {
    at: Duration,
    parts: BTreeMap<PartKind, Usage>,
    /// CPU time that the whole machine has spent, in seconds; `None` where the kernel does not tell.
    busy: Option<f64>,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen(Vec<Look>);

impl Watch {
    /// Watches the processes that a pid file names, and this one. Without a file, only this one.
    pub(crate) fn start(pid_file: Option<PathBuf>, begin: Instant, front: Front) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let watching = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || watch(pid_file, begin, front, &stopped))?;
        Ok(Self { stop, watching })
    }

    /// Looks for the last time.
    pub(crate) fn finish(self) -> Seen {
        drop(self.stop);
        Seen(self.watching.join().unwrap_or_default())
    }
}

fn watch(pid_file: Option<PathBuf>, begin: Instant, front: Front, stopped: &Receiver<()>) -> Vec<Look> {
    let (mut looks, mut memory) = (Vec::new(), BTreeMap::new());
    for number in 0_u32.. {
        let mut last = false;
        if number > 0 {
            // Where the machine is so busy that looks come late, those that were missed are not caught up with.
            let next = LOOK.saturating_sub(Duration::from_nanos(begin.elapsed().subsec_nanos().into()));
            last = stopped.recv_timeout(next) != Err(RecvTimeoutError::Timeout);
        }
        let with_memory = last || number.is_multiple_of(MEMORY);
        let mut parts = look(pid_file.as_ref(), front, with_memory);
        for (kind, usage) in &mut parts {
            // Between two looks, memory is what it was.
            if with_memory {
                memory.insert(*kind, usage.memory);
            } else {
                usage.memory = memory.get(kind).copied().unwrap_or_default();
            }
        }
        looks.push(Look { at: begin.elapsed(), parts, busy: machine_busy() });
        if last {
            break;
        }
    }
    looks
}

fn look(pid_file: Option<&PathBuf>, front: Front, with_memory: bool) -> BTreeMap<PartKind, Usage> {
    let lines = pid_file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let mut processes: Vec<(PartKind, u32)> = lines.lines().filter_map(|line| parse(line, front)).collect();
    processes.push((PartKind::Generator, std::process::id()));
    let mut parts: BTreeMap<PartKind, Usage> = BTreeMap::new();
    for (kind, pid) in processes {
        parts.entry(kind).or_default().add(usage(
            pid,
            matches!(kind, PartKind::Databases | PartKind::Edge),
            with_memory,
        ));
    }
    parts
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

impl Seen {
    /// The parts, with the CPU time that they spent within the given times.
    pub(crate) fn parts(&self, measured: &[(Duration, Duration)]) -> Vec<Part> {
        let mut kinds: Vec<PartKind> = self.0.iter().flat_map(|look| look.parts.keys().copied()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.into_iter().map(|kind| self.part(kind, measured)).collect()
    }

    fn part(&self, kind: PartKind, measured: &[(Duration, Duration)]) -> Part {
        let of = |look: &Look| look.parts.get(&kind).copied().unwrap_or_default();
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        // CPU time comes in ticks: of what was used within a few of them, nobody can tell how fast that was.
        let pairs = pairs.filter(|(before, now)| now.at.saturating_sub(before.at) >= LOOK / 4);
        let samples = pairs.map(|(before, now)| PartSample {
            at_s: now.at.as_secs_f64(),
            cpu: rate(of(before).cpu, of(now).cpu, now.at.saturating_sub(before.at)),
            memory_mib: of(now).memory,
        });
        let spent = |(from, to): &(Duration, Duration)| {
            let (from, to) = (self.nearest(*from).map(of), self.nearest(*to).map(of));
            from.zip(to).map_or(0.0, |(from, to)| (to.cpu - from.cpu).max(0.0))
        };
        Part {
            name: name(kind).to_owned(),
            kind,
            processes: self.0.iter().map(|look| of(look).processes).max().unwrap_or_default(),
            cpu_seconds: measured.iter().map(spent).sum(),
            peak_memory_mib: self.0.iter().map(|look| of(look).memory).fold(0.0, f64::max),
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

    fn nearest(&self, at: Duration) -> Option<&Look> {
        self.0.iter().min_by_key(|look| look.at.abs_diff(at))
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
