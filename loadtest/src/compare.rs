//! `loadtest compare`: whether one result is better or worse than another, or whether they differ by no more than chance.

mod measure;
mod noise;
mod table;
mod verdict;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::result::RunResult;
use crate::{Failure, junit};
pub(crate) use measure::Number;
pub(crate) use verdict::{Compared, Verdict, median};

/// The command line of `loadtest compare`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The result to compare with
    #[arg(value_name = "BEFORE.json")]
    before: PathBuf,
    /// The result to judge
    #[arg(value_name = "AFTER.json")]
    after: PathBuf,
    /// Further runs of what BEFORE measured; with them, chance is told from one run to the next
    #[arg(long, value_name = "FILE.json", num_args = 1..)]
    more_before: Vec<PathBuf>,
    /// Further runs of what AFTER measured
    #[arg(long, value_name = "FILE.json", num_args = 1..)]
    more_after: Vec<PathBuf>,
    /// Compare although the scenarios differ
    #[arg(long)]
    anyway: bool,
    /// Also write one test case per measure in JUnit's XML, for continuous integration
    #[arg(long, value_name = "FILE.xml")]
    junit: Option<PathBuf>,
}

/// Runs the command. The exit code is 1 when a measure is worse.
///
/// # Errors
/// See [`Failure`].
pub fn main(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let before = read(&arguments.before, &arguments.more_before)?;
    let after = read(&arguments.after, &arguments.more_after)?;
    let comparison = Comparison::of(&before, &after);
    if !comparison.same_scenario && !arguments.anyway {
        return Err(Failure::Usage(format!(
            "the scenarios differ ({}); --anyway compares them all the same",
            comparison.differences.join("; ")
        )));
    }
    if let Some(file) = &arguments.junit {
        junit::write(&[junit::of_comparison(&comparison)], file)?;
    }
    write!(std::io::stdout(), "{comparison}").map_err(Failure::Output)?;
    Ok(if comparison.worse().next().is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(first: &std::path::Path, more: &[PathBuf]) -> Result<Vec<RunResult>, Failure> {
    std::iter::once(first).chain(more.iter().map(PathBuf::as_path)).map(RunResult::read).collect()
}

/// Two sides, measure by measure.
#[derive(Debug)]
pub(crate) struct Comparison {
    pub(crate) compared: Vec<Compared>,
    /// In what else the sides differ, in words.
    pub(crate) differences: Vec<String>,
    pub(crate) same_scenario: bool,
    /// How many runs each side has.
    pub(crate) runs: (usize, usize),
}

impl Comparison {
    /// Compares the runs of two sides.
    pub(crate) fn of(before: &[RunResult], after: &[RunResult]) -> Self {
        let compared = measure::all(before.iter().chain(after));
        let compared = compared.into_iter().filter_map(|measure| verdict::compare(measure, before, after)).collect();
        let runs: Vec<&RunResult> = before.iter().chain(after).collect();
        let same = |of: fn(&RunResult) -> String| {
            runs.windows(2).all(|pair| matches!(pair, [one, other] if of(one) == of(other)))
        };
        Self {
            compared,
            differences: table::differences(&runs),
            same_scenario: same(|run| format!("{} {:?}", run.scenario.name, run.scenario.settings)),
            runs: (before.len(), after.len()),
        }
    }

    /// What became worse.
    pub(crate) fn worse(&self) -> impl Iterator<Item = &Compared> {
        self.compared.iter().filter(|compared| compared.verdict == Verdict::Worse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn the_exit_code_says_whether_anything_is_worse() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, result: &RunResult| {
            let path = folder.path().join(name);
            result.write(&path).unwrap();
            path
        };
        let before = example::result();
        let mut after = before.clone();
        let arguments = |after: &RunResult| Arguments {
            before: write("a.json", &before),
            after: write("b.json", after),
            more_before: Vec::new(),
            more_after: Vec::new(),
            anyway: false,
            junit: Some(folder.path().join("out.xml")),
        };
        assert_eq!(main(&arguments(&after)).unwrap(), ExitCode::SUCCESS);
        after.total.latency.p50_us *= 2;
        assert_eq!(main(&arguments(&after)).unwrap(), ExitCode::FAILURE);
        let junit = std::fs::read_to_string(folder.path().join("out.xml")).unwrap();
        assert!(junit.contains(r#"failures="1""#), "{junit}");
        after.scenario.settings.insert("load.rate".to_owned(), "900".to_owned());
        let refused = main(&arguments(&after)).unwrap_err().to_string();
        assert!(refused.contains("load.rate: 800, 900"), "{refused}");
        assert_eq!(main(&Arguments { anyway: true, ..arguments(&after) }).unwrap(), ExitCode::FAILURE);
    }
}
