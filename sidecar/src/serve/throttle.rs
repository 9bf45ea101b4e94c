//! A growing delay for those who present wrong secrets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The delay after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);
/// A source that has not failed for this long starts anew.
const FORGET: Duration = Duration::from_secs(60);
/// How many sources and roles are remembered.
const REMEMBERED: usize = 10_000;

/// Counts failures by source address and by role. Only failures are delayed: nobody can slow down a client that knows
/// its secret.
#[derive(Debug, Default)]
pub struct Throttle {
    failures: Mutex<BTreeMap<Key, Failures>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Source(IpAddr),
    Role(String),
    UnknownRole,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Throttle {
    /// Records a failure and returns how long its answer is to be held back. `role` is the configured role that the client
    /// named; all names that are none count as one, so that nobody chooses what is remembered.
    pub fn failed(&self, source: Option<IpAddr>, role: Option<&str>) -> Duration {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= REMEMBERED {
            failures.retain(|_, failures| now.duration_since(failures.last) < FORGET);
        }
        let role = role.map_or(Key::UnknownRole, |role| Key::Role(role.to_owned()));
        let keys = [source.map(Key::Source), Some(role)];
        keys.into_iter().flatten().map(|key| record(&mut failures, key, now)).max().unwrap_or(FIRST)
    }

    /// Forgets the failures of a source that has shown a right secret.
    pub fn succeeded(&self, source: Option<IpAddr>) {
        if let Some(source) = source {
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&Key::Source(source));
        }
    }
}

fn record(failures: &mut BTreeMap<Key, Failures>, key: Key, now: Instant) -> Duration {
    if failures.len() >= REMEMBERED && !failures.contains_key(&key) {
        return LONGEST;
    }
    let entry = failures.entry(key).or_insert(Failures { count: 0, last: now });
    if now.duration_since(entry.last) >= FORGET {
        entry.count = 0;
    }
    entry.last = now;
    entry.count = entry.count.saturating_add(1);
    let doubled = 1_u32.checked_shl(entry.count - 1).unwrap_or(u32::MAX);
    FIRST.saturating_mul(doubled).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::{FIRST, FORGET, LONGEST, REMEMBERED, Throttle};

    fn source(last: u8) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    #[tokio::test(start_paused = true)]
    async fn delays_double_up_to_a_limit_and_are_forgotten() {
        let throttle = Throttle::default();
        let delays: Vec<_> = (0..40).map(|_| throttle.failed(source(1), Some("a"))).collect();
        assert_eq!(delays[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(delays[39], LONGEST);
        tokio::time::advance(FORGET).await;
        assert_eq!(throttle.failed(source(1), Some("a")), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn sources_and_roles_count_apart() {
        let throttle = Throttle::default();
        throttle.failed(source(1), Some("a"));
        assert_eq!(throttle.failed(source(2), Some("b")), FIRST);
        assert_eq!(throttle.failed(source(1), Some("c")), FIRST * 2, "same source, another role");
        assert_eq!(throttle.failed(source(3), Some("a")), FIRST * 2, "same role, another source");
        throttle.succeeded(source(1));
        assert_eq!(throttle.failed(source(1), Some("d")), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn all_unknown_names_count_as_one() {
        let throttle = Throttle::default();
        assert_eq!(throttle.failed(source(1), None), FIRST);
        assert_eq!(throttle.failed(source(2), None), FIRST * 2);
        assert_eq!(throttle.failed(source(3), Some("a")), FIRST);
        assert_eq!(throttle.failures.lock().unwrap().len(), 5, "three sources, one role and the unknown ones");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let throttle = Throttle::default();
        let source = |number: usize| Some(IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap())));
        for number in 0..(REMEMBERED * 2) {
            throttle.failed(source(number), None);
        }
        assert_eq!(throttle.failures.lock().unwrap().len(), REMEMBERED);
        let unseen = source(REMEMBERED * 3);
        assert_eq!(throttle.failed(unseen, Some("a")), LONGEST);
        tokio::time::advance(FORGET + Duration::from_secs(1)).await;
        assert_eq!(throttle.failed(unseen, Some("a")), FIRST);
    }
}
