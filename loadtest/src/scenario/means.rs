//! What a scenario needs of a machine, and what the machine has. Pure but for [`Means::here`].

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::{Databases, Scenario, WorkKind};

/// What a machine has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// Descriptors that one process may have open.
    pub descriptors: u64,
    /// Memory that is free, or can be freed, in MiB.
    pub memory_mib: u64,
    /// Room where temporary files are, in MiB.
    pub disk_mib: u64,
    /// Processes that can be started.
    pub processes: u64,
    /// Ports that the kernel gives to outgoing connections from one address.
    pub ports: u64,
}

/// What the parts of a cluster need. Estimates, above what development builds were seen to need with 200 tenants of three sessions:
/// 4.2 MiB a sidecar, 1.8 MiB a session in PostgreSQL, and 270 MiB for the gateway, the chain node and this program.
mod unit {
    /// The gateway, the chain node, a database server without sessions and this program, in MiB.
    pub(super) const BASE_MIB: u64 = 700;
    /// A sidecar with its first sessions, in MiB.
    pub(super) const SIDECAR_MIB: u64 = 16;
    /// A session in PostgreSQL, the sidecar, the gateway and this program together, in MiB.
    pub(super) const SESSION_MIB: u64 = 5;
    /// A database server of a tenant's own, in MiB of memory.
    pub(super) const SERVER_MIB: u64 = 60;
    /// A database, in MiB of disk, without the rows.
    pub(super) const DATABASE_DISK_MIB: u64 = 9;
    /// A server of a tenant's own, in MiB of disk, with its log.
    pub(super) const SERVER_DISK_MIB: u64 = 100;
    /// What a shared server needs beside the databases, in MiB of disk: most of it is the log.
    pub(super) const LOG_DISK_MIB: u64 = 1500;
    /// A row with its index, in bytes of disk.
    pub(super) const ROW_BYTES: u64 = 200;
    /// What each process has open beside sessions.
    pub(super) const DESCRIPTORS: u64 = 300;
    /// What this program has open for each tenant.
    pub(super) const DESCRIPTORS_PER_TENANT: u64 = 4;
    /// How long a closed connection keeps its port, in seconds (Linux, TIME_WAIT).
    pub(super) const TIME_WAIT: f64 = 60.0;
}

/// Why a scenario cannot work with these means, and what to change. All reasons, not the first.
#[must_use]
pub fn shortfalls(scenario: &Scenario, means: &Means) -> Vec<String> {
    let [tenants, sessions] = [scenario.cluster.tenants, scenario.sessions()].map(as_u64);
    let mut found = Vec::new();
    let descriptors = sessions + tenants * unit::DESCRIPTORS_PER_TENANT + unit::DESCRIPTORS;
    if descriptors > means.descriptors {
        let room = means.descriptors.saturating_sub(tenants * unit::DESCRIPTORS_PER_TENANT + unit::DESCRIPTORS);
        found.push(format!(
            "{sessions} sessions need {descriptors} descriptors in one process, and {} are allowed: lower cluster.clients to {}, \
             or raise the limit (ulimit -Hn)",
            means.descriptors,
            room / tenants.max(1)
        ));
    }
    ports(scenario, means, &mut found);
    if scenario.cluster.databases == Databases::Echo {
        return found;
    }
    let each = scenario.cluster.databases == Databases::Each;
    let memory = unit::BASE_MIB
        + tenants * (unit::SIDECAR_MIB + if each { unit::SERVER_MIB } else { 0 })
        + sessions * unit::SESSION_MIB;
    if memory > means.memory_mib {
        found.push(format!(
            "about {memory} MiB of memory are needed, and {} are free: lower cluster.tenants or cluster.clients",
            means.memory_mib
        ));
    }
    let rows: u64 = (0..scenario.cluster.tenants).map(|tenant| u64::from(scenario.work_of(tenant).rows)).sum();
    let rows = rows * unit::ROW_BYTES / (1024 * 1024);
    let disk = rows + tenants * if each { unit::SERVER_DISK_MIB } else { unit::DATABASE_DISK_MIB } + unit::LOG_DISK_MIB;
    if disk > means.disk_mib {
        found.push(format!(
            "about {disk} MiB of disk are needed, and {} are free: lower cluster.tenants or work.rows, set cluster.databases to \
             \"shared\", or keep the state elsewhere (--state)",
            means.disk_mib
        ));
    }
    let processes = tenants * if each { 10 } else { 2 } + sessions + 50;
    if processes > means.processes {
        found.push(format!(
            "about {processes} processes are needed, and {} are allowed: lower cluster.clients, or raise the limit (ulimit -u)",
            means.processes
        ));
    }
    found
}

/// Each tenant's clients have an address of their own, and so all ports of it.
fn ports(scenario: &Scenario, means: &Means, found: &mut Vec<String>) {
    let most = (0..scenario.cluster.tenants).map(|tenant| scenario.clients(tenant)).max().unwrap_or(0);
    if as_u64(most) > means.ports {
        found.push(format!(
            "a tenant cannot have {most} sessions: its address has {} ports; lower cluster.clients or noisy.clients",
            means.ports
        ));
    }
    if scenario.work.kind != WorkKind::Connect {
        return;
    }
    for phase in &scenario.phases {
        let load = scenario.load(phase);
        let busiest = load.shares().into_iter().fold(0.0, f64::max) * load.rate;
        let closing = busiest * unit::TIME_WAIT.min(phase.length.as_secs_f64());
        if closing > crate::fairness::ratio(means.ports, 1) {
            found.push(format!(
                "phase {}: {busiest:.0} connections a second of one tenant use up the {} ports of its address, each for a \
                 minute: lower arrivals.rate or the length, or have more tenants share the rate",
                phase.name, means.ports
            ));
        }
    }
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Means {
    /// What this machine has; `folder` is where the state will be. What the system does not tell is taken as without limit.
    #[must_use]
    pub fn here(folder: &Path) -> Self {
        let limit = |resource| getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let available = available.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        let pids = read("/proc/sys/kernel/pid_max").trim().parse().unwrap_or(u64::MAX);
        let range = read("/proc/sys/net/ipv4/ip_local_port_range");
        let range: Vec<u64> = range.split_whitespace().filter_map(|bound| bound.parse().ok()).collect();
        let ports = match range.as_slice() {
            [first, last] => last.saturating_sub(*first) + 1,
            _ => u64::MAX,
        };
        let disk = rustix::fs::statvfs(folder).map(|room| room.f_bavail.saturating_mul(room.f_frsize));
        Self {
            descriptors: limit(Resource::Nofile),
            memory_mib: available.map_or(u64::MAX, |kib| kib / 1024),
            disk_mib: disk.map_or(u64::MAX, |bytes| bytes / (1024 * 1024)),
            processes: limit(Resource::Nproc).min(pids),
            ports,
        }
    }
}
