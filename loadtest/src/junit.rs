//! Outcomes in JUnit's XML, which continuous integration shows as tests.

use std::fs;
use std::path::Path;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::Failure;
use crate::compare::{Comparison, Verdict};
use crate::result::RunResult;

/// What a run has to be like, as tests.
pub(crate) fn of_run(result: &RunResult) -> TestSuite {
    let mut suite = TestSuite::new(format!("loadtest {}", result.scenario.name));
    let mut check = |name: &str, failed: Option<String>| {
        suite.add_test_case(case(name, failed));
    };
    let done = result.total.latency.count > 0 || result.total.done > 0 || result.total.sessions > 0;
    check("the load did something", (!done).then(|| "no work was done, and no session opened".to_owned()));
    check(
        "the cluster did nothing that it must not",
        (!result.failures.is_empty()).then(|| result.failures.join("; ")),
    );
    if let Some(ledger) = &result.ledger {
        let wrong = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
        check("no acknowledged write is lost", wrong(ledger.lost, "acknowledged writes were not found"));
        check("no write is there twice", wrong(ledger.twice, "writes were found more than once"));
        check("no refused write is there", wrong(ledger.unexpected, "rows are there that may not be"));
        let unread = (!ledger.unread.is_empty()).then(|| ledger.unread.join("; "));
        check("every tenant's rows were read back", unread);
    }
    let late = format!("99 of 100 pieces of work began up to {} µs late", result.generator.p99_error_us);
    check("the load generator was not the limit", result.generator.saturated.then_some(late));
    suite
}

/// Each measure as a test, which fails when it is worse.
pub(crate) fn of_comparison(comparison: &Comparison) -> TestSuite {
    let mut suite = TestSuite::new("loadtest compare");
    for compared in &comparison.compared {
        let text = compared.to_string();
        match compared.verdict {
            Verdict::Worse => suite.add_test_case(case(&compared.measure.name, Some(text))),
            Verdict::Better | Verdict::Same => suite.add_test_case(case(&compared.measure.name, None)),
            Verdict::Undecided => {
                let mut status = TestCaseStatus::skipped();
                status.set_message("the load generator was the limit");
                suite.add_test_case(TestCase::new(&*compared.measure.name, status))
            }
        };
    }
    suite
}

/// Writes suites to a file.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(suites: &[TestSuite], file: &Path) -> Result<(), Failure> {
    let mut report = Report::new("loadtest");
    report.add_test_suites(suites.iter().cloned());
    let error = |error: std::io::Error| Failure::file(file, error);
    let text = report.to_string().map_err(|wrong| error(std::io::Error::other(wrong)))?;
    fs::write(file, text).map_err(error)
}

fn case(name: &str, failed: Option<String>) -> TestCase {
    let status = failed.map_or_else(TestCaseStatus::success, |message| {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_message(message);
        status
    });
    TestCase::new(name, status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    fn text(suite: TestSuite) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.xml");
        write(&[suite], &file).unwrap();
        fs::read_to_string(file).unwrap()
    }

    #[test]
    fn a_sound_run_passes_and_a_lost_write_fails() {
        let mut result = example::result();
        let sound = text(of_run(&result));
        assert!(sound.contains(r#"tests="7""#) && sound.contains(r#"failures="0""#), "{sound}");
        result.ledger.as_mut().unwrap().lost = 2;
        result.generator.saturated = true;
        let unsound = text(of_run(&result));
        assert!(unsound.contains(r#"failures="2""#), "{unsound}");
        assert!(unsound.contains("2 acknowledged writes were not found"));
    }

    #[test]
    fn what_a_result_says_is_escaped() {
        let mut result = example::result();
        result.scenario.name = "</testsuite>\"<&\u{1}".to_owned();
        result.ledger.as_mut().unwrap().unread.push("t1: <away> & \u{0}gone".to_owned());
        let text = text(of_run(&result));
        assert_eq!(text.matches("</testsuite>").count(), 1, "{text}");
        assert!(text.contains("&lt;away&gt; &amp;") && !text.contains('\u{0}') && !text.contains('\u{1}'), "{text}");
    }

    #[test]
    fn what_cannot_be_told_is_skipped() {
        let before = example::result();
        let mut after = before.clone();
        after.generator.saturated = true;
        let text = text(of_comparison(&Comparison::of(&[before], &[after])));
        assert!(text.contains("<skipped") && text.contains(r#"failures="0""#), "{text}");
    }
}
