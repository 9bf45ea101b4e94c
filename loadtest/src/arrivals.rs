//! When work is due, and whose it is. Pure: the same seed gives the same arrivals, on every machine.
//!
//! Work arrives in an open loop: its times are fixed before anything is sent, so that a slow answer delays no later arrival
//! and hides no wait (coordinated omission).

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// How arrivals follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As from many people who know nothing of each other: gaps are exponentially distributed.
    Poisson,
    /// At even gaps.
    Even,
}

/// What arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// How many pieces of work arrive a second, from all tenants together.
    pub rate: f64,
    /// How they follow each other.
    pub pace: Pace,
    /// Each tenant's weight; they need not add up to anything.
    pub weights: Vec<f64>,
}

/// A piece of work to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it is due, from the beginning of its phase.
    pub at: Duration,
    /// Whose it is.
    pub tenant: usize,
    /// Which one it is; no other in the run has the same number.
    pub number: u64,
    /// What its own random choices come from.
    pub salt: u64,
}

/// Zipf's law: the tenant of rank r has the weight 1 / r^exponent. With an exponent of 0 all have the same.
#[must_use]
pub fn zipf(tenants: usize, exponent: f64) -> Vec<f64> {
    (1..=tenants).map(|rank| f64::from(u32::try_from(rank).unwrap_or(u32::MAX)).powf(-exponent)).collect()
}

impl Load {
    /// The same, with one tenant that asks for `factor` times what it asked for. The others ask for what they did.
    #[must_use]
    pub fn with_noise(mut self, tenant: usize, factor: f64) -> Self {
        let before: f64 = self.weights.iter().sum();
        if let Some(weight) = self.weights.get_mut(tenant) {
            *weight *= factor;
        }
        let after: f64 = self.weights.iter().sum();
        if before > 0.0 {
            self.rate *= after / before;
        }
        self
    }

    /// Each tenant's part of all arrivals, from 0 to 1.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let all: f64 = self.weights.iter().sum();
        self.weights.iter().map(|weight| if all > 0.0 { weight / all } else { 0.0 }).collect()
    }
}

/// The arrivals of one phase, in the order in which they are due.
#[derive(Debug)]
pub struct Timetable {
    random: ChaCha8Rng,
    rate: f64,
    pace: Pace,
    /// The sum of the weights up to each tenant.
    bounds: Vec<f64>,
    /// In seconds.
    now: f64,
    end: f64,
    number: u64,
}

impl Timetable {
    /// The arrivals of a phase of this length. Phases of one run have different streams of the same seed, and `first` is the
    /// number of the first arrival.
    #[must_use]
    pub fn new(seed: u64, stream: u64, load: &Load, length: Duration, first: u64) -> Self {
        let mut key = [0; 32];
        for (byte, value) in key.iter_mut().zip(seed.to_le_bytes()) {
            *byte = value;
        }
        let mut random = ChaCha8Rng::from_seed(key);
        random.set_stream(stream);
        let bounds = load.weights.iter().scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self {
            random,
            rate: load.rate,
            pace: load.pace,
            bounds: bounds.collect(),
            now: 0.0,
            end: length.as_secs_f64(),
            number: first,
        }
    }

    /// From 0 to 1, without 1.
    fn fraction(&mut self) -> f64 {
        fraction(self.random.next_u64())
    }
}

/// A number from 0 to 1, without 1, from random bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
pub(crate) fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

impl Iterator for Timetable {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let all = *self.bounds.last()?;
        if self.rate <= 0.0 || all <= 0.0 {
            return None;
        }
        let gap = match self.pace {
            // 1 - u is never zero, of which there is no logarithm.
            Pace::Poisson => -(1.0 - self.fraction()).ln(),
            Pace::Even => 1.0,
        };
        self.now += gap / self.rate;
        if self.now >= self.end {
            return None;
        }
        let point = self.fraction() * all;
        let tenant = self.bounds.partition_point(|bound| *bound <= point).min(self.bounds.len() - 1);
        let (number, salt) = (self.number, self.random.next_u64());
        self.number += 1;
        Some(Arrival { at: Duration::from_secs_f64(self.now), tenant, number, salt })
    }
}

#[cfg(test)]
mod tests;
