//! Ports that no other world takes.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixListener;

use crate::WorldError;

/// The blocks lie below the range from which the kernel takes the ports of outgoing connections, so that a part can be
/// stopped and started again on its port while a load test opens thousands of connections.
const FIRST: u16 = 10_000;
const BLOCK: u16 = 100;
const BLOCKS: u16 = 220;

/// Blocks of ports on the loopback address, claimed for as long as this value lives.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    next: u16,
    end: u16,
    claims: Vec<Claim>,
}

/// A name that stands for a block: an abstract Unix socket. Like ports it belongs to the network namespace and to no user,
/// and the kernel takes it back when the process ends.
type Claim = UnixListener;

fn claim(block: u16) -> std::io::Result<Claim> {
    let name = std::os::unix::net::SocketAddr::from_abstract_name(format!("postern-world-ports-{block}"))?;
    UnixListener::bind_addr(&name)
}

impl Ports {
    /// Claims one more block.
    fn claim(&mut self) -> Result<(), WorldError> {
        let free = (0..BLOCKS).find_map(|block| claim(block).ok().map(|claim| (block, claim)));
        let (block, claim) = free.ok_or(WorldError::NoPorts)?;
        self.next = FIRST + block * BLOCK;
        self.end = self.next + BLOCK;
        self.claims.push(claim);
        Ok(())
    }

    /// The next address on which nobody listens, over TCP or UDP.
    pub(crate) fn address(&mut self) -> Result<SocketAddr, WorldError> {
        loop {
            if self.next == self.end {
                self.claim()?;
            }
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next));
            self.next += 1;
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return Ok(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn two_worlds_get_different_ports() {
        let mut one = Ports::default();
        let mut two = Ports::default();
        let taken: BTreeSet<SocketAddr> =
            (0..120).flat_map(|_| [one.address().unwrap(), two.address().unwrap()]).collect();
        assert_eq!(taken.len(), 240);
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let mut ports = Ports::default();
        ports.address().unwrap();
        let used = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.next));
        let listener = TcpListener::bind(used);
        assert_ne!(ports.address().unwrap(), used);
        drop(listener);
    }
}
