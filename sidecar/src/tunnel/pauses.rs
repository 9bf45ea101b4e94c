//! How long to wait before the next attempt to register.

use std::time::Duration;

use postern_plumbing::backoff::Backoff;

/// After an attempt that failed. A gateway that was restarted knows nobody: how soon its clients can connect again depends on
/// how soon we come back.
const FAILED: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// After a refusal that stands until somebody acts, as when the chain does not allow us. Who was a member is let in again by the
/// gateway itself; who waits for an addition is not in a hurry of milliseconds, and each attempt costs the gateway a handshake.
const REFUSED: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// The pauses between attempts at one gateway, by what came of the last one.
#[derive(Debug)]
pub struct Pauses {
    failed: Backoff,
    refused: Backoff,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { failed: Backoff::new(FAILED.0, FAILED.1), refused: Backoff::new(REFUSED.0, REFUSED.1) }
    }
}

impl Pauses {
    /// The pause after an attempt, which `refused` says to have ended with a refusal that stands.
    pub fn after(&mut self, refused: bool) -> &mut Backoff {
        if refused { &mut self.refused } else { &mut self.failed }
    }

    /// We are registered: start over.
    pub fn reset(&mut self) {
        self.failed.reset();
        self.refused.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest pauses that there can be after so many attempts.
    fn longest(pauses: &mut Pauses, refused: bool, count: usize) -> Vec<u128> {
        (0..count).map(|_| pauses.after(refused).next(1.0).as_millis()).collect()
    }

    #[test]
    fn who_is_refused_asks_ever_more_rarely_and_who_finds_nobody_soon_again() {
        let mut pauses = Pauses::default();
        let refused = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
        assert_eq!(longest(&mut pauses, true, 8), refused);
        assert_eq!(longest(&mut pauses, false, 6), [200, 400, 800, 1_600, 2_000, 2_000]);
        assert_eq!(longest(&mut pauses, true, 1), [30_000], "an outage in between is no new beginning");
        pauses.reset();
        assert_eq!((longest(&mut pauses, true, 1), longest(&mut pauses, false, 1)), (vec![500], vec![200]));
    }
}
