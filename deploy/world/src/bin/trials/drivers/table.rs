//! The matrix as it is printed.

use std::fmt;

use super::matrix::{Driver, Way};
use super::outcome::Outcome;

/// The outcomes of some drivers, each on all ways.
pub(crate) struct Table<'a> {
    rows: Vec<(&'a Driver, &'a [Outcome])>,
}

impl<'a> Table<'a> {
    /// `outcomes` has those of the first driver on all ways, then those of the second, and so on.
    pub(crate) fn new(drivers: &[&'a Driver], outcomes: &'a [Outcome]) -> Self {
        Self { rows: drivers.iter().copied().zip(outcomes.chunks(Way::ALL.len())).collect() }
    }

    /// Whether nothing failed, and something was tried.
    pub(crate) fn passed(&self) -> bool {
        let (fine, failed) = self.count();
        fine > 0 && failed == 0
    }

    fn count(&self) -> (usize, usize) {
        let outcomes = || self.rows.iter().flat_map(|(_, outcomes)| *outcomes);
        let fine = outcomes().filter(|outcome| matches!(outcome, Outcome::Fine { .. })).count();
        let failed = outcomes().filter(|outcome| matches!(outcome, Outcome::Failed(_))).count();
        (fine, failed)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (driver, outcomes) in &self.rows {
            let reasons = outcomes.iter().filter_map(|outcome| match outcome {
                Outcome::NotApplicable(reason) => Some(reason.as_str()),
                Outcome::Fine { .. } | Outcome::Failed(_) => None,
            });
            for reason in reasons.take(1).chain(driver.no_cancel()) {
                notes.push(format!("{}, n/a: {reason}", driver.name));
            }
            for (way, outcome) in Way::ALL.iter().zip(*outcomes) {
                if let Outcome::Failed(reason) = outcome {
                    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
                    notes.push(format!("{}, {}, FAILED: {reason}", driver.name, way.title()));
                }
            }
        }
        notes
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = Way::ALL.map(Way::title).join(" | ");
        writeln!(f, "| driver | {titles} | cancel |")?;
        writeln!(f, "|---|{}---|", "---|".repeat(Way::ALL.len()))?;
        for (driver, outcomes) in &self.rows {
            let words: Vec<&str> = outcomes.iter().map(word).collect();
            writeln!(f, "| {} | {} | {} |", version(driver, outcomes), words.join(" | "), cancel(driver, outcomes))?;
        }
        writeln!(f)?;
        for note in self.notes() {
            writeln!(f, "- {note}")?;
        }
        let (fine, failed) = self.count();
        write!(f, "\n{fine} passed, {failed} failed")
    }
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Fine { .. } => "ok",
        Outcome::NotApplicable(_) => "n/a",
        Outcome::Failed(_) => "FAILED",
    }
}

/// The driver as it names itself; as we name it when it never got so far.
fn version(driver: &Driver, outcomes: &[Outcome]) -> String {
    let named = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Fine { driver, .. } => Some(driver),
        Outcome::NotApplicable(_) | Outcome::Failed(_) => None,
    });
    named.map_or(driver.name.clone(), |named| format!("{} ({named})", driver.name))
}

/// How it cancels, on any of its ways.
fn cancel(driver: &Driver, outcomes: &[Outcome]) -> String {
    let mut how: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if let Outcome::Fine { cancels, .. } = outcome {
            how.extend(cancels.iter().map(String::as_str));
        }
    }
    how.sort_unstable();
    how.dedup();
    match (driver.no_cancel(), how.as_slice()) {
        (Some(_), _) => "n/a".to_owned(),
        (None, []) => "FAILED".to_owned(),
        (None, how) => how.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix;
    use super::*;

    #[test]
    fn one_failure_fails_the_table_and_is_explained() {
        let drivers = matrix::drivers().unwrap();
        let psql = drivers.iter().find(|driver| driver.name.starts_with("psql")).unwrap();
        let fine = || Outcome::Fine { driver: "psql 1".into(), cancels: vec!["plaintext".into()] };
        let mut outcomes = vec![fine(), fine(), Outcome::NotApplicable("too old".into()), fine()];
        outcomes.extend([Outcome::NotApplicable("too old".into()), fine(), fine()]);
        let table = Table::new(&[psql], &outcomes);
        assert!(table.passed());
        let text = table.to_string();
        assert!(text.contains("| psql 15 (psql 1) | ok | ok | n/a | ok | n/a | ok | ok | plaintext |"), "{text}");
        assert!(text.contains("- psql 15, n/a: too old\n") && text.ends_with("\n5 passed, 0 failed"), "{text}");

        outcomes[3] = Outcome::Failed("no\nanswer".into());
        let table = Table::new(&[psql], &outcomes);
        let text = table.to_string();
        assert!(!table.passed() && text.contains("- psql 15, gateway, 443, FAILED: no answer\n"), "{text}");
    }

    #[test]
    fn a_table_of_nothing_has_proved_nothing() {
        assert!(!Table::new(&[], &[]).passed());
    }
}
