//! How much two sides may differ by chance.

/// The fewest blocks that tell anything about chance, and the most into which a run is cut.
const BLOCKS: (usize, usize) = (5, 10);

/// Student's t, two-sided at 99 of 100, by degrees of freedom.
const T: [(usize, f64); 10] = [
    (1, 63.66),
    (2, 9.92),
    (3, 5.84),
    (4, 4.60),
    (6, 3.71),
    (8, 3.36),
    (12, 3.05),
    (20, 2.85),
    (40, 2.70),
    (usize::MAX, 2.58),
];

/// How far apart two sides may lie by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Band {
    /// In relation to the value, or in the value's own unit where that is a part of all.
    pub(crate) width: f64,
    /// How it is known.
    pub(crate) source: Source,
}

/// How a band is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// From several runs of both sides.
    Runs,
    /// From parts of one run each.
    Blocks,
    /// It is assumed; or what was measured is narrower.
    Floor,
}

impl Source {
    /// In words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Runs => "from run to run",
            Self::Blocks => "within a run",
            Self::Floor => "assumed",
        }
    }
}

/// The mean of some samples, and how sure it is: its standard error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mean {
    pub(crate) value: f64,
    error: f64,
    samples: usize,
}

impl Mean {
    /// Of independent samples; `None` unless there are two.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        if samples.len() < 2 {
            return None;
        }
        let count = number(samples.len());
        let value = samples.iter().sum::<f64>() / count;
        let variance = samples.iter().map(|sample| (sample - value).powi(2)).sum::<f64>() / (count - 1.0);
        Some(Self { value, error: (variance / count).sqrt(), samples: samples.len() })
    }

    /// Of what was measured second by second. Neighbouring seconds resemble each other, so that their blocks count as
    /// samples, and not they themselves; `None` when there are too few for that.
    pub(crate) fn of_blocks(seconds: &[f64]) -> Option<Self> {
        let blocks = (seconds.len() / 2).min(BLOCKS.1);
        if blocks < BLOCKS.0 {
            return None;
        }
        let length = seconds.len() / blocks;
        let means: Vec<f64> =
            seconds.chunks_exact(length).take(blocks).map(|block| block.iter().sum::<f64>() / number(length)).collect();
        Self::of(&means)
    }
}

/// What samples are like, and how far apart two means of them can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A part of all, which is 0 where all is well: differences count as they are.
    Part,
    /// Rates and costs: differences count in relation to the value.
    Amount,
    /// Latencies, of which a few can be a hundred times as long as the others: differences count in relation to the value,
    /// and the samples are logarithms, which a few cannot drown.
    Logarithm,
}

/// The band around two means, unless it is narrower than `floor`.
pub(crate) fn band(before: Option<Mean>, after: Option<Mean>, source: Source, kind: Kind, floor: f64) -> Band {
    let assumed = Band { width: floor, source: Source::Floor };
    let Some((before, after)) = before.zip(after) else { return assumed };
    let width = t(before.samples + after.samples - 2) * before.error.hypot(after.error);
    let width = match kind {
        Kind::Part => width,
        Kind::Amount => width / before.value.abs(),
        Kind::Logarithm => width.exp_m1(),
    };
    if width.is_finite() && width > floor { Band { width, source } } else { assumed }
}

fn t(freedom: usize) -> f64 {
    // Of two lines of the table, the one with fewer degrees is the more careful.
    T.iter().rev().find(|(least, _)| *least <= freedom).map_or(f64::INFINITY, |(_, t)| *t)
}

#[expect(clippy::cast_precision_loss, reason = "a run has thousands of seconds")]
fn number(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(level: f64, height: f64) -> Vec<f64> {
        (0..60).map(|second| level + if second % 12 < 6 { height } else { -height }).collect()
    }

    #[test]
    fn steady_runs_have_a_narrow_band_and_restless_ones_a_wide_one() {
        let of = |height| Mean::of_blocks(&waves(1_000.0, height));
        let width = |height| band(of(height), of(height), Source::Blocks, Kind::Amount, 0.01).width;
        assert_eq!(width(0.0), 0.01, "the floor");
        assert!(width(100.0) > 0.05 && width(100.0) < 0.2, "{}", width(100.0));
        assert!(width(400.0) > width(100.0));
    }

    #[test]
    fn two_runs_say_little_and_many_say_much() {
        let runs = |count: usize| Mean::of(&[100.0, 104.0].repeat(count));
        let width = |count| band(runs(count), runs(count), Source::Runs, Kind::Amount, 0.0).width;
        assert!((width(1) - 0.275).abs() < 0.002, "2 degrees of freedom: {}", width(1));
        assert!(width(10) < 0.025, "{}", width(10));
        assert_eq!(Mean::of(&[1.0]), None);
        assert_eq!(
            band(Mean::of(&[1.0]), runs(2), Source::Runs, Kind::Amount, 0.1),
            Band { width: 0.1, source: Source::Floor }
        );
    }

    #[test]
    fn one_second_in_which_everything_stood_still_does_not_hide_all_else() {
        let mut seconds = vec![9_000.0f64; 50];
        seconds.iter_mut().step_by(2).for_each(|us| *us = 9_500.0);
        seconds[20] = 900_000.0;
        let width = |kind, of: fn(f64) -> f64| {
            let mean = Mean::of_blocks(&seconds.iter().copied().map(of).collect::<Vec<_>>());
            band(mean, mean, Source::Blocks, kind, 0.0).width
        };
        assert!(width(Kind::Amount, |us| us) > 2.0);
        assert!(width(Kind::Logarithm, f64::ln) < 0.6, "{}", width(Kind::Logarithm, f64::ln));
    }

    #[test]
    fn a_short_run_says_nothing_about_chance() {
        assert_eq!(Mean::of_blocks(&[1.0; 9]), None);
        assert!(Mean::of_blocks(&[1.0; 10]).is_some());
    }

    #[test]
    fn the_table_is_read_on_the_careful_side() {
        assert_eq!([1, 2, 5, 6, 18, 1_000].map(t), [63.66, 9.92, 4.60, 3.71, 3.05, 2.70]);
        assert_eq!(t(0), f64::INFINITY);
    }
}
