//! When each connection wants to be looked at next.

use std::collections::BTreeSet;

/// Moments and whose they are, at most one for each. Whoever has one remembers it, to move it.
#[derive(Debug)]
pub(super) struct Deadlines<T, K> {
    set: BTreeSet<(T, K)>,
}

impl<T: Ord + Copy, K: Ord + Copy> Deadlines<T, K> {
    pub(super) fn new() -> Self {
        Self { set: BTreeSet::new() }
    }

    /// Moves a deadline; returns whether it is now the first of all.
    pub(super) fn set(&mut self, key: K, old: Option<T>, new: T) -> bool {
        if let Some(old) = old {
            self.set.remove(&(old, key));
        }
        self.set.insert((new, key));
        self.set.first() == Some(&(new, key))
    }

    /// Takes a deadline away.
    pub(super) fn clear(&mut self, key: K, old: T) {
        self.set.remove(&(old, key));
    }

    /// The first deadline.
    pub(super) fn first(&self) -> Option<T> {
        self.set.first().map(|(at, _)| *at)
    }

    /// Takes out one whose deadline has come.
    pub(super) fn pop_due(&mut self, now: T) -> Option<(T, K)> {
        if self.first()? <= now { self.set.pop_first() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_says_when_the_first_one_changes() {
        let mut deadlines = Deadlines::new();
        assert!(deadlines.set('a', None, 10));
        assert!(!deadlines.set('b', None, 20));
        assert!(deadlines.set('b', Some(20), 5));
        assert_eq!(deadlines.first(), Some(5));
        deadlines.clear('b', 5);
        assert_eq!((deadlines.pop_due(9), deadlines.pop_due(10), deadlines.pop_due(99)), (None, Some((10, 'a')), None));
    }

    proptest! {
        #[test]
        fn all_come_due_in_order_and_none_twice(times in prop::collection::vec(0_u32..50, 0..40)) {
            let mut deadlines = Deadlines::new();
            for (key, at) in times.iter().enumerate() {
                deadlines.set(key, None, at + 7);
                deadlines.set(key, Some(at + 7), *at);
            }
            let due: Vec<_> = std::iter::from_fn(|| deadlines.pop_due(25)).collect();
            let mut expected: Vec<_> = times.iter().enumerate().map(|(key, at)| (*at, key)).collect();
            expected.retain(|(at, _)| *at <= 25);
            expected.sort_unstable();
            prop_assert_eq!(due, expected);
        }
    }
}
