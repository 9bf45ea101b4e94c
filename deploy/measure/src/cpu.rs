//! CPU time. Other programs on the machine disturb it less than they disturb the time on the wall.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What a future gives, and the CPU time that all threads of this process spent until then.
pub(crate) async fn of<F: Future>(future: F) -> (F::Output, Duration) {
    let before = spent();
    let output = future.await;
    (output, spent().saturating_sub(before))
}

/// The CPU time that all threads of this process have spent so far.
pub(crate) fn spent() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_counted_wherever_it_is_done_and_waiting_is_not() {
        let enough = spent() + Duration::from_millis(200);
        let work = move || while spent() < enough {};
        let (done, working) = of(tokio::task::spawn_blocking(work)).await;
        done.unwrap();
        let ((), waiting) = of(tokio::time::sleep(Duration::from_millis(200))).await;
        assert!(working > waiting, "{working:?} of work, {waiting:?} of waiting");
    }
}
