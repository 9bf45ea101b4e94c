//! Warnings that would come with each poll: each kind is logged once in a while.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a kind of complaint stays out of the log after it was there.
const SILENCE: Duration = Duration::from_secs(60);

/// The complaints about one endpoint, or about what all of them show.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    logged: Mutex<BTreeMap<&'static str, Instant>>,
}

impl Complaints {
    /// Whether a complaint of this kind should be logged now; if so, the next ones of its kind should not for a while.
    pub(crate) fn should_log(&self, kind: &'static str, now: Instant) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let due = logged.get(kind).is_none_or(|last| now.saturating_duration_since(*last) >= SILENCE);
        if due {
            logged.insert(kind, now);
        }
        due
    }

    /// The endpoint is well again: the next complaint is news.
    pub(crate) fn forget(&self) {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_logged_once_a_minute_and_anew_after_recovery() {
        let complaints = Complaints::default();
        let start = Instant::now();
        assert!(complaints.should_log("timeout", start));
        assert!(complaints.should_log("disagreement", start));
        assert!(!complaints.should_log("timeout", start + SILENCE - Duration::from_millis(1)));
        assert!(complaints.should_log("timeout", start + SILENCE));
        complaints.forget();
        assert!(complaints.should_log("timeout", start + SILENCE));
    }
}
