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
    owners: BTreeMap<IpNet, Owner>,
}

/// Whose network it is, and its largest packet, in bytes, where that is not the interface's.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner {
    peer: PublicKey,
    mtu: Option<u16>,
}

impl Routes {
    pub(super) fn new(interface: u32, source: IpAddr) -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, interface, source, owners: BTreeMap::new() })
    }

    /// Gives a peer these networks and no others, with packets of at most `mtu` bytes. What another peer had and this one
    /// claims stays where it is: it is the same route.
    pub(super) fn set(&mut self, peer: PublicKey, networks: &[IpNet], mtu: Option<u16>) {
        let wanted: Vec<IpNet> = networks.iter().map(IpNet::trunc).collect();
        let given_up: Vec<IpNet> = self
            .owners
            .iter()
            .filter(|(net, owner)| owner.peer == peer && !wanted.contains(net))
            .map(|(n, _)| *n)
            .collect();
        for network in given_up {
            self.owners.remove(&network);
            if let Err(error) = self.netlink.remove_route(self.interface, network) {
                tracing::warn!(%error, %network, "a route of the tunnel could not be removed");
            }
        }
        let is_ipv4 = self.source.is_ipv4();
        for network in wanted.into_iter().filter(|network| network.addr().is_ipv4() == is_ipv4) {
            let before = self.owners.insert(network, Owner { peer, mtu });
            if before.is_none_or(|before| before.mtu != mtu) {
                self.put(network, mtu, before);
            }
        }
    }

    /// Adds a route, or changes the size of its packets.
    fn put(&mut self, network: IpNet, mtu: Option<u16>, before: Option<Owner>) {
        let Err(error) = self.netlink.put_route(self.interface, network, self.source, mtu) else { return };
        let Some(before) = before else {
            self.owners.remove(&network);
            tracing::error!(%error, %network, "a route of the tunnel could not be added: its peer is out of reach");
            return;
        };
        // It is tried again when the peer is set again.
        self.owners.entry(network).and_modify(|owner| owner.mtu = before.mtu);
        tracing::error!(%error, %network, "a route of the tunnel could not be changed: it keeps the size of its packets");
    }
}
