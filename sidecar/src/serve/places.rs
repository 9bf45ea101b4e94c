//! Room for sessions: so many in all, so many for each role, and for some roles a share that nobody else can take.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// What a role may have of the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many sessions it may have at most, where that is limited.
    pub most: Option<usize>,
    /// How many sessions others must leave it room for.
    pub reserved: usize,
}

/// All room, and who has it.
#[derive(Debug)]
pub struct Places {
    total: usize,
    shares: BTreeMap<String, Share>,
    taken: Arc<watch::Sender<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_role: BTreeMap<String, usize>,
}

/// Room for one session, until this is dropped.
#[derive(Debug)]
pub struct Place {
    role: String,
    taken: Arc<watch::Sender<Taken>>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The role has as many sessions as it may have.
    Role,
    /// There are as many sessions as there may be, beside those that are kept free for other roles.
    All,
}

impl Places {
    /// Room for `total` sessions. The reserved shares must not be more than that together.
    #[must_use]
    pub fn new(total: usize, shares: BTreeMap<String, Share>) -> Self {
        Self { total, shares, taken: Arc::default() }
    }

    /// Takes room for a session of `role`.
    ///
    /// # Errors
    /// When there is none for this role.
    pub fn take(&self, role: &str) -> Result<Place, Full> {
        let mut verdict = Ok(());
        self.taken.send_if_modified(|taken| {
            verdict = self.judge(taken, role);
            if verdict.is_ok() {
                taken.all += 1;
                *taken.by_role.entry(role.to_owned()).or_default() += 1;
            }
            verdict.is_ok()
        });
        verdict.map(|()| Place { role: role.to_owned(), taken: Arc::clone(&self.taken) })
    }

    fn judge(&self, taken: &Taken, role: &str) -> Result<(), Full> {
        let share = self.shares.get(role).copied().unwrap_or_default();
        if share.most.is_some_and(|most| taken.of(role) >= most) {
            return Err(Full::Role);
        }
        let others = self.shares.iter().filter(|(other, _)| *other != role);
        let kept_free: usize = others.map(|(other, share)| share.reserved.saturating_sub(taken.of(other))).sum();
        if taken.all + kept_free < self.total { Ok(()) } else { Err(Full::All) }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.borrow().all
    }

    /// How many more sessions there may be.
    #[must_use]
    pub fn left(&self) -> usize {
        self.total.saturating_sub(self.taken())
    }

    /// Waits until there is no session.
    pub async fn empty(&self) {
        // The sender lives as long as we do.
        drop(self.taken.subscribe().wait_for(|taken| taken.all == 0).await);
    }
}

impl Taken {
    fn of(&self, role: &str) -> usize {
        self.by_role.get(role).copied().unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.send_modify(|taken| {
            taken.all = taken.all.saturating_sub(1);
            if let Some(count) = taken.by_role.get_mut(&self.role) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    taken.by_role.remove(&self.role);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{Full, Place, Places, Share};

    fn places(total: usize, shares: &[(&str, Option<usize>, usize)]) -> Places {
        let share = |(role, most, reserved): &(&str, Option<usize>, usize)| {
            ((*role).to_owned(), Share { most: *most, reserved: *reserved })
        };
        Places::new(total, shares.iter().map(share).collect())
    }

    fn fill(places: &Places, role: &str) -> (Vec<Place>, Full) {
        let mut taken = Vec::new();
        loop {
            match places.take(role) {
                Ok(place) => taken.push(place),
                Err(full) => return (taken, full),
            }
        }
    }

    #[test]
    fn a_role_cannot_take_what_is_kept_free_for_others() {
        let places = places(10, &[("read", None, 0), ("write", None, 3), ("admin", None, 1)]);
        let (read, full) = fill(&places, "read");
        assert_eq!((read.len(), full), (6, Full::All));
        let (write, _) = fill(&places, "write");
        assert_eq!(write.len(), 3);
        assert_eq!(fill(&places, "admin").0.len(), 1, "and the last one is there still");
        assert_eq!((places.taken(), places.left()), (9, 1));
    }

    #[test]
    fn a_role_has_a_limit_of_its_own() {
        let places = places(10, &[("read", Some(2), 0)]);
        let (read, full) = fill(&places, "read");
        assert_eq!((read.len(), full), (2, Full::Role));
        assert_eq!(fill(&places, "other").0.len(), 8);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let places = places(2, &[("read", Some(1), 1)]);
        let first = places.take("read").unwrap();
        assert_eq!(places.take("read").unwrap_err(), Full::Role);
        drop(first);
        assert!(places.taken.borrow().by_role.is_empty(), "nothing is remembered of roles without sessions");
        places.take("read").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_last_session_is_noticed() {
        let places = places(2, &[]);
        let (first, second) = (places.take("a").unwrap(), places.take("b").unwrap());
        let mut empty = std::pin::pin!(places.empty());
        let mut is_empty =
            async || tokio::time::timeout(std::time::Duration::from_secs(1), empty.as_mut()).await.is_ok();
        drop(first);
        assert!(!is_empty().await);
        drop(second);
        assert!(is_empty().await);
    }

    proptest! {
        #[test]
        fn reservations_hold_in_every_order_of_comings_and_goings(
            total in 1_usize..12,
            shares in prop::collection::vec((prop::option::of(1_usize..8), 0_usize..4), 3),
            steps in prop::collection::vec((0_usize..3, any::<bool>()), 0..60),
        ) {
            let mut left = total;
            let mut table = BTreeMap::new();
            for (index, (most, reserved)) in shares.into_iter().enumerate() {
                let reserved = reserved.min(left).min(most.unwrap_or(usize::MAX));
                left -= reserved;
                table.insert(index.to_string(), Share { most, reserved });
            }
            let places = Places::new(total, table.clone());
            let mut held: [Vec<Place>; 3] = Default::default();
            for (role, come) in steps {
                let name = role.to_string();
                let share = table[&name];
                if come {
                    let there = held[role].len();
                    let taken = places.take(&name);
                    if there < share.reserved {
                        prop_assert!(taken.is_ok(), "{} of {} reserved are taken", there, share.reserved);
                    }
                    held[role].extend(taken.ok());
                } else {
                    held[role].pop();
                }
                let count: usize = held.iter().map(Vec::len).sum();
                prop_assert!(count <= total && places.taken() == count);
                prop_assert!(share.most.is_none_or(|most| held[role].len() <= most));
            }
        }
    }
}
