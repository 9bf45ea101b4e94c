//! Room for connections that are not sessions yet, in all and from each source, and some more for those who are told that there
//! is none.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::server::Limits;
use super::throttle::network;

/// How many connections at a time are told that there is no room for them. More are closed without a word.
const TURNED_AWAY: usize = 64;

/// All connections that are not sessions yet.
#[derive(Debug)]
pub struct Handshakes {
    all: Arc<Semaphore>,
    of_one_source: usize,
    sources: Arc<Sources>,
    turned_away: Arc<Semaphore>,
}

/// How many there are of each source that has any.
type Sources = Mutex<BTreeMap<IpAddr, usize>>;

/// Room for one connection, given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    _of_all: OwnedSemaphorePermit,
    _of_source: Option<Share>,
}

#[derive(Debug)]
struct Share {
    source: IpAddr,
    sources: Arc<Sources>,
}

/// There is no room for a connection.
#[derive(Debug)]
pub struct NoRoom {
    /// Why.
    pub crowd: Crowd,
    /// Room to tell it so, if there is that.
    pub place: Option<OwnedSemaphorePermit>,
}

/// Whose connections are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    /// Everybody's.
    Everybody,
    /// Those of its own source.
    Source,
}

impl Handshakes {
    /// Room within these limits.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let room = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Self {
            all: room(limits.max_handshakes),
            of_one_source: limits.max_handshakes_of_source,
            sources: Arc::default(),
            turned_away: room(TURNED_AWAY),
        }
    }

    /// Room for one more connection, whose source may be unknown as yet.
    ///
    /// # Errors
    /// When there is none.
    pub fn enter(&self, source: Option<IpAddr>) -> Result<Room, NoRoom> {
        let of_all = Arc::clone(&self.all).try_acquire_owned();
        let of_all = of_all.map_err(|_| self.no_room(Crowd::Everybody))?;
        self.assign(Room { _of_all: of_all, _of_source: None }, source)
    }

    /// The same room for a connection whose source has become known: a gateway has named it.
    ///
    /// # Errors
    /// When the source has its share.
    pub fn assign(&self, room: Room, source: Option<IpAddr>) -> Result<Room, NoRoom> {
        let Some(source) = source.map(network) else { return Ok(room) };
        let mut sources = lock(&self.sources);
        let taken = sources.entry(source).or_default();
        if *taken >= self.of_one_source {
            return Err(self.no_room(Crowd::Source));
        }
        *taken += 1;
        Ok(Room { _of_source: Some(Share { source, sources: Arc::clone(&self.sources) }), ..room })
    }

    fn no_room(&self, crowd: Crowd) -> NoRoom {
        NoRoom { crowd, place: Arc::clone(&self.turned_away).try_acquire_owned().ok() }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut sources = lock(&self.sources);
        if let Some(taken) = sources.get_mut(&self.source) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

fn lock(sources: &Sources) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
    // Counts are whole at every step, wherever the last holder panicked.
    sources.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Crowd, Handshakes, Room, TURNED_AWAY, lock};
    use crate::serve::server::Limits;

    fn handshakes(all: usize, of_one_source: usize) -> Handshakes {
        Handshakes::new(&Limits {
            handshake: Duration::from_secs(1),
            max_handshakes: all,
            max_handshakes_of_source: of_one_source,
            max_sessions: 1,
            require_alpn: false,
        })
    }

    fn source(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_source_leaves_room_for_others() {
        let handshakes = handshakes(4, 2);
        let entered = |text| handshakes.enter(source(text)).map_err(|none| none.crowd);
        let first = [entered("192.0.2.1").unwrap(), entered("192.0.2.1").unwrap()];
        assert_eq!(entered("192.0.2.1").unwrap_err(), Crowd::Source);
        assert_eq!(entered("::ffff:192.0.2.1").unwrap_err(), Crowd::Source, "however it is written");
        let _second = [entered("2001:db8::1").unwrap(), entered("2001:db8::2").unwrap()];
        assert_eq!(entered("198.51.100.1").unwrap_err(), Crowd::Everybody);
        drop(first);
        assert_eq!(entered("2001:db8::ffff:3").unwrap_err(), Crowd::Source, "a network of 64 bits is one");
        let _third = entered("198.51.100.1").unwrap();
    }

    #[test]
    fn a_source_that_a_gateway_names_counts_as_well() {
        let handshakes = handshakes(4, 1);
        let unknown = || handshakes.enter(None).unwrap();
        let first = handshakes.assign(unknown(), source("192.0.2.1")).unwrap();
        assert_eq!(handshakes.assign(unknown(), source("192.0.2.1")).unwrap_err().crowd, Crowd::Source);
        let _second = handshakes.assign(unknown(), source("192.0.2.2")).unwrap();
        drop(first);
        let _again = handshakes.assign(unknown(), source("192.0.2.1")).unwrap();
        let _nobody = [handshakes.assign(unknown(), None).unwrap(), unknown()];
    }

    #[test]
    fn so_many_are_told_and_no_more() {
        let handshakes = handshakes(1, 1);
        let _room = handshakes.enter(None).unwrap();
        let turned_away: Vec<_> = (0..=TURNED_AWAY).map(|_| handshakes.enter(None).unwrap_err()).collect();
        assert_eq!(turned_away.iter().filter(|none| none.place.is_some()).count(), TURNED_AWAY);
        drop(turned_away);
        assert!(handshakes.enter(None).unwrap_err().place.is_some());
    }

    proptest! {
        #[test]
        fn no_room_is_lost_and_none_is_given_twice(
            all in 1_usize..10,
            of_one in 1_usize..5,
            steps in prop::collection::vec((0_u8..4, any::<bool>()), 0..80),
        ) {
            let handshakes = handshakes(all, of_one);
            let mut held: [Vec<Room>; 4] = Default::default();
            for (number, comes) in steps {
                let there: usize = held.iter().map(Vec::len).sum();
                let own = &mut held[usize::from(number)];
                if comes {
                    let entered = handshakes.enter(Some([192, 0, 2, number].into()));
                    prop_assert_eq!(entered.is_ok(), there < all && own.len() < of_one);
                    own.extend(entered.ok());
                } else {
                    own.pop();
                }
                let known = held.iter().filter(|own| !own.is_empty()).count();
                prop_assert_eq!(lock(&handshakes.sources).len(), known, "nothing is remembered of those without any");
            }
        }
    }
}
