//! A discrete simulation of the control plane: CVMs, gateways, chain endpoints and a registry in virtual time.
//!
//! Pure: no clock, no sockets, and all chance from the seed, so that the same seed gives the same outcome. What the programs
//! do by themselves (limits, deadlines, pauses, how the chain is asked) is done here by the same numbers and, for the pauses,
//! by the same code. What they cost comes from measurements.

mod agenda;
mod control;
mod cvm;
mod engine;
mod gateway;
mod outcome;
mod station;
#[cfg(test)]
mod tests;

pub(crate) use self::control::{Bounds, ChainModel, Control, Scenario, Work};
#[cfg(test)]
pub(crate) use self::outcome::Failure;
pub(crate) use self::outcome::{Outcome, Part};

use self::engine::Engine;

/// Plays a scenario.
pub(crate) fn simulate(control: &Control, scenario: Scenario, seed: u64) -> Outcome {
    Engine::new(control, seed).play(scenario)
}
