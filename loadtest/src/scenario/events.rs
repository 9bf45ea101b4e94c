//! What is done to a cluster while it works.

use std::time::Duration;

use postern_plumbing::config::Section;

use super::Phase;
use crate::arrivals::fraction;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// The longest delay of a flush that PostgreSQL can be told to add.
const SLOWEST_DISK: Duration = Duration::from_millis(100);

/// Something that is done.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// In which phase, by its number.
    pub phase: usize,
    /// When, from the beginning of the phase.
    pub at: Duration,
    /// For how long, for what has an end of its own.
    pub lasts: Duration,
    /// What.
    pub action: Action,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// A process is killed, and started again at once.
    Kill(Target),
    /// A process is asked to end, and started again when it has.
    Restart(Target),
    /// A process is halted for a while.
    Stop(Target),
    /// No packet passes between the gateway and any tenant for a while.
    Partition,
    /// Packets between the gateway and the tenants are lost or late for a while.
    LossyLink {
        /// The part that is lost, from 0 to 1.
        loss: f64,
        /// How long each takes.
        delay: Duration,
    },
    /// Each flush of a database's log takes longer for a while.
    SlowDisk {
        /// Whose database.
        tenant: usize,
        /// How much longer.
        delay: Duration,
    },
    /// The chain withdraws a tenant's app, and allows it again after a while.
    Revoke {
        /// Whose.
        tenant: usize,
    },
    /// A tenant leaves: its sidecar ends in order. It comes back after a while.
    Leave {
        /// Who.
        tenant: usize,
    },
}

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The gateway.
    Gateway,
    /// A tenant's sidecar.
    Sidecar(usize),
    /// The server that holds a tenant's database.
    Database(usize),
}

/// Tenants that come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Churn {
    /// How often one leaves, in measured phases.
    pub every: Duration,
    /// How long it stays away.
    pub away: Duration,
}

impl Action {
    /// The tenant that it is about, if it is about one.
    #[must_use]
    pub fn tenant(&self) -> Option<usize> {
        match self {
            Self::Kill(target) | Self::Restart(target) | Self::Stop(target) => match target {
                Target::Gateway => None,
                Target::Sidecar(tenant) | Target::Database(tenant) => Some(*tenant),
            },
            Self::SlowDisk { tenant, .. } | Self::Revoke { tenant } | Self::Leave { tenant } => Some(*tenant),
            Self::Partition | Self::LossyLink { .. } => None,
        }
    }

    /// Whether it lasts for a while.
    fn lasts(&self) -> bool {
        !matches!(self, Self::Kill(_) | Self::Restart(_))
    }
}

impl Churn {
    /// Reads a section with the keys `every` and `away`; nothing when it is not there.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        if section.keys().is_empty() {
            return None;
        }
        let churn = Self { every: section.required("every")?, away: section.required("away")? };
        if churn.away >= churn.every {
            section.problem("away", "has to be shorter than `every`: one tenant is away at a time");
        }
        Some(churn)
    }

    /// Who leaves when. Each leaver is chosen at random.
    #[must_use]
    pub fn events(self, seed: u64, phases: &[Phase], tenants: usize) -> Vec<Event> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut events = Vec::new();
        for (number, phase) in phases.iter().enumerate().filter(|(_, phase)| phase.measured) {
            let mut at = self.every;
            while at + self.away < phase.length {
                let tenant = choose(fraction(random.next_u64()), tenants);
                events.push(Event { phase: number, at, lasts: self.away, action: Action::Leave { tenant } });
                at += self.every;
            }
        }
        events
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of a small number")]
fn choose(fraction: f64, of: usize) -> usize {
    (fraction * f64::from(u32::try_from(of).unwrap_or(u32::MAX))) as usize
}

impl Event {
    /// Reads one of `[[events]]`. Mistakes are recorded there.
    pub(super) fn read(section: &mut Section<'_>, phases: &[Phase], tenants: usize) -> Option<Self> {
        let name: Option<String> = section.required("phase");
        let phase = name.and_then(|name| phases.iter().position(|phase| phase.name == name));
        if phase.is_none() && section.has("phase") {
            section.problem("phase", "there is no phase of this name");
        }
        let at: Option<Duration> = section.required("at");
        let action = read_action(section, tenants);
        let lasts: Option<Duration> = section.optional("for");
        match &action {
            Some(action) if action.lasts() && lasts.is_none() => {
                section.problem("for", "missing; expected how long it lasts");
            }
            Some(action) if !action.lasts() && lasts.is_some() => {
                section.problem("for", "a process that is killed or restarted is started again at once");
            }
            _ => {}
        }
        let (phase, at, lasts) = (phase?, at?, lasts.unwrap_or_default());
        if phases.get(phase).is_some_and(|phase| at + lasts > phase.length) {
            section.problem("at", "it would not be over when its phase is");
        }
        Some(Self { phase, at, lasts, action: action? })
    }
}

fn read_action(section: &mut Section<'_>, tenants: usize) -> Option<Action> {
    const WORDS: &str = "expected \"kill\", \"restart\", \"stop\", \"partition\", \"lossy-link\", \"slow-disk\", \"revoke\" or \
                         \"leave\"";
    let word: String = section.required("do")?;
    match word.as_str() {
        "kill" => read_target(section, tenants).map(Action::Kill),
        "restart" => read_target(section, tenants).map(Action::Restart),
        "stop" => read_target(section, tenants).map(Action::Stop),
        "partition" => Some(Action::Partition),
        "lossy-link" => {
            let (loss, delay) = (section.or("loss", 0.0), section.or("delay", Duration::ZERO));
            if !(0.0..=1.0).contains(&loss) {
                section.problem("loss", "expected a part, from 0 to 1");
            }
            Some(Action::LossyLink { loss, delay })
        }
        "slow-disk" => {
            let delay: Option<Duration> = section.required("delay");
            if delay.is_some_and(|delay| delay > SLOWEST_DISK) {
                section.problem("delay", "PostgreSQL can wait for at most 100ms before it flushes");
            }
            Some(Action::SlowDisk { tenant: read_tenant(section, tenants)?, delay: delay? })
        }
        "revoke" => Some(Action::Revoke { tenant: read_tenant(section, tenants)? }),
        "leave" => Some(Action::Leave { tenant: read_tenant(section, tenants)? }),
        _ => {
            section.problem("do", WORDS);
            None
        }
    }
}

fn read_target(section: &mut Section<'_>, tenants: usize) -> Option<Target> {
    let part: String = section.required("part")?;
    match part.as_str() {
        "gateway" => Some(Target::Gateway),
        "sidecar" => read_tenant(section, tenants).map(Target::Sidecar),
        "database" => read_tenant(section, tenants).map(Target::Database),
        _ => {
            section.problem("part", "expected \"gateway\", \"sidecar\" or \"database\"");
            None
        }
    }
}

fn read_tenant(section: &mut Section<'_>, tenants: usize) -> Option<usize> {
    let tenant: usize = section.required("tenant")?;
    if tenant >= tenants {
        section.problem("tenant", format!("there are {tenants} tenants, counted from 0"));
        return None;
    }
    Some(tenant)
}

/// Whether each event is over when the next one begins.
pub(super) fn are_apart(events: &[Event]) -> bool {
    events.iter().zip(events.iter().skip(1)).all(|(one, next)| one.phase < next.phase || one.at + one.lasts <= next.at)
}
