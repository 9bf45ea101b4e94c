//! One moment by which several steps must be done.

use std::future::Future;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};

/// A moment that every step of a phase shares.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

/// The moment has come before the step was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the deadline has passed")]
pub struct Late;

impl Deadline {
    /// The moment `span` from now.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        Self(Instant::now() + span)
    }

    /// This moment, or `span` from now when that is earlier.
    #[must_use]
    pub fn at_most(self, span: Duration) -> Self {
        Self(self.0.min(Instant::now() + span))
    }

    /// Waits for the moment.
    pub async fn passed(self) {
        sleep_until(self.0).await;
    }

    /// The time that is left; zero when the moment has come.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Runs `step`, but not beyond the deadline.
    ///
    /// # Errors
    /// [`Late`] when the step was not done in time.
    pub async fn limit<F: Future>(self, step: F) -> Result<F::Output, Late> {
        timeout_at(self.0, step).await.map_err(|_| Late)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Deadline, Late};

    #[tokio::test(start_paused = true)]
    async fn steps_share_the_time() {
        let deadline = Deadline::after(Duration::from_secs(3));
        let step = || tokio::time::sleep(Duration::from_secs(2));
        assert_eq!(deadline.limit(step()).await, Ok(()));
        assert_eq!(deadline.left(), Duration::from_secs(1));
        assert_eq!(deadline.limit(step()).await, Err(Late));
        assert_eq!(deadline.left(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_may_have_less_time_and_never_more() {
        let deadline = Deadline::after(Duration::from_secs(3));
        assert_eq!(deadline.at_most(Duration::from_secs(1)).left(), Duration::from_secs(1));
        assert_eq!(deadline.at_most(Duration::from_secs(9)).left(), Duration::from_secs(3));
        deadline.at_most(Duration::from_secs(1)).passed().await;
        assert_eq!(deadline.left(), Duration::from_secs(2));
    }
}
