//! How fast cancel requests are worked on, so that nobody finds a key by trying.
//!
//! A key of protocol 3.2 ends in a MAC over 128 random bits; nobody guesses one. A key of protocol 3.0 has 44 bits that are
//! not known from outside: 32 of the secret and 12 of the process id. A wrong key holds its place for 0.1 s, and for up to
//! 3 s where wrong keys are the habit, so that one network (a /24 of IPv4, a /64 of IPv6) gets to 4 / 3 s = 1.3 guesses per
//! second, which is 4.2e7 a year: it finds the key of a given session in a year with a chance of 4.2e7 / 2^44 = 2.4e-6, and
//! that of any of 1,000 sessions with 0.0024. All networks together get to 128 / 3 s = 43 guesses per second: 7.7e-5 and
//! 0.077 a year. The prize is one cancelled query.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

/// Requests that are worked on at a time, in all and of one network.
const AT_A_TIME: usize = 128;
const OF_ONE_NETWORK: usize = 4;
/// For how long a wrong key holds its place: at first, and at most. It doubles from one to the next.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);
/// A network that has shown no wrong key for this long starts anew.
const FORGET: Duration = Duration::from_secs(60);
/// How many networks are known at a time; those beyond count as one.
const REMEMBERED: usize = 10_000;
/// How often those are forgotten of whom nothing is to be known any more.
const SWEEP: Duration = Duration::from_secs(1);

/// Room for cancel requests.
#[derive(Debug)]
pub struct CancelRoom {
    all: Semaphore,
    networks: Mutex<Networks>,
}

#[derive(Debug)]
struct Networks {
    known: BTreeMap<Network, Known>,
    /// When it was last looked for networks that can be forgotten.
    swept: Instant,
}

/// The sources that count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Network {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Unknown,
}

#[derive(Debug)]
struct Known {
    places: Arc<Semaphore>,
    wrong: u32,
    last_wrong: Option<Instant>,
}

/// A request that is worked on.
#[derive(Debug)]
pub struct CancelPlace<'a> {
    room: &'a CancelRoom,
    network: Network,
    _own: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

impl Default for CancelRoom {
    fn default() -> Self {
        let networks = Networks { known: BTreeMap::new(), swept: Instant::now() };
        Self { all: Semaphore::new(AT_A_TIME), networks: Mutex::new(networks) }
    }
}

impl CancelRoom {
    /// Waits for a place for a request from `source`. Those who wait for a place of their own network keep nobody else from
    /// one. `None` never comes, as the room is never closed.
    pub async fn enter(&self, source: Option<IpAddr>) -> Option<CancelPlace<'_>> {
        let (network, places) = self.network(source);
        let own = places.acquire_owned().await.ok()?;
        let of_all = self.all.acquire().await.ok()?;
        Some(CancelPlace { room: self, network, _own: own, _of_all: of_all })
    }

    fn network(&self, source: Option<IpAddr>) -> (Network, Arc<Semaphore>) {
        let mut network = Network::of(source);
        let mut networks = self.lock();
        if networks.swept.elapsed() >= SWEEP {
            networks.swept = Instant::now();
            networks.known.retain(|_, known| known.is_of_interest());
        }
        if networks.known.len() >= REMEMBERED && !networks.known.contains_key(&network) {
            network = Network::Unknown;
        }
        let fresh = || Known { places: Arc::new(Semaphore::new(OF_ONE_NETWORK)), wrong: 0, last_wrong: None };
        (network, Arc::clone(&networks.known.entry(network).or_insert_with(fresh).places))
    }

    fn lock(&self) -> MutexGuard<'_, Networks> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CancelPlace<'_> {
    /// Holds the place for as long as a wrong key costs its network.
    pub async fn was_wrong(self) {
        let cost = self.room.lock().known.get_mut(&self.network).map_or(LONGEST, Known::was_wrong);
        sleep(cost).await;
    }
}

impl Known {
    fn was_wrong(&mut self) -> Duration {
        let now = Instant::now();
        if self.last_wrong.is_some_and(|last| now.duration_since(last) >= FORGET) {
            self.wrong = 0;
        }
        let doubled = 1_u32.checked_shl(self.wrong).unwrap_or(u32::MAX);
        self.wrong = self.wrong.saturating_add(1);
        self.last_wrong = Some(now);
        FIRST.saturating_mul(doubled).min(LONGEST)
    }

    fn is_of_interest(&self) -> bool {
        Arc::strong_count(&self.places) > 1 || self.last_wrong.is_some_and(|last| last.elapsed() < FORGET)
    }
}

impl Network {
    fn of(source: Option<IpAddr>) -> Self {
        match source.map(|source| source.to_canonical()) {
            Some(IpAddr::V4(address)) => Self::V4(Ipv4Addr::from(u32::from(address) & (u32::MAX << 8))),
            Some(IpAddr::V6(address)) => Self::V6(Ipv6Addr::from(u128::from(address) & (u128::MAX << 64))),
            None => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use postern_plumbing::tasks::Tasks;
    use tokio::time::{Instant, advance, timeout};

    use super::{CancelRoom, FORGET, LONGEST, Network, REMEMBERED};

    fn source(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// Sends wrong keys without end, `senders` at a time and each from the network that it is given; counts the guesses.
    fn guess(room: &Arc<CancelRoom>, senders: u32, source: fn(u32) -> Option<IpAddr>) -> (Tasks, Arc<AtomicU32>) {
        let (tasks, guesses) = (Tasks::new(), Arc::new(AtomicU32::new(0)));
        for sender in 0..senders {
            let (room, guesses) = (Arc::clone(room), Arc::clone(&guesses));
            tasks.spawn("guesser", async move {
                loop {
                    let place = room.enter(source(sender)).await.unwrap();
                    guesses.fetch_add(1, Ordering::Relaxed);
                    place.was_wrong().await;
                }
            });
        }
        (tasks, guesses)
    }

    #[tokio::test(start_paused = true)]
    async fn one_network_gets_to_less_than_two_guesses_a_second_however_many_connections_it_has() {
        let room = Arc::new(CancelRoom::default());
        let (_tasks, guesses) = guess(&room, 500, |sender| source(&format!("192.0.2.{}", sender % 256)));
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        let guesses = guesses.load(Ordering::Relaxed);
        assert!((1_300..1_400).contains(&guesses), "{guesses}");
    }

    #[tokio::test(start_paused = true)]
    async fn all_networks_together_get_to_fifty_guesses_a_second() {
        let room = Arc::new(CancelRoom::default());
        let (_tasks, guesses) =
            guess(&room, 1_000, |sender| source(&format!("10.{}.{}.1", sender / 200, sender % 200)));
        tokio::time::sleep(Duration::from_secs(100)).await;
        let before = guesses.swap(0, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(100)).await;
        let guesses = guesses.load(Ordering::Relaxed);
        assert!(before > 0 && guesses < 5_000, "{guesses}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_network_does_not_wait_for_the_one_that_guesses() {
        let room = Arc::new(CancelRoom::default());
        let (_tasks, _) = guess(&room, 500, |_| source("2001:db8::1"));
        tokio::time::sleep(Duration::from_secs(60)).await;
        for other in [source("2001:db8:0:1::1"), source("192.0.2.1"), None] {
            assert!(timeout(Duration::from_millis(1), room.enter(other)).await.is_ok(), "{other:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_key_now_and_then_costs_little() {
        let room = CancelRoom::default();
        for _ in 0..3 {
            let started = Instant::now();
            room.enter(None).await.unwrap().was_wrong().await;
            assert_eq!(started.elapsed(), super::FIRST);
            advance(FORGET).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_key_gives_its_place_back_at_once() {
        let room = CancelRoom::default();
        let started = Instant::now();
        for _ in 0..1_000 {
            drop(room.enter(source("192.0.2.1")).await);
        }
        assert!(started.elapsed().is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_strangers_share_what_is_left() {
        let room = CancelRoom::default();
        for number in 0..(2 * REMEMBERED) {
            let address = IpAddr::from(u128::try_from(number << 1).unwrap().rotate_right(64).to_be_bytes());
            let place = room.enter(Some(address)).await.unwrap();
            room.lock().known.get_mut(&place.network).unwrap().was_wrong();
        }
        assert_eq!(room.lock().known.len(), REMEMBERED + 1);
        advance(FORGET + LONGEST).await;
        drop(room.enter(source("198.51.100.1")).await);
        assert_eq!(room.lock().known.len(), 1, "who has been quiet for a minute is forgotten");
    }

    #[test]
    fn neighbours_are_one_network() {
        for (one, two, same) in [
            ("192.0.2.1", "192.0.2.255", true),
            ("192.0.2.1", "192.0.3.1", false),
            ("192.0.2.1", "::ffff:192.0.2.9", true),
            ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(Network::of(source(one)) == Network::of(source(two)), same, "{one} {two}");
        }
    }
}
