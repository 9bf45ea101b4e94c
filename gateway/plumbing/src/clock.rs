//! Wall time. The only place that reads it: everything that decides by time takes `now` as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the Unix epoch; 0 on a machine whose clock stands before it, so that nothing counts as still valid
/// because of a broken clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads wall time")]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    #[test]
    fn now_is_after_this_was_written() {
        assert!(super::unix_now() > 1_700_000_000);
    }
}
