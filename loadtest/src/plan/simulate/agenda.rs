//! Virtual time: what happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Events in the order of their times; those of one time in the order in which they were noted.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    now: Duration,
    noted: u64,
    taken: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), now: Duration::ZERO, noted: 0, taken: 0 }
    }

    /// Notes an event. What should have happened in the past happens now.
    pub(super) fn at(&mut self, at: Duration, event: E) {
        self.noted += 1;
        self.heap.push(Reverse(Entry { at: at.max(self.now), number: self.noted, event }));
    }

    /// The next event, whose time is the present from then on.
    pub(super) fn next(&mut self) -> Option<E> {
        let Reverse(entry) = self.heap.pop()?;
        self.now = entry.at;
        self.taken += 1;
        Some(entry.event)
    }

    /// The present.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// How many events there were so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_times_and_then_of_their_noting() {
        let mut agenda = Agenda::new();
        let seconds = Duration::from_secs;
        for (at, event) in [(2, "third"), (1, "first"), (1, "second")] {
            agenda.at(seconds(at), event);
        }
        assert_eq!((agenda.next(), agenda.now()), (Some("first"), seconds(1)));
        assert_eq!(agenda.next(), Some("second"));
        assert_eq!((agenda.next(), agenda.now()), (Some("third"), seconds(2)));
        agenda.at(seconds(1), "late");
        assert_eq!((agenda.next(), agenda.now()), (Some("late"), seconds(2)), "time does not run backwards");
        assert_eq!((agenda.next(), agenda.taken()), (None, 4));
    }
}
