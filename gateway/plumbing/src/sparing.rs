//! Lines that strangers can cause as fast as they come: a few of each kind in a while, and a count of the rest.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lets a few of each kind through per window of time and counts the others. Kinds are a closed set, such as the labels of
/// an enum, or somebody asks for those left out again and again: until then, each of them takes memory.
#[derive(Debug)]
pub struct Sparing<K> {
    burst: u32,
    window: Duration,
    kinds: Mutex<BTreeMap<K, Window>>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    said: u32,
    left_out: u64,
}

impl<K: Ord + Copy> Sparing<K> {
    /// Lets `burst` of each kind through in each `window`.
    #[must_use]
    pub const fn new(burst: u32, window: Duration) -> Self {
        Self { burst, window, kinds: Mutex::new(BTreeMap::new()) }
    }

    /// Whether one of this kind may be said now: then, how many of its kind were left out since the last one that was.
    pub fn turn(&self, kind: K, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds();
        let window = kinds.entry(kind).or_insert(Window { since: now, said: 0, left_out: 0 });
        if now.saturating_duration_since(window.since) >= self.window {
            (window.since, window.said) = (now, 0);
        }
        if window.said >= self.burst {
            window.left_out += 1;
            return None;
        }
        window.said += 1;
        Some(std::mem::take(&mut window.left_out))
    }

    /// The kinds of which some were left out in a window that is over, and how many. They are not told of again.
    pub fn left_out(&self, now: Instant) -> Vec<(K, u64)> {
        let is_over = |window: &Window| now.saturating_duration_since(window.since) >= self.window;
        let told = self.told(is_over);
        // The next one of its kind begins a new window in any case.
        self.kinds().retain(|_, window| !is_over(window) || window.left_out > 0);
        told
    }

    /// The same for windows that are not over yet, as at the end of a program.
    pub fn all_left_out(&self) -> Vec<(K, u64)> {
        self.told(|_| true)
    }

    fn told(&self, due: impl Fn(&Window) -> bool) -> Vec<(K, u64)> {
        let mut kinds = self.kinds();
        let some = kinds.iter_mut().filter(|(_, window)| window.left_out > 0 && due(window));
        some.map(|(kind, window)| (*kind, std::mem::take(&mut window.left_out))).collect()
    }

    fn kinds(&self) -> MutexGuard<'_, BTreeMap<K, Window>> {
        // Counts are whole at every step, wherever the last holder panicked.
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_few_of_each_kind_are_let_through_and_the_rest_are_counted() {
        let (sparing, start) = (Sparing::new(2, 10 * SECOND), Instant::now());
        assert_eq!([(); 5].map(|()| sparing.turn("flood", start)), [Some(0), Some(0), None, None, None]);
        assert_eq!(sparing.turn("other", start), Some(0), "another kind is not concerned");
        assert_eq!(sparing.left_out(start + 9 * SECOND), []);
        assert_eq!(sparing.turn("flood", start + 10 * SECOND), Some(3), "the next one tells of those left out");
        assert_eq!(sparing.turn("flood", start + 10 * SECOND), Some(0));
    }

    #[test]
    fn the_end_of_a_flood_is_told_without_another_one() {
        let (sparing, start) = (Sparing::new(1, 10 * SECOND), Instant::now());
        sparing.turn("flood", start);
        sparing.turn("flood", start);
        assert_eq!(sparing.left_out(start + 10 * SECOND), [("flood", 1)]);
        assert_eq!(sparing.left_out(start + 10 * SECOND), [], "once");
        assert!(sparing.kinds().is_empty(), "what is over takes no memory");
        sparing.turn("flood", start + 10 * SECOND);
        sparing.turn("flood", start + 11 * SECOND);
        assert_eq!(sparing.all_left_out(), [("flood", 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whenever_it_comes(
            pauses in proptest::collection::vec((0..3_u8, 0..4_000_u64, any::<bool>()), 0..200),
        ) {
            let (sparing, mut now) = (Sparing::new(3, SECOND), Instant::now());
            let (mut said, mut told) = (0, 0);
            for (kind, pause, sweeps) in &pauses {
                now += Duration::from_millis(*pause);
                if let Some(left_out) = sparing.turn(*kind, now) {
                    said += 1;
                    told += left_out;
                }
                if *sweeps {
                    told += sparing.left_out(now).iter().map(|(_, count)| count).sum::<u64>();
                }
            }
            told += sparing.all_left_out().iter().map(|(_, count)| count).sum::<u64>();
            prop_assert_eq!(said + told, u64::try_from(pauses.len()).unwrap());
        }
    }
}
