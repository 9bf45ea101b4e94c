//! Connections that this end closed first. They are over, but the far end may not know yet: its last FIN is answered for
//! a while as it was answered before (TIME-WAIT, RFC 9293, section 3.6), without the buffers of a live connection.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How long a far end may take to send its FIN again. Shorter than the two minutes of the RFC, as a tunnel has no
/// routers that keep packets for so long.
const REST: Duration = Duration::from_secs(10);

/// The most that are remembered; the oldest go first.
const MOST: usize = 65_536;

/// What was answered last, by connection.
#[derive(Debug)]
pub(super) struct TimeWait<K> {
    answers: HashMap<K, (Instant, Box<[u8]>)>,
    order: VecDeque<(Instant, K)>,
}

impl<K: Copy + Eq + Hash> TimeWait<K> {
    pub(super) fn new() -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new() }
    }

    /// Remembers a connection by the segment that acknowledged the far end's FIN.
    pub(super) fn rest(&mut self, key: K, answer: &[u8], now: Instant) {
        self.forget_rested(now);
        while self.order.len() >= MOST {
            self.forget_oldest();
        }
        self.answers.insert(key, (now, answer.into()));
        self.order.push_back((now, key));
    }

    /// What to answer when the far end says something on a connection that rests.
    pub(super) fn answer(&self, key: &K, now: Instant) -> Option<&[u8]> {
        let (since, answer) = self.answers.get(key)?;
        (now.saturating_duration_since(*since) < REST).then_some(answer)
    }

    /// Forgets a connection because a new one takes its place.
    pub(super) fn forget(&mut self, key: &K) {
        self.answers.remove(key);
    }

    fn forget_rested(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) >= REST) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((since, key)) = self.order.pop_front() else { return };
        // The key may rest for another reason by now, or not at all.
        if self.answers.get(&key).is_some_and(|(at, _)| *at == since) {
            self.answers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_rests_and_is_forgotten() {
        let start = Instant::now();
        let mut resting = TimeWait::new();
        resting.rest(1, b"one", start);
        resting.rest(2, b"two", start + REST / 2);
        assert_eq!(resting.answer(&1, start + REST / 2), Some(&b"one"[..]));
        assert_eq!(resting.answer(&1, start + REST), None);
        assert_eq!(resting.answer(&2, start + REST), Some(&b"two"[..]));
        resting.rest(3, b"three", start + REST);
        assert_eq!(resting.answers.len(), 2);
        resting.forget(&2);
        assert_eq!(resting.answer(&2, start + REST), None);
    }

    #[test]
    fn one_that_rests_again_is_not_forgotten_with_its_first_rest() {
        let start = Instant::now();
        let mut resting = TimeWait::new();
        resting.rest(1, b"one", start);
        resting.forget(&1);
        resting.rest(1, b"again", start + REST / 2);
        resting.rest(2, b"two", start + REST);
        assert_eq!(resting.answer(&1, start + REST), Some(&b"again"[..]));
    }

    #[test]
    fn it_is_bounded() {
        let start = Instant::now();
        let mut resting = TimeWait::new();
        for key in 0..=MOST {
            resting.rest(key, b"", start);
        }
        assert_eq!((resting.answers.len(), resting.order.len()), (MOST, MOST));
        assert!(resting.answer(&0, start).is_none() && resting.answer(&MOST, start).is_some());
    }
}
