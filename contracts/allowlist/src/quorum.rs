//! How many of several nodes must say the same before we believe it.
//!
//! A quorum is more than half of the endpoints, so that no two answers can both have one.

/// The smallest quorum of `endpoints` nodes: more than half.
#[must_use]
pub const fn majority(endpoints: usize) -> usize {
    endpoints / 2 + 1
}

/// The heights at which a quorum may agree on a block, the best first.
///
/// `heads` are the heights that nodes say they have reached. A node that boasts cannot raise the best height above what
/// a quorum has reached, and one that lags cannot hold the others back: the lower heights are there to be tried when the
/// higher ones find no agreement.
#[must_use]
pub fn heights(heads: &[u64], quorum: usize) -> Vec<u64> {
    let mut reached = heads.to_vec();
    reached.sort_unstable_by(|a, b| b.cmp(a));
    let mut reached = reached.split_off(quorum.saturating_sub(1).min(reached.len()));
    reached.dedup();
    reached
}

/// What a quorum said, and who said otherwise.
#[derive(Debug, PartialEq, Eq)]
pub struct Agreement<'a, T> {
    /// The common answer.
    pub value: &'a T,
    /// Who gave it, by position.
    pub agreeing: Vec<usize>,
    /// Who gave another one, by position. Those who gave none are in neither list.
    pub dissenting: Vec<usize>,
}

/// The answer that at least `quorum` of `votes` have in common. `None` is a node that did not answer.
#[must_use]
pub fn agreed<T: PartialEq>(votes: &[Option<T>], quorum: usize) -> Option<Agreement<'_, T>> {
    let cast = || votes.iter().enumerate().filter_map(|(at, vote)| vote.as_ref().map(|vote| (at, vote)));
    let (_, value) =
        cast().find(|(_, value)| quorum > 0 && cast().filter(|(_, other)| other == value).count() >= quorum)?;
    let (agreeing, dissenting) = cast().partition::<Vec<_>, _>(|(_, vote)| *vote == value);
    let places = |votes: Vec<(usize, &T)>| votes.into_iter().map(|(at, _)| at).collect();
    Some(Agreement { value, agreeing: places(agreeing), dissenting: places(dissenting) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_majority_is_more_than_half() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn neither_a_boaster_nor_a_laggard_decides_the_height() {
        assert_eq!(heights(&[1_000_000, 101, 101], 2), [101]);
        assert_eq!(heights(&[101, 100, 7], 2), [100, 7]);
        assert_eq!(heights(&[1_000_000, 101, 100], 2), [101, 100]);
        assert_eq!(heights(&[101], 2), [0_u64; 0]);
        assert_eq!(heights(&[], 1), [0_u64; 0]);
    }

    #[test]
    fn the_one_who_disagrees_is_named_and_the_silent_one_is_not() {
        let votes = [None, Some("yes"), Some("no"), Some("yes")];
        let agreement = agreed(&votes, 2).unwrap();
        assert_eq!(agreement, Agreement { value: &"yes", agreeing: vec![1, 3], dissenting: vec![2] });
        assert_eq!(agreed(&votes, 3), None);
        assert_eq!(agreed(&votes, 0), None);
    }

    proptest! {
        #[test]
        fn what_is_agreed_has_a_quorum_of_equal_votes(
            votes in proptest::collection::vec(proptest::option::of(0..3_u8), 0..8),
        ) {
            let quorum = majority(votes.len());
            let most = (0..3).map(|value| votes.iter().filter(|vote| **vote == Some(value)).count()).max().unwrap_or(0);
            let outcome = agreed(&votes, quorum);
            prop_assert_eq!(outcome.is_some(), most >= quorum);
            if let Some(agreement) = outcome {
                prop_assert!(agreement.agreeing.iter().all(|&at| votes[at] == Some(*agreement.value)));
                prop_assert_eq!(agreement.agreeing.len() + agreement.dissenting.len(), votes.iter().flatten().count());
            }
        }
    }
}
