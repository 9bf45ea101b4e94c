//! How long to wait before the next attempt: exponential with full jitter.

use std::time::Duration;

/// A growing pause between attempts. Every pause is drawn evenly from zero to a limit that doubles each time, so that
/// many clients of one server that came back do not return in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    limit: Duration,
}

impl Backoff {
    /// Starts with pauses up to `first`, and doubles up to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, limit: first.min(longest) }
    }

    /// The next pause, for a random number in `[0, 1)`.
    #[must_use]
    pub fn next(&mut self, random: f64) -> Duration {
        let pause = self.limit.mul_f64(random.clamp(0.0, 1.0));
        self.limit = self.limit.saturating_mul(2).min(self.longest);
        pause
    }

    /// Waits for the next pause.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next(rand::random())).await;
    }

    /// The attempt succeeded: start over.
    pub fn reset(&mut self) {
        self.limit = self.first.min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(backoff: &mut Backoff, count: usize) -> Vec<u128> {
        (0..count).map(|_| backoff.next(1.0).as_millis()).collect()
    }

    #[test]
    fn the_limit_doubles_to_the_longest_and_starts_over() {
        let mut backoff = Backoff::new(Duration::from_millis(25), Duration::from_millis(120));
        assert_eq!(limits(&mut backoff, 5), [25, 50, 100, 120, 120]);
        backoff.reset();
        assert_eq!(limits(&mut backoff, 1), [25]);
    }

    #[test]
    fn the_pause_follows_the_random_number_and_never_leaves_its_range() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(backoff.next(0.0), Duration::ZERO);
        assert_eq!(backoff.next(0.25), Duration::from_millis(250));
        for strange in [f64::INFINITY, -3.0, f64::NEG_INFINITY] {
            assert!(backoff.next(strange) <= Duration::from_secs(1));
        }
    }

    #[test]
    fn a_first_pause_above_the_longest_is_cut() {
        assert_eq!(limits(&mut Backoff::new(Duration::from_secs(9), Duration::from_secs(2)), 2), [2000, 2000]);
    }
}
