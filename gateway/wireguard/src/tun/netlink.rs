//! Interfaces, addresses and routes, rtnetlink(7). Requests are answered at once, so there is nothing to wait for.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// The kernel's acknowledgements repeat the request, and are smaller than this.
const LARGEST_ANSWER: usize = 4096;

/// The kernel's end for network settings, in the network namespace in which it was opened.
pub(super) struct Netlink(Socket);

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Has the kernel hand over at most so many segments at once through an interface.
    pub(super) fn limit_segments(&self, index: u32, most: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![LinkAttribute::GsoMaxSegs(most)];
        self.ask(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Gives an interface an address that stands alone, without a network around it.
    pub(super) fn add_address(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = IpNet::from(address).prefix_len();
        message.header.index = index;
        // Nobody else is on the interface who could have the same address.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![AddressAttribute::Address(address)];
        if address.is_ipv4() {
            message.attributes.push(AddressAttribute::Local(address));
        }
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Sends a network's packets through an interface, with `source` as their address and of at most `mtu` bytes, where that
    /// is less than the interface's; TCP also asks the far end for no larger ones. Takes the place of the route that is there.
    pub(super) fn put_route(&self, index: u32, network: IpNet, source: IpAddr, mtu: Option<u16>) -> io::Result<()> {
        let mut message = route(index, network);
        message.attributes.push(RouteAttribute::PrefSource(route_address(source)));
        message.attributes.extend(mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu.into())])));
        self.ask(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Undoes [`Netlink::put_route`].
    pub(super) fn remove_route(&self, index: u32, network: IpNet) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::DelRoute(route(index, network)), 0)
    }

    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let mut answer = Vec::with_capacity(LARGEST_ANSWER);
        self.0.recv(&mut answer, 0)?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(error.to_io());
        }
        Ok(())
    }
}

fn route(index: u32, network: IpNet) -> RouteMessage {
    let network = network.trunc();
    let mut message = RouteMessage::default();
    message.header.address_family = family(network.addr());
    message.header.destination_prefix_length = network.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = if network.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(route_address(network.addr())),
        RouteAttribute::Oif(index),
        // Two gateways may have the same inner address, each in its own tunnel. With different priorities both routes are
        // there, and a socket takes that of its interface.
        RouteAttribute::Priority(index),
    ];
    message
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
