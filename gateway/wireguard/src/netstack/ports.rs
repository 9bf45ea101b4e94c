//! Local ports of outgoing connections.

use std::ops::RangeInclusive;

/// Where they are taken from. Wide, as a port rests for a while after its connection.
pub(super) const EPHEMERAL: RangeInclusive<u16> = 10_240..=65_535;

/// The first port that is free, beginning somewhere at random so that nobody can guess it, and going round once.
pub(super) fn choose(random: u16, mut is_taken: impl FnMut(u16) -> bool) -> Option<u16> {
    let count = EPHEMERAL.end() - EPHEMERAL.start();
    let first = EPHEMERAL.start() + random % (count + 1);
    (first..=*EPHEMERAL.end()).chain(*EPHEMERAL.start()..first).find(|port| !is_taken(*port))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_port_is_given_once_and_then_none() {
        let mut taken = BTreeSet::new();
        for random in 0..=EPHEMERAL.end() - EPHEMERAL.start() {
            let port = choose(random, |port| taken.contains(&port)).unwrap();
            assert!(EPHEMERAL.contains(&port) && taken.insert(port));
        }
        assert_eq!(choose(7, |port| taken.contains(&port)), None);
        taken.remove(&33_333);
        for random in [0, 7, 33_333, u16::MAX] {
            assert_eq!(choose(random, |port| taken.contains(&port)), Some(33_333));
        }
    }

    proptest! {
        #[test]
        fn a_taken_port_is_never_given(random in any::<u16>(), taken in prop::collection::btree_set(any::<u16>(), 0..50)) {
            let port = choose(random, |port| taken.contains(&port)).unwrap();
            prop_assert!(EPHEMERAL.contains(&port) && !taken.contains(&port));
        }
    }
}
