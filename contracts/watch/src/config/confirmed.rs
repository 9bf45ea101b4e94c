//! Which block is confirmed.

use postern_plumbing::config::{FromValue, Given, Refused};

/// The block at which an allowance must hold, beside the head, before it admits anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// The one so many blocks below the head.
    Depth(u64),
    /// The highest one that a quorum of endpoints calls `safe`. Until there is one, nobody is admitted anew.
    Safe,
}

impl Confirmed {
    /// The greatest depth that can be asked for; beyond it, chains have a tag for what is safe.
    pub const DEEPEST: u64 = 64;

    /// Whether a watch can keep up with it.
    pub(crate) const fn can_be_followed(self) -> bool {
        match self {
            Self::Depth(depth) => depth <= Self::DEEPEST,
            Self::Safe => true,
        }
    }

    /// How many blocks below the head have to be known.
    pub(crate) const fn depth(self) -> u64 {
        match self {
            Self::Depth(depth) => depth,
            Self::Safe => 0,
        }
    }
}

impl Default for Confirmed {
    /// The head itself.
    fn default() -> Self {
        Self::Depth(0)
    }
}

impl FromValue for Confirmed {
    const EXPECTED: &'static str = "a number of blocks, or \"safe\"";

    fn from_value(given: Given<'_>) -> Result<Self, Refused> {
        if let Some(depth) = given.integer() {
            return u64::try_from(depth).map(Self::Depth).map_err(|_| Refused::Value("expected no less than 0".into()));
        }
        match given.text() {
            Some("safe") => Ok(Self::Safe),
            Some(_) => Err(Refused::Value(format!("expected {}", Self::EXPECTED))),
            None => Err(Refused::Kind),
        }
    }
}
