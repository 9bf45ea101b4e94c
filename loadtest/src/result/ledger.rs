//! What became of every write.

use serde::{Deserialize, Serialize};

/// What became of every write: each was a row of its own, and all rows were read back at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Writes that Postgres acknowledged.
    pub acknowledged: u64,
    /// Writes that were refused or never sent: they must not be there.
    pub failed: u64,
    /// Writes whose session ended between the commit and its answer. Nobody can know whether they were done; either way is
    /// right, but for once.
    pub unknown: u64,
    /// Those of `unknown` that were found.
    pub unknown_found: u64,
    /// Acknowledged writes that were not found. Anything but 0 is a failure of the system under test.
    pub lost: u64,
    /// Writes that were found more than once.
    pub twice: u64,
    /// Rows that nobody wrote, or that a refused write left behind.
    pub unexpected: u64,
    /// Tenants whose rows could not be read back, with the reason. Nothing is known of their writes.
    pub unread: Vec<String>,
    /// The first few that were lost, twice or unexpected, as `tenant/session/number`.
    pub examples: Vec<String>,
}

impl Ledger {
    /// Whether all was read back and nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.unexpected == 0 && self.unread.is_empty()
    }
}
