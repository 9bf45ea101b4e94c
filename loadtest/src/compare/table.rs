//! A comparison in words.

use std::collections::BTreeSet;
use std::fmt;

use super::verdict::{Compared, Verdict, is_relative};
use super::{Comparison, Number};
use crate::report::units;
use crate::result::RunResult;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| measure | before | after | change | noise band | verdict |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---|")?;
        for compared in &self.compared {
            writeln!(f, "{compared}")?;
        }
        writeln!(f)?;
        for difference in &self.differences {
            writeln!(f, "- differs: {difference}")?;
        }
        if self.runs.0 < 2 || self.runs.1 < 2 {
            writeln!(
                f,
                "- The bands come from within one run each, which does not know what differs from one run to the next; with \
                 --more-before and --more-after they come from several."
            )?;
        }
        let named = |verdict: Verdict| {
            let of = self.compared.iter().filter(|compared| compared.verdict == verdict);
            of.map(|compared| compared.measure.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (worse, better) = (named(Verdict::Worse), named(Verdict::Better));
        match (worse.is_empty(), better.is_empty()) {
            (true, true) => writeln!(f, "verdict: same"),
            (true, false) => writeln!(f, "verdict: better ({better})"),
            (false, true) => writeln!(f, "verdict: worse ({worse})"),
            (false, false) => writeln!(f, "verdict: worse ({worse}), though better in {better}"),
        }
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = &self.measure.number;
        let [before, after] = [self.before, self.after].map(|value| number.words(value));
        let name = &self.measure.name;
        let (change, band, word) = (signed(number, self.change()), self.band_words(), self.verdict.word());
        write!(f, "| {name} | {before} | {after} | {change} | {band} | {word} |")
    }
}

impl Compared {
    /// The band and how it is known.
    pub(crate) fn band_words(&self) -> String {
        if self.measure.number == Number::WrongWrites {
            return "none".to_owned();
        }
        let points = if is_relative(&self.measure.number) { "" } else { " of all" };
        format!("± {}{points}, {}", units::percent(self.band.width), self.band.source.words())
    }
}

fn signed(number: &Number, change: f64) -> String {
    let sign = if change > 0.0 { "+" } else { "" };
    let change = if *number == Number::WrongWrites { units::count(change) } else { units::percent(change) };
    format!("{sign}{change}")
}

/// In what runs differ besides what was measured.
pub(super) fn differences(runs: &[&RunResult]) -> Vec<String> {
    let mut differences = Vec::new();
    let mut look = |what: &str, of: &dyn Fn(&RunResult) -> String| {
        let values: Vec<String> = runs.iter().map(|run| of(run)).collect();
        let different: BTreeSet<&String> = values.iter().collect();
        if different.len() > 1 {
            let mut shown = values.clone();
            shown.dedup();
            differences.push(format!("{what}: {}", shown.join(", ")));
        }
    };
    look("scenario", &|run| run.scenario.name.clone());
    let keys: BTreeSet<&String> = runs.iter().flat_map(|run| run.scenario.settings.keys()).collect();
    for key in keys {
        look(key, &|run| run.scenario.settings.get(key).cloned().unwrap_or_else(|| "nothing".to_owned()));
    }
    look("commit", &|run| run.subject.commit.clone().unwrap_or_else(|| "unknown".to_owned()));
    look("edge", &|run| run.subject.edge.clone());
    look("build", &|run| run.subject.build.clone());
    look("seed", &|run| run.seed.to_string());
    look("processor", &|run| format!("{} with {} cores", run.machine.model, run.machine.cores));
    look("kernel", &|run| run.machine.kernel.clone());
    let versions: BTreeSet<&String> = runs.iter().flat_map(|run| run.subject.versions.keys()).collect();
    for name in versions {
        look(name, &|run| run.subject.versions.get(name).cloned().unwrap_or_else(|| "none".to_owned()));
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn a_comparison_is_told_as_a_table_with_its_verdict_last() {
        let before = example::result();
        let mut after = before.clone();
        after.total.latency.p50_us *= 2;
        after.subject.commit = Some("4567def".to_owned());
        let text = Comparison::of(&[before], &[after]).to_string();
        assert!(text.contains("| p50 | 1.0 ms | 2.0 ms | +100 % | ± 5.0 %, assumed | WORSE |"), "{text}");
        assert!(text.contains("- differs: commit: 0123abc, 4567def"));
        assert!(text.ends_with("verdict: worse (p50)\n"), "{text}");
    }
}
