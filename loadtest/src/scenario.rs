//! Scenarios: what is to be started, what is asked of it, and what is done to it meanwhile.

mod events;
mod means;
mod read;
mod shipped;

use std::time::Duration;

use crate::arrivals::{Load, Pace, zipf};

pub use events::{Action, Churn, Event, Target};
pub use means::{Means, shortfalls};
pub use shipped::{SHIPPED, Shipped};

/// The most tenants that a cluster on one machine has.
pub const MAX_TENANTS: usize = 500;

/// One scenario, without a mistake in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it shows, in a sentence.
    pub about: String,
    /// What every random choice comes from, when the scenario says so.
    pub seed: Option<u64>,
    /// What is started.
    pub cluster: Cluster,
    /// What is asked of it.
    pub work: Work,
    /// What else: tenants take turns among it and these.
    pub mixes: Vec<Work>,
    /// How it is asked.
    pub arrivals: Arrivals,
    /// The tenant that asks for more than its share.
    pub noisy: Option<Noisy>,
    /// One after the other.
    pub phases: Vec<Phase>,
    /// What is done to the cluster, in the order of time.
    pub events: Vec<Event>,
    /// Tenants that come and go.
    pub churn: Option<Churn>,
    /// Every setting, for the record.
    pub settings: std::collections::BTreeMap<String, String>,
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// How many tenants.
    pub tenants: usize,
    /// How many sessions each tenant's clients keep, or open at once.
    pub clients: usize,
    /// Where the databases are.
    pub databases: Databases,
    /// How many connections the gateway gives each app at once, when that is limited.
    pub connections_per_app: Option<u32>,
}

/// Where the databases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Databases {
    /// One PostgreSQL server holds a database and roles for each tenant.
    Shared,
    /// Each tenant has a server of its own.
    Each,
    /// There is no cluster at all, but a server in this process that gives the same answer to everything: what is measured
    /// then is the generator.
    Echo,
}

impl Databases {
    /// The word in the scenario.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Each => "each",
            Self::Echo => "echo",
        }
    }
}

/// What one piece of work is.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// The kind of work.
    pub kind: WorkKind,
    /// How many rows each tenant's table has.
    pub rows: u32,
    /// The part of work that writes, from 0 to 1, for key-value.
    pub writes: f64,
    /// How many bytes one COPY moves.
    pub bytes: u64,
    /// When a piece of work that is not done has failed, counted from when it was due.
    pub timeout: Duration,
}

/// The kind of work.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkKind {
    /// One query without a table, on a session that is kept.
    Ping,
    /// A session is opened, asks one query and is closed.
    Connect,
    /// One row is read or written by its key.
    KeyValue,
    /// The transaction of TPC-B, as pgbench has it.
    TpcB,
    /// A COPY into the database, or out of it.
    Copy,
    /// A script of pgbench, and what prepares the tables for it.
    Script {
        /// The script.
        script: crate::work::Script,
        /// SQL that is run once per tenant.
        setup: String,
    },
    /// Nothing: sessions are only kept.
    Idle,
}

impl WorkKind {
    /// Whether sessions outlast a piece of work.
    #[must_use]
    pub fn keeps_sessions(&self) -> bool {
        !matches!(self, Self::Connect)
    }

    /// The word in the scenario.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Connect => "connect",
            Self::KeyValue => "key-value",
            Self::TpcB => "tpcb",
            Self::Copy => "copy",
            Self::Script { .. } => "script",
            Self::Idle => "idle",
        }
    }
}

/// How work arrives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrivals {
    /// How many pieces of work arrive a second, from all tenants together.
    pub rate: f64,
    /// How they follow each other.
    pub pace: Pace,
    /// The exponent of Zipf's law over the tenants; with 0 all ask for the same.
    pub zipf: f64,
}

/// The tenant that asks for more than its share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noisy {
    /// Which one.
    pub tenant: usize,
    /// How many times what it asks for otherwise.
    pub factor: f64,
    /// How many sessions it opens.
    pub clients: usize,
}

/// One phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long work arrives.
    pub length: Duration,
    /// Whether it counts. What does not is warm-up.
    pub measured: bool,
    /// The rate, where it differs from that of the scenario.
    pub rate: Option<f64>,
    /// Whether the noisy tenant is noisy.
    pub noisy: bool,
    /// How many connections the gateway gives each app from here on, where that changes.
    pub connections_per_app: Option<u32>,
}

impl Scenario {
    /// What a tenant asks.
    #[must_use]
    pub fn work_of(&self, tenant: usize) -> &Work {
        let turn = tenant % (self.mixes.len() + 1);
        turn.checked_sub(1).and_then(|further| self.mixes.get(further)).unwrap_or(&self.work)
    }

    /// What arrives in a phase.
    #[must_use]
    pub fn load(&self, phase: &Phase) -> Load {
        let rate = if self.work.kind == WorkKind::Idle { 0.0 } else { phase.rate.unwrap_or(self.arrivals.rate) };
        let weights = zipf(self.cluster.tenants, self.arrivals.zipf);
        let load = Load { rate, pace: self.arrivals.pace, weights };
        match self.noisy.filter(|_| phase.noisy) {
            Some(noisy) => load.with_noise(noisy.tenant, noisy.factor),
            None => load,
        }
    }

    /// How long all phases take together.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.phases.iter().map(|phase| phase.length).sum()
    }

    /// How many sessions a tenant's clients open.
    #[must_use]
    pub fn clients(&self, tenant: usize) -> usize {
        match self.noisy {
            Some(noisy) if noisy.tenant == tenant => noisy.clients,
            _ => self.cluster.clients,
        }
    }

    /// How many of them a gateway lets in that gives each app so many connections at once.
    #[must_use]
    pub fn sessions_within(&self, tenant: usize, limit: Option<u32>) -> usize {
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        self.clients(tenant).min(limit)
    }

    /// How many connections at once the gateway gives each app in the end, when that is limited.
    #[must_use]
    pub fn last_limit(&self) -> Option<u32> {
        let changed = self.phases.iter().rev().find_map(|phase| phase.connections_per_app);
        changed.or(self.cluster.connections_per_app)
    }

    /// How many sessions there are in all.
    #[must_use]
    pub fn sessions(&self) -> usize {
        (0..self.cluster.tenants).map(|tenant| self.clients(tenant)).sum()
    }

    /// Whether something is done to packets, for which they have to pass a stage.
    #[must_use]
    pub fn needs_link(&self) -> bool {
        self.events.iter().any(|event| matches!(event.action, Action::Partition | Action::LossyLink { .. }))
    }
}

#[cfg(test)]
mod tests;
