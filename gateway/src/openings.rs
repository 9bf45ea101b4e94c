//! Connections that are not opened yet, counted by the networks that they come from: a flood from one of them is turned away
//! while the others are served.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections each network has that are not opened yet. Clones share the count.
#[derive(Debug, Clone)]
pub struct Openings {
    most: usize,
    networks: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection that is not opened yet, until this is dropped.
#[derive(Debug)]
pub struct Place {
    network: IpAddr,
    openings: Openings,
}

impl Openings {
    /// A network may have `most` at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, networks: Arc::default() }
    }

    /// A place for a connection of this client, if its network has one left.
    #[must_use]
    pub fn enter(&self, client: IpAddr) -> Option<Place> {
        let network = network(client);
        let mut networks = self.networks();
        let count = networks.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { network, openings: self.clone() })
    }

    fn networks(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // Every entry is whole, wherever the last holder panicked.
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut networks = self.openings.networks();
        if let Some(count) = networks.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                networks.remove(&self.network);
            }
        }
    }
}

/// What one owner usually has: 24 bits of an IPv4 address, or 64 bits of an IPv6 address.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) & (u32::MAX << 8)).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(openings: &Openings, client: &str) -> Option<Place> {
        openings.enter(client.parse().unwrap())
    }

    #[test]
    fn one_network_cannot_take_the_places_of_another_one() {
        let openings = Openings::new(2);
        let taken: Vec<_> = (0..10).filter_map(|last| enter(&openings, &format!("192.0.2.{last}"))).collect();
        assert_eq!(taken.len(), 2);
        assert!(enter(&openings, "::ffff:192.0.2.77").is_none(), "it is the same in the form of IPv6");
        assert!(enter(&openings, "192.0.3.1").is_some());
        let taken: Vec<_> = (0..10).filter_map(|last| enter(&openings, &format!("2001:db8::{last}"))).collect();
        assert_eq!(taken.len(), 2);
        assert!(enter(&openings, "2001:db8:0:1::1").is_some());
    }

    #[test]
    fn nothing_is_left_of_connections_that_were_opened() {
        let openings = Openings::new(1);
        for _ in 0..3 {
            let place = enter(&openings, "192.0.2.1");
            assert!(place.is_some());
            drop(place);
        }
        assert!(openings.networks().is_empty());
    }
}
