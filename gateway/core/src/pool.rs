//! Inner addresses for instances, out of one network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use postern_identity::InstanceId;

/// Hands out addresses of a network, one per instance.
///
/// An instance is offered the address that its id points to, and the next free one when that is taken. A gateway that
/// lost its memory therefore gives most instances the address they had.
#[derive(Debug, Clone)]
pub struct AddressPool {
    network: IpNet,
    gateway: IpAddr,
    by_instance: BTreeMap<InstanceId, IpAddr>,
    by_address: BTreeMap<IpAddr, InstanceId>,
}

/// Why a pool cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The gateway's own address is not a host address of the network.
    #[error("the gateway's inner address is not a host address of the network")]
    GatewayOutside,
    /// The network leaves no address for an instance.
    #[error("the network has no room for an instance beside the gateway")]
    TooSmall,
}

impl AddressPool {
    /// A pool over `network`, of which `gateway` is the gateway's own address.
    pub fn new(network: IpNet, gateway: IpAddr) -> Result<Self, PoolError> {
        let network = network.trunc();
        if !network.contains(&gateway) || gateway == network.network() || is_broadcast(&network, gateway) {
            return Err(PoolError::GatewayOutside);
        }
        let pool = Self { network, gateway, by_instance: BTreeMap::new(), by_address: BTreeMap::new() };
        if pool.hosts() < 2 { Err(PoolError::TooSmall) } else { Ok(pool) }
    }

    /// The address of an instance, which it keeps until it is released; `None` when all are taken.
    pub fn allocate(&mut self, instance: InstanceId) -> Option<IpAddr> {
        if let Some(address) = self.by_instance.get(&instance) {
            return Some(*address);
        }
        let hosts = self.hosts();
        let start = preferred(&instance, hosts);
        // One more than are taken, plus the gateway's own, is far enough to find a free one if there is any.
        let tries = u128::try_from(self.by_address.len()).ok()?.saturating_add(2).min(hosts);
        let address = (0..tries).map(|step| self.host((start + step) % hosts)).find(|at| self.is_free(*at))?;
        self.by_instance.insert(instance, address);
        self.by_address.insert(address, instance);
        Some(address)
    }

    /// Takes the address of an instance back.
    pub fn release(&mut self, instance: &InstanceId) -> Option<IpAddr> {
        let address = self.by_instance.remove(instance)?;
        self.by_address.remove(&address);
        Some(address)
    }

    /// The network the addresses come from.
    #[must_use]
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// The gateway's own address.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    fn is_free(&self, address: IpAddr) -> bool {
        address != self.gateway && !self.by_address.contains_key(&address)
    }

    /// How many host addresses the network has: all but the first, and for IPv4 all but the last.
    fn hosts(&self) -> u128 {
        let bits = u32::from(self.network.max_prefix_len() - self.network.prefix_len());
        let addresses = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
        let reserved = if matches!(self.network, IpNet::V4(_)) { 2 } else { 1 };
        addresses.saturating_sub(reserved)
    }

    fn host(&self, index: u128) -> IpAddr {
        match self.network.network() {
            // The index is below the number of hosts, so it fits the family.
            IpAddr::V4(base) => {
                IpAddr::V4(u32::from(base).saturating_add(u32::try_from(index + 1).unwrap_or(u32::MAX)).into())
            }
            IpAddr::V6(base) => IpAddr::V6(u128::from(base).saturating_add(index + 1).into()),
        }
    }
}

fn is_broadcast(network: &IpNet, address: IpAddr) -> bool {
    matches!(network, IpNet::V4(_)) && address == network.broadcast()
}

fn preferred(instance: &InstanceId, hosts: u128) -> u128 {
    let head = instance.as_bytes().first_chunk().map_or(0, |head: &[u8; 16]| u128::from_be_bytes(*head));
    head % hosts.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pool(network: &str, gateway: &str) -> AddressPool {
        AddressPool::new(network.parse().unwrap(), gateway.parse().unwrap()).unwrap()
    }

    fn instance(number: u8) -> InstanceId {
        InstanceId([number; 20])
    }

    #[test]
    fn a_small_network_gives_every_host_address_but_the_gateways_own_and_then_none() {
        let mut pool = pool("10.0.0.0/29", "10.0.0.1");
        let given: BTreeSet<IpAddr> = (0..5).map(|number| pool.allocate(instance(number)).unwrap()).collect();
        let expected: BTreeSet<IpAddr> = (2..7).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        assert_eq!(given, expected);
        assert_eq!(pool.allocate(instance(9)), None);
        pool.release(&instance(3)).unwrap();
        assert!(pool.allocate(instance(9)).is_some());
    }

    #[test]
    fn a_network_without_room_or_without_the_gateway_is_refused() {
        let refused = |network: &str, gateway: &str| {
            AddressPool::new(network.parse().unwrap(), gateway.parse().unwrap()).unwrap_err()
        };
        assert_eq!(refused("10.0.0.0/29", "10.0.1.1"), PoolError::GatewayOutside);
        assert_eq!(refused("10.0.0.0/29", "10.0.0.0"), PoolError::GatewayOutside);
        assert_eq!(refused("10.0.0.0/29", "10.0.0.7"), PoolError::GatewayOutside);
        assert_eq!(refused("10.0.0.1/32", "10.0.0.1"), PoolError::GatewayOutside);
        assert_eq!(refused("fd00::/127", "fd00::1"), PoolError::TooSmall);
    }

    #[test]
    fn a_pool_without_memory_gives_an_instance_the_same_address() {
        let network = ("fd00:1::/64", "fd00:1::1");
        let mut before = pool(network.0, network.1);
        let mut after = pool(network.0, network.1);
        let ids = [instance(1), instance(200), InstanceId([0; 20])];
        let first: Vec<_> = ids.iter().map(|id| before.allocate(*id)).collect();
        let second: Vec<_> = ids.iter().rev().map(|id| after.allocate(*id)).rev().collect();
        assert_eq!(first, second);
    }

    proptest! {
        #[test]
        fn addresses_are_distinct_inside_and_kept(ids in prop::collection::btree_set(any::<[u8; 20]>(), 1..200)) {
            let mut pool = pool("10.7.0.0/24", "10.7.0.1");
            let mut given = BTreeSet::new();
            for id in &ids {
                let address = pool.allocate(InstanceId(*id)).unwrap();
                prop_assert!(pool.network().contains(&address) && address != pool.gateway());
                prop_assert!(given.insert(address));
                prop_assert_eq!(pool.allocate(InstanceId(*id)), Some(address));
            }
        }
    }
}
