//! Which of the threads that serve clients takes a connection.

/// How many connections a thread may have more than another one before it is called skewed, when there are few.
const SLACK: usize = 32;

/// The thread that should take a connection in place of the one that has accepted it: the one with the fewest, where `own`
/// has far more than that. `loads` gives the live connections of each.
pub fn elsewhere(own: usize, loads: impl Iterator<Item = usize> + Clone) -> Option<usize> {
    let mine = loads.clone().nth(own)?;
    let (fewest, least) = loads.enumerate().min_by_key(|(_, load)| *load)?;
    (mine > least + SLACK.max(least / 4)).then_some(fewest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(own: usize, loads: &[usize]) -> Option<usize> {
        elsewhere(own, loads.iter().copied())
    }

    #[test]
    fn who_has_about_as_many_as_the_others_keeps_what_it_accepts() {
        assert_eq!(of(0, &[0]), None);
        assert_eq!(of(0, &[32, 0, 5]), None);
        assert_eq!(of(1, &[1_000, 1_250]), None);
        assert_eq!(of(7, &[900]), None, "there is no such thread");
    }

    #[test]
    fn who_has_far_more_gives_to_the_one_with_the_fewest() {
        assert_eq!(of(0, &[33, 1, 0, 2]), Some(2));
        assert_eq!(of(1, &[1_000, 1_251]), Some(0));
    }

    proptest! {
        #[test]
        fn any_skew_is_evened_out(loads in prop::collection::vec(0usize..2_000, 1..9), arrivals in 0usize..4_000) {
            let mut loads = loads;
            // All arrive at the same thread, and nobody leaves.
            for _ in 0..arrivals {
                let taker = of(0, &loads).unwrap_or(0);
                prop_assert!(taker == 0 || loads[taker] < loads[0]);
                loads[taker] += 1;
            }
            let (most, least) = (loads[0], loads.iter().min().copied().unwrap());
            prop_assert!(of(0, &loads).is_none() || most > least + SLACK);
        }
    }
}
