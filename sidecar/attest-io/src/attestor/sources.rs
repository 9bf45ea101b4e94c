//! How much work one source of connections may cause.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many sources are watched one by one. The rest share what one of them has.
const MAX_SOURCES: usize = 4096;

/// How many cold appraisals one source may cause: a certificate that nobody has seen yet costs some 0.6 ms of one core, and
/// new ones are free to make. A source is an IPv4 address or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimit {
    /// In the long run. Default: 1200, which is one in 50 ms.
    pub per_minute: u32,
    /// At once, after a silence. Default: 100.
    pub burst: u32,
}

impl Default for SourceLimit {
    fn default() -> Self {
        Self { per_minute: 1200, burst: 100 }
    }
}

/// The sources of some work that were active lately, each with the time at which it has used up what it was given (a token bucket, kept
/// as one instant).
#[derive(Debug, Default)]
pub struct Sources(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    limit: SourceLimit,
    used_up: HashMap<Option<IpAddr>, Instant>,
}

impl Sources {
    /// Sources that are each given this much.
    #[must_use]
    pub fn new(limit: SourceLimit) -> Self {
        let sources = Self::default();
        sources.limit(limit);
        sources
    }

    pub(super) fn limit(&self, limit: SourceLimit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).limit = limit;
    }

    /// Whether `source` may cause one more piece of work now; counted if so.
    pub fn admit(&self, source: IpAddr, now: Instant) -> bool {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = Duration::from_secs(60) / watched.limit.per_minute.max(1);
        let most = each.saturating_mul(watched.limit.burst.max(1));
        let mut key = Some(network(source));
        if !watched.used_up.contains_key(&key) && watched.used_up.len() >= MAX_SOURCES {
            watched.used_up.retain(|_, used_up| *used_up > now);
            if watched.used_up.len() >= MAX_SOURCES {
                key = None;
            }
        }
        let used_up = watched.used_up.entry(key).or_insert(now);
        let next = (*used_up).max(now) + each;
        let admitted = next.duration_since(now) <= most;
        if admitted {
            *used_up = next;
        }
        admitted
    }
}

/// What one customer of a network is usually given.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn sources(per_second: u32, burst: u32) -> Sources {
        Sources::new(SourceLimit { per_minute: per_second * 60, burst })
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_from_one_source_cause_what_it_is_given() {
        let (sources, start) = (sources(10, 5), Instant::now());
        // Over a hundred seconds.
        let at = |number: u32| start + Duration::from_micros(100) * number;
        let admitted = (0..1_000_000).filter(|number| sources.admit(v4(1), at(*number))).count();
        assert_eq!(admitted, 1004);
        assert!(sources.admit(v4(2), at(1_000_000)), "another source is not concerned");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_was_silent_has_its_burst_again_and_no_more() {
        let (sources, start) = (sources(10, 5), Instant::now());
        let burst = |now| (0..100).filter(|_| sources.admit(v4(1), now)).count();
        assert_eq!(burst(start), 5);
        assert_eq!(burst(start + Duration::from_millis(200)), 2);
        assert_eq!(burst(start + Duration::from_secs(3600)), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4_self() {
        let (sources, now) = (sources(1, 1), Instant::now());
        let admit = |text: &str| sources.admit(text.parse().unwrap(), now);
        assert!(admit("2001:db8::1") && !admit("2001:db8::ffff:0:0:2") && admit("2001:db8:0:1::1"));
        assert!(admit("192.0.2.1") && !admit("::ffff:192.0.2.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn many_sources_take_a_bounded_place() {
        let (sources, now) = (sources(1, 1), Instant::now());
        let all = u32::try_from(MAX_SOURCES).unwrap();
        assert!((0..all).all(|number| sources.admit(v4(number), now)));
        assert!(sources.admit(v4(all), now), "one of the rest");
        assert!(!sources.admit(v4(all + 1), now), "the rest share");
        assert_eq!(sources.0.lock().unwrap().used_up.len(), MAX_SOURCES + 1);
        // Who was silent for a while makes room.
        assert!(sources.admit(v4(all + 1), now + Duration::from_secs(2)));
        assert_eq!(sources.0.lock().unwrap().used_up.len(), 1);
    }
}
