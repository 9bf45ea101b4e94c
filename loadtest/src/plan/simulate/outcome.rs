//! What came of a simulation.

use std::collections::BTreeMap;
use std::time::Duration;

/// How a fleet came to rest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// When everybody was where they should be; `None` when that was not reached.
    pub(crate) converged: Option<Duration>,
    /// When half, and 99 of 100, were there for good.
    pub(crate) half: Option<Duration>,
    /// See [`Outcome::half`].
    pub(crate) most: Option<Duration>,
    /// How many were there in the end, of how many.
    pub(crate) reached: (usize, usize),
    /// The parts, the hottest first.
    pub(crate) parts: Vec<Part>,
    /// Attempts that failed until then.
    pub(crate) failed: BTreeMap<Failure, u64>,
    /// Attempts a second that failed at the end of the time after convergence, where that was looked at.
    pub(crate) aftermath: Option<f64>,
    /// The virtual time that was simulated.
    pub(crate) simulated: Duration,
    /// How many events that took.
    pub(crate) events: u64,
}

/// A part of the control plane, until convergence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// What it is; of several of its kind, the busiest.
    pub(crate) name: &'static str,
    /// The part of the time, or of the room, that was taken: 1 is all.
    pub(crate) busy: f64,
    /// The longest that anything waited for it, where it has a queue.
    pub(crate) longest_wait: Option<Duration>,
}

/// Why an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The gateway held as many connections as it may.
    GatewayFull,
    /// The gateway did not answer any more.
    GatewaySilent,
    /// The handshake took too long.
    HandshakeLate,
    /// The chain's answer took too long.
    ChainLate,
    /// The registry took too long.
    RegistryLate,
    /// The chain forbids it.
    NotAdmitted,
}

impl Failure {
    /// What happened.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::GatewayFull => "the gateway held as many registrations as it may",
            Self::GatewaySilent => "the gateway had vanished",
            Self::HandshakeLate => "the handshake took too long",
            Self::ChainLate => "the chain's answer took too long",
            Self::RegistryLate => "the registry took too long",
            Self::NotAdmitted => "the chain forbids it",
        }
    }
}

/// The first of sorted moments by which this share of them had come.
pub(super) fn by(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_moments_that_happened() {
        let moments: Vec<_> = (1..=200).map(Duration::from_secs).collect();
        assert_eq!(by(&moments, 50), Some(Duration::from_secs(100)));
        assert_eq!(by(&moments, 99), Some(Duration::from_secs(198)));
        assert_eq!(by(&[], 50), None);
    }
}
