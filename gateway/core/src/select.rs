//! Which of several instances takes a connection.

/// Picks by the power of two choices: of two candidates taken at random, the one with less to do.
///
/// `load` gives the live connections of a candidate; `random` holds two independent uniform numbers. The answer is an
/// index into `candidates`, or `None` when there are none.
pub fn select<T>(candidates: &[T], load: impl Fn(&T) -> usize, random: [u64; 2]) -> Option<usize> {
    let count = candidates.len();
    let first = index(random[0], count)?;
    let Some(step) = index(random[1], count - 1) else { return Some(first) };
    let second = (first + 1 + step) % count;
    let (one, other) = (candidates.get(first)?, candidates.get(second)?);
    Some(if load(other) < load(one) { second } else { first })
}

/// Maps a uniform 64-bit number to `0..count`.
fn index(random: u64, count: usize) -> Option<usize> {
    let scaled = u128::from(random) * u128::try_from(count).ok()?;
    if count == 0 { None } else { usize::try_from(scaled >> 64).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_candidate_is_no_choice() {
        assert_eq!(select::<usize>(&[], |load| *load, [0, 0]), None);
    }

    #[test]
    fn the_only_candidate_is_chosen_whatever_its_load() {
        assert_eq!(select(&[900], |load| *load, [u64::MAX, u64::MAX]), Some(0));
    }

    #[test]
    fn the_less_loaded_of_two_is_chosen_for_every_random_number() {
        for random in [[0, 0], [u64::MAX, 0], [1 << 63, u64::MAX], [0, u64::MAX]] {
            assert_eq!(select(&[5, 3], |load| *load, random), Some(1));
            assert_eq!(select(&[3, 5], |load| *load, random), Some(0));
        }
    }

    proptest! {
        #[test]
        fn the_choice_exists_and_is_never_the_most_loaded(
            loads in prop::collection::btree_set(0usize..1000, 2..20), random: [u64; 2],
        ) {
            let loads: Vec<usize> = loads.into_iter().collect();
            let chosen = select(&loads, |load| *load, random).unwrap();
            prop_assert!(chosen < loads.len() - 1, "the set is sorted, so the last is the most loaded");
        }
    }
}
