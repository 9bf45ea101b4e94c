//! How hot each part was.

use std::time::Duration;

use super::super::outcome::Part;
use super::super::station::Station;
use super::Engine;

impl Engine<'_> {
    /// The parts until now, the hottest first.
    pub(super) fn parts(&self, now: Duration) -> Vec<Part> {
        let mut parts = vec![
            Part {
                name: "processors of a gateway",
                busy: most(self.gateways.iter().map(|gateway| gateway.processors.busy(now))),
                longest_wait: self.gateways.iter().map(|gateway| gateway.processors.longest_wait()).max(),
            },
            Part {
                name: "a gateway's questions to the chain, one round at a time",
                busy: most(self.gateways.iter().map(|gateway| gateway.asking.busy(now))),
                longest_wait: None,
            },
            Part {
                name: "a chain endpoint",
                busy: most(self.endpoints.iter().map(|endpoint| endpoint.busy(now))),
                longest_wait: self.endpoints.iter().map(Station::longest_wait).max(),
            },
            Part {
                name: "the registry",
                busy: self.registry.busy(now),
                longest_wait: Some(self.registry.longest_wait()),
            },
            Part {
                name: "places for registrations at a gateway",
                busy: most(self.gateways.iter().map(|gateway| self.places(gateway.most_held))),
                longest_wait: None,
            },
        ];
        parts.sort_by(|a, b| b.busy.total_cmp(&a.busy));
        parts
    }

    #[expect(clippy::cast_precision_loss, reason = "thousands of connections")]
    fn places(&self, held: usize) -> f64 {
        held as f64 / self.control.bounds.registrations.max(1) as f64
    }
}

fn most(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}
