//! A growing delay for those who present wrong secrets.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The delay after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);
/// A source that has not failed for this long starts anew.
const FORGET: Duration = Duration::from_secs(60);
/// How many sources are remembered.
const REMEMBERED: usize = 10_000;
/// How often those are looked for that can be forgotten, once there is no room for another.
const SWEEP: Duration = Duration::from_secs(1);
/// How many names of roles are told apart. Two that share a number share their delay.
const NAMES: u64 = 1_024;

/// Counts failures by source address and by the role's name. Only failures are delayed: nobody can slow down a client that
/// knows its secret.
///
/// All names are treated alike, those of roles and those of none: a delay must not tell which is which. Which names share a
/// number differs from process to process, so that nobody can choose a name to slow another one down with.
#[derive(Debug, Default)]
pub struct Throttle {
    failures: Mutex<Remembered>,
    names: RandomState,
}

#[derive(Debug, Default)]
struct Remembered {
    sources: BTreeMap<IpAddr, Failures>,
    names: BTreeMap<u64, Failures>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Throttle {
    /// Records a failure and returns how long its answer is to be held back. `user` is what the client called itself.
    pub fn failed(&self, source: Option<IpAddr>, user: &[u8]) -> Duration {
        let now = Instant::now();
        let name = self.names.hash_one(user) % NAMES;
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = record(failures.names.entry(name).or_insert(Failures { count: 0, last: now }), now);
        source.map_or(of_name, |source| of_name.max(failures.of_source(network(source), now)))
    }

    /// Forgets the failures of a source that has shown a right secret.
    pub fn succeeded(&self, source: Option<IpAddr>) {
        if let Some(source) = source {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.sources.remove(&network(source));
        }
    }
}

impl Remembered {
    fn of_source(&mut self, source: IpAddr, now: Instant) -> Duration {
        let swept = self.swept.is_some_and(|swept| now.duration_since(swept) < SWEEP);
        if self.sources.len() >= REMEMBERED && !swept {
            self.swept = Some(now);
            self.sources.retain(|_, failures| now.duration_since(failures.last) < FORGET);
        }
        if self.sources.len() >= REMEMBERED && !self.sources.contains_key(&source) {
            return LONGEST;
        }
        record(self.sources.entry(source).or_insert(Failures { count: 0, last: now }), now)
    }
}

/// What one subscriber has at least: an IPv4 address, or an IPv6 network of 64 bits.
pub(super) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

fn record(failures: &mut Failures, now: Instant) -> Duration {
    if now.duration_since(failures.last) >= FORGET {
        failures.count = 0;
    }
    failures.last = now;
    failures.count = failures.count.saturating_add(1);
    let doubled = 1_u32.checked_shl(failures.count - 1).unwrap_or(u32::MAX);
    FIRST.saturating_mul(doubled).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::{FIRST, FORGET, LONGEST, NAMES, REMEMBERED, Throttle};

    fn source(last: u8) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
    }

    /// Names that this throttle tells apart.
    fn names(throttle: &Throttle) -> Vec<Vec<u8>> {
        use std::hash::BuildHasher as _;
        let (mut names, mut numbers) = (Vec::new(), std::collections::BTreeSet::new());
        for name in (0_u32..).map(|number| number.to_string().into_bytes()) {
            if numbers.insert(throttle.names.hash_one(&name[..]) % NAMES) {
                names.push(name);
            }
            if names.len() == 4 {
                break;
            }
        }
        names
    }

    #[tokio::test(start_paused = true)]
    async fn delays_double_up_to_a_limit_and_are_forgotten() {
        let throttle = Throttle::default();
        let delays: Vec<_> = (0..40).map(|_| throttle.failed(source(1), b"a")).collect();
        assert_eq!(delays[..3], [FIRST, FIRST * 2, FIRST * 4]);
        assert_eq!(delays[39], LONGEST);
        tokio::time::advance(FORGET).await;
        assert_eq!(throttle.failed(source(1), b"a"), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn sources_and_names_count_apart() {
        let throttle = Throttle::default();
        let names = names(&throttle);
        throttle.failed(source(1), &names[0]);
        assert_eq!(throttle.failed(source(2), &names[1]), FIRST);
        assert_eq!(throttle.failed(source(1), &names[2]), FIRST * 2, "same source, another name");
        assert_eq!(throttle.failed(source(3), &names[0]), FIRST * 2, "same name, another source");
        throttle.succeeded(source(1));
        assert_eq!(throttle.failed(source(1), &names[3]), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_counts_as_one_source() {
        let throttle = Throttle::default();
        let names = names(&throttle);
        let source = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        assert_eq!(throttle.failed(source("2001:db8::1"), &names[0]), FIRST);
        assert_eq!(throttle.failed(source("2001:db8::ffff:2"), &names[1]), FIRST * 2);
        assert_eq!(throttle.failed(source("2001:db8:0:1::1"), &names[2]), FIRST);
        assert_eq!(throttle.failed(source("::ffff:192.0.2.1"), &names[3]), FIRST);
        assert_eq!(throttle.failed(source("192.0.2.1"), b""), FIRST * 2, "however an IPv4 address is written");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let throttle = Throttle::default();
        let source = |number: usize| Some(IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap())));
        for number in 0..(REMEMBERED * 2) {
            throttle.failed(source(number), &number.to_be_bytes());
        }
        {
            let failures = throttle.failures.lock().unwrap();
            assert_eq!(failures.sources.len(), REMEMBERED);
            assert!(failures.names.len() <= usize::try_from(NAMES).unwrap());
        }
        let unseen = source(REMEMBERED * 3);
        assert_eq!(throttle.failed(unseen, b"a"), LONGEST);
        tokio::time::advance(FORGET + Duration::from_secs(1)).await;
        assert_eq!(throttle.failed(unseen, b"a"), FIRST);
    }
}
