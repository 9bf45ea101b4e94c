//! Better, worse, or no more than chance.

use super::measure::{Measure, Number};
use super::noise::{Band, Kind, Mean, Source, band};
use crate::result::RunResult;

/// One measure on both sides.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Compared {
    pub(crate) measure: Measure,
    /// The median of each side's runs.
    pub(crate) before: f64,
    /// See `before`.
    pub(crate) after: f64,
    pub(crate) band: Band,
    pub(crate) verdict: Verdict,
}

/// What a difference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is better than chance explains.
    Better,
    /// It is worse than chance explains.
    Worse,
    /// Chance explains it.
    Same,
    /// It cannot be told: the generator was the limit.
    Undecided,
}

impl Verdict {
    /// In a word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Same => "same",
            Self::Undecided => "undecided",
        }
    }
}

impl Compared {
    /// How much has changed: in relation to before, or in the measure's own unit.
    pub(crate) fn change(&self) -> f64 {
        change(&self.measure.number, self.before, self.after)
    }
}

/// Compares one measure; `None` when a side does not have it.
pub(crate) fn compare(measure: Measure, before: &[RunResult], after: &[RunResult]) -> Option<Compared> {
    let number = &measure.number;
    let values = |runs: &[RunResult]| runs.iter().filter_map(|run| number.of(run)).collect::<Vec<_>>();
    let (all_before, all_after) = (values(before), values(after));
    let kind = if !is_relative(number) {
        Kind::Part
    } else if number.is_latency() {
        Kind::Logarithm
    } else {
        Kind::Amount
    };
    let samples = |values: &[f64]| match kind {
        Kind::Logarithm => values.iter().map(|value| value.max(1.0).ln()).collect(),
        Kind::Part | Kind::Amount => values.to_vec(),
    };
    let band = if all_before.len() > 1 && all_after.len() > 1 {
        let of = |values: &[f64]| Mean::of(&samples(values));
        band(of(&all_before), of(&all_after), Source::Runs, kind, measure.floor)
    } else {
        let of = |runs: &[RunResult]| runs.first().and_then(|run| Mean::of_blocks(&samples(&number.each_second(run))));
        band(of(before), of(after), Source::Blocks, kind, measure.floor)
    };
    let (before_value, after_value) = (median(all_before)?, median(all_after)?);
    let saturated = before.iter().chain(after).any(|run| run.generator.saturated);
    let verdict = if saturated && number.is_latency() {
        Verdict::Undecided
    } else {
        judge(number, before_value, after_value, band.width)
    };
    Some(Compared { before: before_value, after: after_value, band, verdict, measure })
}

fn judge(number: &Number, before: f64, after: f64, width: f64) -> Verdict {
    let change = change(number, before, after);
    // The smallest of floating-point noise is no change.
    if change.abs() <= width + 1e-12 {
        return Verdict::Same;
    }
    if (change > 0.0) == number.more_is_better() { Verdict::Better } else { Verdict::Worse }
}

fn change(number: &Number, before: f64, after: f64) -> f64 {
    if !is_relative(number) {
        return after - before;
    }
    if before == after { 0.0 } else { (after - before) / before }
}

/// Whether its differences are told in relation to its value. Of what should be 0, they are not.
pub(super) fn is_relative(number: &Number) -> bool {
    !matches!(number, Number::Failed | Number::WrongWrites)
}

/// The middle value, or the mean of the middle two.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::super::Comparison;
    use super::*;
    use crate::report::example;

    fn verdict(before: &[RunResult], after: &[RunResult], name: &str) -> Verdict {
        let comparison = Comparison::of(before, after);
        comparison.compared.iter().find(|compared| compared.measure.name == name).unwrap().verdict
    }

    fn with_p99(factor: f64) -> RunResult {
        let mut run = example::result();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a test"
        )]
        {
            run.total.latency.p99_us = (run.total.latency.p99_us as f64 * factor) as u64;
        }
        run
    }

    #[test]
    fn a_run_is_the_same_as_itself() {
        let run = [example::result()];
        let comparison = Comparison::of(&run, &run);
        assert!(comparison.compared.iter().all(|compared| compared.verdict == Verdict::Same));
        assert_eq!(comparison.worse().count(), 0);
    }

    #[test]
    fn a_difference_beyond_the_band_counts_in_its_direction() {
        let mut steady = example::result();
        // Without the second in which everything stood still.
        steady.seconds.iter_mut().for_each(|second| second.p99_us = 9_000);
        let with = |factor: f64| RunResult { seconds: steady.seconds.clone(), ..with_p99(factor) };
        assert_eq!(verdict(from_ref(&steady), &[with(1.05)], "p99"), Verdict::Same);
        assert_eq!(verdict(from_ref(&steady), &[with(1.5)], "p99"), Verdict::Worse);
        assert_eq!(verdict(from_ref(&steady), &[with(0.5)], "p99"), Verdict::Better);
        let mut slower = steady.clone();
        slower.total.per_second *= 0.5;
        assert_eq!(verdict(from_ref(&steady), from_ref(&slower), "requests a second"), Verdict::Worse);
    }

    #[test]
    fn restless_runs_hide_small_differences_and_repeated_ones_show_them() {
        let mut restless = example::result();
        restless.seconds.iter_mut().for_each(|second| second.p99_us = if second.second < 15 { 4_000 } else { 14_000 });
        let slower = RunResult { seconds: restless.seconds.clone(), ..with_p99(1.3) };
        assert_eq!(verdict(from_ref(&restless), from_ref(&slower), "p99"), Verdict::Same);
        let three = |run: &RunResult| [run.clone(), run.clone(), run.clone()];
        assert_eq!(verdict(&three(&restless), &three(&slower), "p99"), Verdict::Worse);
    }

    #[test]
    fn a_lost_write_is_worse_whatever_chance_says() {
        let before = example::result();
        let mut after = before.clone();
        after.ledger.as_mut().unwrap().lost = 1;
        assert_eq!(verdict(from_ref(&before), from_ref(&after), "writes that are wrong"), Verdict::Worse);
        assert_eq!(verdict(from_ref(&after), from_ref(&before), "writes that are wrong"), Verdict::Better);
    }

    #[test]
    fn nothing_is_said_about_latency_where_the_generator_was_the_limit() {
        let before = example::result();
        let mut after = with_p99(3.0);
        after.generator.saturated = true;
        assert_eq!(verdict(from_ref(&before), from_ref(&after), "p99"), Verdict::Undecided);
        assert_eq!(verdict(from_ref(&before), from_ref(&after), "requests a second"), Verdict::Same);
    }
}
