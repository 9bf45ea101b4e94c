//! One line per check, with its figure, and the count at the end.

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

/// The outcome of a check: its figure, or the reason of its failure.
pub type Outcome = Result<String, String>;

/// Prints the outcome of each check as soon as it is known.
#[derive(Debug)]
pub struct Report<W> {
    out: W,
    passed: usize,
    failed: usize,
}

impl<W: Write> Report<W> {
    /// A report that is written to `out`.
    pub fn new(out: W) -> Self {
        Self { out, passed: 0, failed: 0 }
    }

    /// Runs a check within a deadline and prints its line.
    pub async fn check(&mut self, name: &str, deadline: Duration, check: impl Future<Output = Outcome>) {
        let outcome = tokio::time::timeout(deadline, check).await;
        self.line(name, outcome.unwrap_or_else(|_| Err(format!("not done within {deadline:?}"))));
    }

    /// Counts and prints one outcome.
    pub fn line(&mut self, name: &str, outcome: Outcome) {
        let (word, text) = match outcome {
            Ok(figure) => {
                self.passed += 1;
                ("ok    ", figure)
            }
            Err(reason) => {
                self.failed += 1;
                ("FAILED", reason)
            }
        };
        self.print(&format!("{word} {name}: {}", one_line(&text)));
    }

    /// Prints the last line, and says whether every check passed.
    pub fn finish(mut self) -> bool {
        self.print(&format!("{} passed, {} failed", self.passed, self.failed));
        self.failed == 0 && self.passed > 0
    }

    fn print(&mut self, line: &str) {
        // When nobody reads the report any more, the exit code still tells.
        drop(writeln!(self.out, "{line}").and_then(|()| self.out.flush()));
    }
}

/// A figure in seconds.
#[must_use]
pub fn seconds(since: Instant) -> String {
    format!("{:.2} s", since.elapsed().as_secs_f64())
}

/// Puts an error into words.
pub fn words(error: impl Display) -> String {
    error.to_string()
}

/// The text on one line, shortened when it is long.
fn one_line(text: &str) -> String {
    const LIMIT: usize = 400;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LIMIT {
        return line;
    }
    line.chars().take(LIMIT).chain(" ...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(outcomes: Vec<Outcome>) -> (String, bool) {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        outcomes.into_iter().for_each(|outcome| report.line("a check", outcome));
        let all = report.finish();
        (String::from_utf8(out).unwrap(), all)
    }

    #[test]
    fn one_failure_fails_the_whole() {
        let (text, all) = printed(vec![Ok("3 rows".into()), Err("psql said\n no".into())]);
        assert_eq!(text, "ok     a check: 3 rows\nFAILED a check: psql said no\n1 passed, 1 failed\n");
        assert!(!all);
    }

    #[test]
    fn a_report_without_a_check_has_proved_nothing() {
        assert!(!printed(Vec::new()).1);
        assert!(printed(vec![Ok("3 rows".into())]).1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_fails() {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out);
        report.check("hangs", Duration::from_secs(5), std::future::pending()).await;
        assert!(!report.finish());
        assert!(String::from_utf8(out).unwrap().starts_with("FAILED hangs: not done within 5s"));
    }
}
