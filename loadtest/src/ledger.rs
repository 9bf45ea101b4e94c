//! The correctness ledger: what became of every write, compared with what is found in the end. Pure.
//!
//! Each write inserts one row with a number that no other write has. A row must be there when its write was acknowledged, and
//! must not be when it was refused. When the session ended between the commit and its answer, nobody can know; then either is
//! right. No row may be there twice, whatever happened.

use std::collections::BTreeMap;

use crate::result::Ledger;

/// How many examples of what is wrong are kept.
const EXAMPLES: usize = 20;

/// What became of a write, as far as its client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Postgres said that it is done.
    Acknowledged,
    /// It was refused, or ended before the commit was sent.
    Refused,
    /// The session ended between the commit and its answer.
    Unknown,
}

/// The writes of one tenant.
#[derive(Debug, Clone, Default)]
pub struct Book {
    writes: BTreeMap<u64, Fate>,
}

impl Book {
    /// Notes what became of a write.
    pub fn note(&mut self, number: u64, fate: Fate) {
        self.writes.insert(number, fate);
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Adds to a ledger what comes of comparing this book with the rows that were found.
    pub fn reconcile(&self, tenant: &str, found: impl IntoIterator<Item = u64>, ledger: &mut Ledger) {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for number in found {
            *counts.entry(number).or_default() += 1;
        }
        let mut wrong = Vec::new();
        for (number, fate) in &self.writes {
            let count = counts.remove(number).unwrap_or_default();
            match fate {
                Fate::Acknowledged => ledger.acknowledged += 1,
                Fate::Refused => ledger.failed += 1,
                Fate::Unknown => ledger.unknown += 1,
            }
            match (fate, count) {
                (Fate::Acknowledged, 0) => {
                    ledger.lost += 1;
                    wrong.push(("lost", *number));
                }
                (Fate::Refused, 1) => {
                    ledger.unexpected += 1;
                    wrong.push(("unexpected", *number));
                }
                (Fate::Unknown, 1) => ledger.unknown_found += 1,
                (_, 0 | 1) => {}
                _ => {
                    ledger.twice += 1;
                    wrong.push(("twice", *number));
                }
            }
        }
        // What is left was written by nobody here.
        for number in counts.into_keys() {
            ledger.unexpected += 1;
            wrong.push(("unexpected", number));
        }
        let room = EXAMPLES.saturating_sub(ledger.examples.len());
        ledger.examples.extend(wrong.into_iter().take(room).map(|(what, number)| format!("{tenant}/{number} {what}")));
    }

    /// Adds to a ledger that this tenant's rows could not be read back.
    pub fn unread(&self, tenant: &str, why: &str, ledger: &mut Ledger) {
        for fate in self.writes.values() {
            match fate {
                Fate::Acknowledged => ledger.acknowledged += 1,
                Fate::Refused => ledger.failed += 1,
                Fate::Unknown => ledger.unknown += 1,
            }
        }
        ledger.unread.push(format!("{tenant}: {why}"));
    }
}

#[cfg(test)]
mod tests;
