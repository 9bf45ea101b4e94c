//! What many measurements of one thing say together.

use std::time::Duration;

/// The middle of several rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Half of the rounds lie below.
    pub(crate) median: f64,
    /// The lowest round.
    pub(crate) lowest: f64,
    /// The highest round.
    pub(crate) highest: f64,
}

impl Spread {
    /// The spread of some rounds; `None` when there was no round.
    pub(crate) fn of(rounds: &[f64]) -> Option<Self> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), lowest, highest })
    }
}

/// The smallest of the samples that at least `percent` of them do not exceed (nearest rank); `None` when there is none.
pub(crate) fn percentile(samples: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// A duration in microseconds.
pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_of_rounds_lies_between_the_middle_two() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0]), Some(Spread { median: 3.0, lowest: 3.0, highest: 3.0 }));
        assert_eq!(Spread::of(&[5.0, 1.0, 2.0]), Some(Spread { median: 2.0, lowest: 1.0, highest: 5.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 9.0, 2.0]), Some(Spread { median: 3.0, lowest: 1.0, highest: 9.0 }));
    }

    #[test]
    fn percentiles_are_samples() {
        let samples: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&samples, 99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&samples, 50), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&samples, 100), Some(Duration::from_millis(200)));
        assert_eq!(percentile(&samples[..1], 99), Some(Duration::from_millis(200)));
        assert_eq!(percentile(&[], 99), None);
    }
}
