//! Peers of one tunnel with packets of different sizes.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use postern_wireguard::{DEFAULT_MTU, Datapath, Peer, Tunnel, TunnelStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::namespaces::{LONG, Machine, PORT, isolated, machines};
use crate::tunnels::echo;

/// An end of a tunnel with two others, both of which are on a machine of their own.
struct Three {
    near: Machine,
    far: Machine,
    middle: Tunnel,
    ends: [Tunnel; 2],
    /// Bytes of the headers in front of what a segment carries.
    headers: u16,
}

impl Three {
    fn new(datapath: Datapath, addresses: [&str; 3]) -> Self {
        let [middle, one, other]: [IpAddr; 3] = addresses.map(|address| address.parse().unwrap());
        let (near, far) = machines();
        let ends = [("192.0.2.2:51820", one), ("192.0.2.2:51821", other)];
        let ends = ends.map(|(listen, address)| far.tunnel_with(listen, address, DEFAULT_MTU, Datapath::Tun));
        let middle_end = near.tunnel_with("192.0.2.1:51820", middle, DEFAULT_MTU, datapath);
        for end in &ends {
            echo(&far, end);
            end.set_peer(Peer {
                public_key: middle_end.public_key(),
                endpoint: None,
                allowed: vec![middle.into()],
                keepalive: None,
                mtu: None,
            });
        }
        // Two kernels also give each other the time.
        let timestamps = if datapath == Datapath::Tun { 12 } else { 0 };
        let headers = if middle.is_ipv4() { 20 } else { 40 } + 20 + timestamps;
        Self { near, far, middle: middle_end, ends, headers }
    }

    /// Says how large the packets to and from an end may be.
    fn set(&self, end: usize, mtu: Option<u16>) {
        let end = &self.ends[end];
        self.middle.set_peer(Peer {
            public_key: end.public_key(),
            endpoint: Some(end.local_addr()),
            allowed: vec![end.address().into()],
            keepalive: None,
            mtu,
        });
    }

    /// A new connection to an end, over which much has gone both ways.
    fn talk(&self, end: usize) -> TunnelStream {
        const MUCH: usize = 1_000_000;
        let (middle, to) = (self.middle.clone(), SocketAddr::new(self.ends[end].address(), PORT));
        let talked = self.near.run(async move {
            let (mut read, mut write) = tokio::io::split(middle.connect(to, LONG).await.unwrap());
            let mut back = vec![0; MUCH];
            let (sent, received) = tokio::join!(write.write_all(&[7; MUCH]), read.read_exact(&mut back));
            sent.and(received).unwrap();
            read.unsplit(write)
        });
        talked.wait()
    }

    /// The largest packets on the only connection of an end, in bytes: those that it gets, and those that it sends.
    fn sizes(&self, end: usize) -> (u16, u16) {
        let address = match self.ends[end].address() {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let arguments = ["-tinHO", "state", "established", "src", &address].map(str::to_owned);
        let shown = self.far.run(async move { Command::new("ss").args(arguments).output().unwrap() }).wait();
        let shown = String::from_utf8_lossy(&[shown.stdout, shown.stderr].concat()).into_owned();
        assert_eq!(shown.lines().count(), 1, "{shown} of {address}");
        let value = |key: &str| {
            let value = shown.split_whitespace().find_map(|word| word.strip_prefix(key));
            value.and_then(|value| value.parse::<u16>().ok()).unwrap_or_else(|| panic!("{key} in {shown}"))
        };
        (value("rcvmss:") + self.headers, value("mss:") + self.headers)
    }

    /// The sizes of packets on a new connection to an end.
    fn sizes_of_new(&self, end: usize) -> (u16, u16) {
        let connection = self.talk(end);
        let sizes = self.sizes(end);
        self.close(connection);
        sizes
    }

    /// Ends a connection, and waits until the far end has done so.
    fn close(&self, mut connection: TunnelStream) {
        let closed = self.near.run(async move {
            connection.shutdown().await.unwrap();
            connection.read(&mut [0]).await.unwrap()
        });
        assert_eq!(closed.wait(), 0);
    }
}

fn each_peer_has_its_own(datapath: Datapath, addresses: [&str; 3], least: u16) {
    let three = Three::new(datapath, addresses);
    three.set(0, Some(1_300));
    three.set(1, None);
    let both = [three.talk(0), three.talk(1)];
    assert_eq!([three.sizes(0), three.sizes(1)], [(1_300, 1_300), (DEFAULT_MTU, DEFAULT_MTU)]);
    let set = |end: usize| three.middle.peer(&three.ends[end].public_key()).unwrap().mtu;
    assert_eq!((set(0), set(1)), (Some(1_300), None));
    for connection in both {
        three.close(connection);
    }
    // What is no possible size is the nearest one.
    for (given, size) in [(Some(1_340), 1_340), (Some(9_000), DEFAULT_MTU), (Some(1), least), (None, DEFAULT_MTU)] {
        three.set(0, given);
        assert_eq!(three.sizes_of_new(0), (size, size), "{given:?}");
    }
    assert_eq!(three.sizes_of_new(1), (DEFAULT_MTU, DEFAULT_MTU), "the other peer is where it was");
}

#[test]
fn each_peer_has_packets_of_its_own_size_through_an_interface() {
    isolated("sizes::each_peer_has_packets_of_its_own_size_through_an_interface", &[], || {
        each_peer_has_its_own(Datapath::Tun, ["10.7.0.1", "10.7.0.2", "10.7.0.3"], 576);
        each_peer_has_its_own(Datapath::Tun, ["fd00::1", "fd00::2", "fd00::3"], 1_280);
    });
}

#[test]
fn each_peer_has_packets_of_its_own_size_without_an_interface() {
    isolated("sizes::each_peer_has_packets_of_its_own_size_without_an_interface", &[], || {
        each_peer_has_its_own(Datapath::Netstack, ["10.7.0.1", "10.7.0.2", "10.7.0.3"], 576);
        each_peer_has_its_own(Datapath::Netstack, ["fd00::1", "fd00::2", "fd00::3"], 1_280);
    });
}

#[test]
fn a_connection_that_is_open_goes_on_when_its_peer_gets_another_size() {
    isolated("sizes::a_connection_that_is_open_goes_on_when_its_peer_gets_another_size", &[], || {
        for datapath in [Datapath::Tun, Datapath::Netstack] {
            let three = Three::new(datapath, ["10.7.0.1", "10.7.0.2", "10.7.0.3"]);
            three.set(0, Some(1_300));
            let mut connection = three.talk(0);
            three.set(0, Some(1_200));
            let same = three.near.run(async move {
                connection.write_all(&[5; 50_000]).await.unwrap();
                let mut back = vec![0; 50_000];
                connection.read_exact(&mut back).await.unwrap();
                back.iter().all(|byte| *byte == 5)
            });
            assert!(same.wait(), "{datapath:?}");
        }
    });
}
