//! `[wireguard]`: the tunnel to the instances.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};
use postern_gateway_core::packets::{NamedSize, PacketSizes};
use postern_gateway_core::pool::AddressPool;
use postern_identity::AppId;
use postern_plumbing::config::{Section, Text};
use postern_wireguard::{DEFAULT_MTU, Datapath};

/// The tunnel to the instances.
#[derive(Debug, Clone)]
pub struct TunnelSettings {
    /// Where it arrives.
    pub listen: SocketAddr,
    /// The same as instances reach it.
    pub endpoint: SocketAddr,
    /// The network of inner addresses.
    pub network: IpNet,
    /// The gateway's own inner address.
    pub address: IpAddr,
    /// The sizes of inner packets.
    pub sizes: PacketSizes,
    /// How inner packets become connections.
    pub datapath: Datapath,
}

pub(super) fn tunnel(section: &mut Section<'_>) -> Option<TunnelSettings> {
    let network = section.or("network", Text(default_network())).into_inner();
    let address = section.or("address", IpAddr::V4(Ipv4Addr::new(10, 74, 0, 1)));
    if let Err(error) = AddressPool::new(network, address) {
        section.problem("address", error.to_string());
    }
    let sizes = sizes(section, address);
    let datapath = section.or("datapath", Text(Datapath::Auto)).into_inner();
    let listen = section.or("listen", SocketAddr::from(([0, 0, 0, 0], 51820)));
    let endpoint = section.required::<SocketAddr>("endpoint");
    if endpoint.is_some_and(|endpoint| endpoint.ip().is_unspecified()) {
        section.problem("endpoint", "expected an address that instances can reach");
    }
    Some(TunnelSettings { listen, endpoint: endpoint?, network, address, sizes, datapath })
}

fn sizes(section: &mut Section<'_>, address: IpAddr) -> PacketSizes {
    let least = if address.is_ipv4() { 576 } else { 1_280 };
    let range = least..=9_216;
    let usual = section.or("mtu", DEFAULT_MTU);
    if !range.contains(&usual) {
        section.problem("mtu", format!("expected {least} to 9216"));
    }
    let named: Vec<NamedSize> = section.list::<Text<NamedSize>>("mtu_of").into_iter().map(Text::into_inner).collect();
    let mut seen = BTreeSet::new();
    for NamedSize { id, mtu } in &named {
        if !range.contains(mtu) {
            section.problem("mtu_of", format!("expected {least} to 9216 for {}", AppId(*id)));
        }
        if !seen.insert(id) {
            section.problem("mtu_of", format!("{} is named more than once", AppId(*id)));
        }
    }
    PacketSizes::new(usual, named)
}

fn default_network() -> IpNet {
    IpNet::V4(Ipv4Net::new(Ipv4Addr::new(10, 74, 0, 0), 16).unwrap_or_default())
}
