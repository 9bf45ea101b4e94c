//! Background work that must never end quietly.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::Task;
use crate::backoff::Backoff;

/// The pause after a first failure, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// A run that lasted this long was healthy: its end starts the pauses over.
const HEALTHY: Duration = Duration::from_secs(60);

/// Runs work that never ends: `work` makes its future, and is asked again, after a growing pause, whenever that future
/// fails or panics; so is it when `work` itself panics. It stops when the handle is dropped.
pub fn maintenance<W, F, E>(name: &'static str, mut work: W) -> Task<Infallible>
where
    W: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<Infallible, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    Task::spawn(name, async move {
        let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let started = Instant::now();
            // Unwind safety: a future that panicked is dropped, and `work` makes a new one from what it owns.
            match AssertUnwindSafe(async { work().await }).catch_unwind().await {
                Ok(Ok(never)) => match never {},
                Ok(Err(error)) => tracing::warn!(task = name, %error, "maintenance failed and will be started again"),
                // The panic itself is in the log already, with its place.
                Err(_) => tracing::error!(task = name, "maintenance panicked and will be started again"),
            }
            metrics::counter!("maintenance_restarts_total", "task" => name).increment(1);
            if started.elapsed() >= HEALTHY {
                backoff.reset();
            }
            backoff.wait().await;
        }
    })
}
