//! Something that does one job at a time per server, and lets the others wait.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Servers of one kind with one queue: the cores of a gateway, a chain endpoint, a registry.
#[derive(Debug, Clone)]
pub(super) struct Station {
    /// When each server is free again.
    free: BinaryHeap<Reverse<Duration>>,
    servers: u32,
    worked: Duration,
    longest_wait: Duration,
}

impl Station {
    /// So many servers, at least one, and nothing to do.
    pub(super) fn new(servers: u32) -> Self {
        let servers = servers.max(1);
        let free = (0..servers).map(|_| Reverse(Duration::ZERO)).collect();
        Self { free, servers, worked: Duration::ZERO, longest_wait: Duration::ZERO }
    }

    /// Takes a job that comes now, after those that came before; says when it is done.
    pub(super) fn serve(&mut self, now: Duration, work: Duration) -> Duration {
        let free = self.free.pop().map_or(now, |Reverse(free)| free);
        let start = free.max(now);
        let done = start + work;
        self.free.push(Reverse(done));
        self.worked += work;
        self.longest_wait = self.longest_wait.max(start - now);
        done
    }

    /// The part of its time until `now` in which it was busy; what is still to be done does not count.
    pub(super) fn busy(&self, now: Duration) -> f64 {
        let left: Duration = self.free.iter().map(|Reverse(free)| free.saturating_sub(now)).sum();
        let time = now.as_secs_f64() * f64::from(self.servers);
        if time > 0.0 { (self.worked.saturating_sub(left)).as_secs_f64() / time } else { 0.0 }
    }

    /// The longest that a job waited for its turn.
    pub(super) fn longest_wait(&self) -> Duration {
        self.longest_wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn jobs_wait_for_a_free_server() {
        let mut station = Station::new(2);
        assert_eq!(station.serve(Duration::ZERO, 3 * SECOND), 3 * SECOND);
        assert_eq!(station.serve(Duration::ZERO, SECOND), SECOND);
        assert_eq!(station.serve(Duration::ZERO, SECOND), 2 * SECOND, "the second server is free first");
        assert_eq!(station.longest_wait(), SECOND);
        assert_eq!(station.serve(10 * SECOND, SECOND), 11 * SECOND, "nobody was before it");
    }

    #[test]
    fn only_work_that_is_done_counts() {
        let mut station = Station::new(2);
        station.serve(Duration::ZERO, 4 * SECOND);
        assert_eq!(station.busy(2 * SECOND), 0.5, "one of two");
        assert_eq!(station.busy(8 * SECOND), 0.25);
        assert_eq!(station.busy(Duration::ZERO), 0.0);
    }
}
