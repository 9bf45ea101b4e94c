//! The PROXY protocol header, version 2, that goes in front of a client's bytes inside the tunnel.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};

use ppp::v2::{Builder, Command, Protocol, Type, Version};

/// The gateway's id of the connection, as text: the first of the types that the protocol leaves to applications.
pub const CONNECTION_ID: u8 = 0xE0;
/// One byte: 1 when the client agreed on TLS by SSLRequest, so that a missing ALPN is legal; 0 when it began with TLS.
pub const POSTGRES_NEGOTIATED: u8 = 0xE1;

/// No header is longer than this, in bytes: with two IPv6 addresses, and the longest name that DNS knows.
const LONGEST: usize = 16 + 36 + (3 + 16) + (3 + 1) + (3 + 255);

/// A number that names one client connection in the logs of gateway and sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The next one: counted up from a random start, so that a restarted gateway does not repeat itself.
    #[must_use]
    pub fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        if LAST.load(Ordering::Relaxed) == 0 {
            let start = rand::random::<u64>() | 1;
            // Who loses this race counts on from the winner's start.
            let _already_started = LAST.compare_exchange(0, start, Ordering::Relaxed, Ordering::Relaxed);
        }
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What an instance is told about a client connection.
#[derive(Debug, Clone, Copy)]
pub struct ProxyHeader<'a> {
    /// The gateway's id of it.
    pub id: ConnectionId,
    /// Where the client connects from.
    pub client: SocketAddr,
    /// Where it connected to.
    pub gateway: SocketAddr,
    /// The server name it asked for; a cancel request has none.
    pub authority: Option<&'a str>,
    /// Whether it agreed on TLS by SSLRequest.
    pub negotiated: bool,
}

impl ProxyHeader<'_> {
    /// The header's bytes, with room for so many more.
    ///
    /// # Errors
    /// When the fields do not fit into a header, which names within DNS' limits always do.
    pub fn encode(&self, more: usize) -> io::Result<Vec<u8>> {
        let addresses = same_family(self.client, self.gateway);
        let mut builder = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses)
            .reserve_capacity(LONGEST + more)
            .write_tlv(CONNECTION_ID, self.id.to_string().as_bytes())?
            .write_tlv(POSTGRES_NEGOTIATED, &[u8::from(self.negotiated)])?;
        if let Some(authority) = self.authority {
            builder = builder.write_tlv(Type::Authority, authority.as_bytes())?;
        }
        builder.build()
    }
}

/// The header has one address family. An IPv4 client of a listener on `[::]` appears with a mapped address.
fn same_family(client: SocketAddr, gateway: SocketAddr) -> (SocketAddr, SocketAddr) {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    match (plain(client), plain(gateway)) {
        (client @ SocketAddr::V4(_), gateway @ SocketAddr::V4(_)) => (client, gateway),
        (client, gateway) => (mapped(client), mapped(gateway)),
    }
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ppp::v2::{Addresses, Header, IPv4};

    fn header(client: &str, gateway: &str, authority: Option<&'static str>) -> Vec<u8> {
        let (client, gateway) = (client.parse().unwrap(), gateway.parse().unwrap());
        ProxyHeader { id: ConnectionId(0xabc), client, gateway, authority, negotiated: true }.encode(0).unwrap()
    }

    #[test]
    fn a_reader_finds_every_field() {
        let bytes = header("192.0.2.7:40000", "198.51.100.1:5432", Some("a.postern.test"));
        let read = Header::try_from(bytes.as_slice()).unwrap();
        let expected = IPv4::new([192, 0, 2, 7], [198, 51, 100, 1], 40000, 5432);
        assert_eq!(read.addresses, Addresses::IPv4(expected));
        let fields: Vec<(u8, Vec<u8>)> =
            read.tlvs().map(|field| field.map(|field| (field.kind, field.value.to_vec())).unwrap()).collect();
        let expected = [
            (CONNECTION_ID, b"0000000000000abc".to_vec()),
            (POSTGRES_NEGOTIATED, vec![1]),
            (2, b"a.postern.test".to_vec()),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn mapped_addresses_are_told_as_what_they_are_and_families_are_not_mixed() {
        let v4 = header("[::ffff:192.0.2.7]:40000", "[::ffff:198.51.100.1]:5432", None);
        assert!(matches!(Header::try_from(v4.as_slice()).unwrap().addresses, Addresses::IPv4(_)));
        let v6 = header("[2001:db8::1]:40000", "198.51.100.1:5432", None);
        assert!(matches!(Header::try_from(v6.as_slice()).unwrap().addresses, Addresses::IPv6(_)));
    }

    #[test]
    fn ids_do_not_repeat() {
        assert_ne!(ConnectionId::next(), ConnectionId::next());
    }
}
