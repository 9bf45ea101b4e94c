//! `loadtest report`: a page of a result, to be read at a glance.

#[cfg(test)]
mod browser;
mod distribution;
#[cfg(test)]
pub(crate) mod example;
mod fairness;
mod headline;
mod over_time;
mod page;
mod parts;
mod plot;
mod tables;
pub(crate) mod units;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Failure;
use crate::junit;
use crate::result::RunResult;

/// The command line of `loadtest report`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The result that a run wrote
    #[arg(value_name = "RESULT.json")]
    result: PathBuf,
    /// Where to write the page; beside the result when nothing is said
    #[arg(long, value_name = "FILE.html")]
    output: Option<PathBuf>,
    /// Also write what was checked in JUnit's XML, for continuous integration
    #[arg(long, value_name = "FILE.xml")]
    junit: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// See [`Failure`].
pub fn main(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let result = RunResult::read(&arguments.result)?;
    let output = arguments.output.clone().unwrap_or_else(|| arguments.result.with_extension("html"));
    write(&result, &output)?;
    if let Some(file) = &arguments.junit {
        junit::write(&[junit::of_run(&result)], file)?;
    }
    let mut stdout = std::io::stdout().lock();
    let told = summary(&result).into_iter().try_for_each(|line| writeln!(stdout, "{line}"));
    told.and_then(|()| writeln!(stdout, "page: {}", output.display())).map_err(Failure::Output)?;
    Ok(if is_sound(&result) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes the page of a result.
///
/// # Errors
/// When the file cannot be written.
pub fn write(result: &RunResult, file: &std::path::Path) -> Result<(), Failure> {
    fs::write(file, page::page(result)).map_err(|error| Failure::file(file, error))
}

/// What a result says, one sentence a line.
#[must_use]
pub fn summary(result: &RunResult) -> Vec<String> {
    headline::headline(result).into_iter().map(|sentence| format!("{}: {}", sentence.about, sentence.words)).collect()
}

/// Whether the cluster did nothing that it must not.
fn is_sound(result: &RunResult) -> bool {
    result.failures.is_empty() && result.ledger.as_ref().is_none_or(crate::result::Ledger::is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(folder: &std::path::Path) -> Arguments {
        Arguments { result: folder.join("result.json"), output: None, junit: Some(folder.join("result.xml")) }
    }

    #[test]
    fn the_page_stands_beside_the_result_and_lost_writes_show_in_the_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(folder.path());
        let mut result = example::result();
        result.write(&arguments.result).unwrap();
        assert_eq!(main(&arguments).unwrap(), ExitCode::SUCCESS);
        let page = fs::read_to_string(folder.path().join("result.html")).unwrap();
        assert!(page.contains("No write was lost"));
        assert!(fs::read_to_string(folder.path().join("result.xml")).unwrap().contains("<testsuite"));
        result.ledger.as_mut().unwrap().lost = 1;
        result.write(&arguments.result).unwrap();
        assert_eq!(main(&arguments).unwrap(), ExitCode::FAILURE);
    }
}
