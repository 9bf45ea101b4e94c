//! What the programs of a fleet do by themselves: their limits, deadlines and pauses.

use std::time::Duration;

use super::costs::Costs;
use super::simulate::{self, ChainModel, Control};

/// Limits and intervals of the gateway, as its default configuration has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// `limits.connections`.
    pub(crate) sessions: u32,
    /// `limits.registrations`.
    pub(crate) registrations: u32,
    /// `chain.max_workloads`.
    pub(crate) workloads: u32,
    /// Addresses of `wireguard.network`, without its own two and the gateway's.
    pub(crate) addresses: u32,
    /// `registration.refresh`.
    pub(crate) refresh: Duration,
    /// `chain.poll_interval`.
    pub(crate) poll: Duration,
    /// `chain.call_deadline`.
    pub(crate) call_deadline: Duration,
    /// `chain.sweep_interval`.
    pub(crate) sweep: Duration,
}

/// The defaults.
pub(crate) const BOUNDS: Bounds = Bounds {
    sessions: 10_000,
    registrations: 4_096,
    workloads: 50_000,
    addresses: 65_533,
    refresh: Duration::from_secs(60),
    poll: Duration::from_millis(250),
    call_deadline: Duration::from_secs(5),
    sweep: Duration::from_secs(300),
};

/// How the gateway asks the chain: so many questions in a request, and so many between two looks at the head.
const BATCH: usize = 50;
const ROUND: usize = 400;

/// The sidecar's patience with a registration, and its pauses after one that failed and one that was refused.
const GIVE_UP: Duration = Duration::from_secs(15);
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
const REFUSED_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The chain's endpoints, and the ways to and from a gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings {
    pub(crate) cores: u32,
    pub(crate) endpoints: usize,
    pub(crate) round_trip: Duration,
}

/// A fleet that can be simulated.
pub(crate) fn control(costs: &Costs, cvms: usize, gateways: usize, around: Surroundings) -> Control {
    Control {
        cvms,
        gateways,
        cores: around.cores,
        round_trip: around.round_trip,
        work: costs.registration,
        chain: ChainModel {
            endpoints: around.endpoints,
            // More than half, as the gateway wants when nothing else is said.
            quorum: around.endpoints / 2 + 1,
            questions_per_second: costs.questions_per_second,
            round_trip: around.round_trip,
            batch: BATCH,
            round: ROUND,
            poll: BOUNDS.poll,
            deadline: BOUNDS.call_deadline,
        },
        registry_writes: costs.registry_writes,
        bounds: simulate::Bounds {
            registrations: usize::try_from(BOUNDS.registrations).unwrap_or(usize::MAX),
            refresh: BOUNDS.refresh,
            give_up: GIVE_UP,
            pauses: PAUSES,
            refused_pauses: REFUSED_PAUSES,
        },
    }
}

#[cfg(test)]
mod tests {
    fn source(path: &str) -> String {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        std::fs::read_to_string(file).unwrap()
    }

    #[test]
    fn the_bounds_are_those_of_the_gateway_s_default_configuration() {
        let text = source("gateway/gateway.toml");
        for line in [
            "connections = 10000",
            "registrations = 4096",
            "max_workloads = 50000",
            "network = \"10.74.0.0/16\"",
            "refresh = \"60s\"",
            "poll_interval = \"250ms\"",
            "call_deadline = \"5s\"",
            "sweep_interval = \"5m\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn the_constants_are_those_of_the_programs() {
        for (file, line) in [
            ("contracts/watch/src/ask.rs", "const BATCH: usize = 50;"),
            ("contracts/watch/src/follow.rs", "const ROUND: usize = 400;"),
            ("sidecar/src/tunnel/registration.rs", "const DEADLINE: Duration = Duration::from_secs(15);"),
            (
                "sidecar/src/tunnel/pauses.rs",
                "FAILED: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));",
            ),
            (
                "sidecar/src/tunnel/pauses.rs",
                "REFUSED: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));",
            ),
        ] {
            assert!(source(file).contains(line), "{file}: {line}");
        }
    }
}
