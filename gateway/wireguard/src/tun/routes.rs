//! Which networks the kernel sends through the interface: those that peers own.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::netlink::Netlink;
use crate::key::PublicKey;

/// The routes through one interface. The kernel removes them with it.
pub(super) struct Routes {
    netlink: Netlink,
    interface: u32,
    source: IpAddr,
    owners: BTreeMap<IpNet, PublicKey>,
}

impl Routes {
    pub(super) fn new(interface: u32, source: IpAddr) -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, interface, source, owners: BTreeMap::new() })
    }

    /// Gives a peer these networks and no others. What another peer had and this one claims stays where it is: it is the
    /// same route.
    pub(super) fn set(&mut self, peer: PublicKey, networks: &[IpNet]) {
        let wanted: Vec<IpNet> = networks.iter().map(IpNet::trunc).collect();
        let given_up: Vec<IpNet> = self
            .owners
            .iter()
            .filter(|(net, owner)| **owner == peer && !wanted.contains(net))
            .map(|(n, _)| *n)
            .collect();
        for network in given_up {
            self.owners.remove(&network);
            if let Err(error) = self.netlink.remove_route(self.interface, network) {
                tracing::warn!(%error, %network, "a route of the tunnel could not be removed");
            }
        }
        for network in wanted.into_iter().filter(|network| network.addr().is_ipv4() == self.source.is_ipv4()) {
            if self.owners.insert(network, peer).is_some() {
                continue;
            }
            if let Err(error) = self.netlink.add_route(self.interface, network, self.source) {
                self.owners.remove(&network);
                tracing::error!(%error, %network, "a route of the tunnel could not be added: its peer is out of reach");
            }
        }
    }
}
