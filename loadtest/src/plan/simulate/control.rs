//! What a simulated control plane is made of.

use std::time::Duration;

/// A fleet, what its parts cost, and the bounds that the programs keep.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Control {
    /// CVMs that register, each with one gateway.
    pub(crate) cvms: usize,
    /// Gateways; a newcomer goes to any that is there, each as likely as the others.
    pub(crate) gateways: usize,
    /// Processor cores of a gateway.
    pub(crate) cores: u32,
    /// A round trip between a CVM and a gateway.
    pub(crate) round_trip: Duration,
    /// What takes a gateway's processors.
    pub(crate) work: Work,
    /// The chain's endpoints.
    pub(crate) chain: ChainModel,
    /// Writes a second that the registry of the whole fleet takes.
    pub(crate) registry_writes: f64,
    /// What the programs do by themselves.
    pub(crate) bounds: Bounds,
}

/// Processor time of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    /// Our half of a mutual handshake.
    pub(crate) handshake: Duration,
    /// Judging evidence that this gateway has not seen before.
    pub(crate) appraisal: Duration,
    /// Renewing a registration over its connection.
    pub(crate) renewal: Duration,
    /// Refusing an instance and cutting its sessions.
    pub(crate) cut: Duration,
}

/// Who is asked whether a CVM may run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ChainModel {
    /// Endpoints, all of which are asked everything.
    pub(crate) endpoints: usize,
    /// How many have to agree.
    pub(crate) quorum: usize,
    /// Questions a second that one endpoint answers, for all gateways together.
    pub(crate) questions_per_second: f64,
    /// A round trip between a gateway and an endpoint.
    pub(crate) round_trip: Duration,
    /// Questions in one request.
    pub(crate) batch: usize,
    /// Questions between two looks at the head.
    pub(crate) round: usize,
    /// How often the head is looked at.
    pub(crate) poll: Duration,
    /// How long a request may take.
    pub(crate) deadline: Duration,
}

/// Limits, deadlines and pauses, as the programs have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Registration connections that a gateway holds.
    pub(crate) registrations: usize,
    /// How often a registration is renewed.
    pub(crate) refresh: Duration,
    /// When a CVM gives up an attempt or a renewal.
    pub(crate) give_up: Duration,
    /// Pauses after an attempt that failed: up to the first, doubling up to the second.
    pub(crate) pauses: (Duration, Duration),
    /// The same after one that the chain had refused.
    pub(crate) refused_pauses: (Duration, Duration),
}

/// What happens to the fleet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scenario {
    /// Nobody is registered, and all CVMs boot within this time.
    ColdStart(Duration),
    /// All are registered; the first gateways, so many, vanish without a word.
    RegionLost(usize),
    /// All are registered; the first CVMs, so many, are revoked in one block. `rules` says that a rule for all changed, so
    /// that each gateway asks about everybody.
    Revocation {
        /// How many CVMs may not run any more.
        revoked: usize,
        /// Whether everybody is asked about, or only those concerned.
        rules: bool,
    },
}

#[cfg(test)]
impl Control {
    /// A fleet that is small and quick.
    pub(super) fn small() -> Self {
        let (milli, micro) = (Duration::from_millis, Duration::from_micros);
        Self {
            cvms: 1_000,
            gateways: 4,
            cores: 2,
            round_trip: milli(1),
            work: Work { handshake: micro(400), appraisal: milli(1), renewal: micro(100), cut: micro(50) },
            chain: ChainModel {
                endpoints: 3,
                quorum: 2,
                questions_per_second: 5_000.0,
                round_trip: milli(1),
                batch: 50,
                round: 400,
                poll: milli(250),
                deadline: Duration::from_secs(5),
            },
            registry_writes: 3_000.0,
            bounds: Bounds {
                registrations: 4_096,
                refresh: Duration::from_secs(60),
                give_up: Duration::from_secs(15),
                pauses: (milli(200), Duration::from_secs(2)),
                refused_pauses: (milli(500), Duration::from_secs(30)),
            },
        }
    }
}
