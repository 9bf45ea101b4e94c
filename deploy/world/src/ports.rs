//! Ports that no other world takes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

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
    /// Advisory locks on files that stand for the blocks; the kernel releases them with the process.
    claims: Vec<File>,
}

impl Ports {
    /// Claims one more block.
    fn claim(&mut self) -> Result<(), WorldError> {
        let folder = std::env::temp_dir().join(format!("postern-ports-{}", rustix::process::getuid().as_raw()));
        fs::create_dir_all(&folder).map_err(|error| WorldError::file(&folder, error))?;
        for block in 0..BLOCKS {
            let path = folder.join(block.to_string());
            let claim = File::create(&path).map_err(|error| WorldError::file(&path, error))?;
            if claim.try_lock().is_ok() {
                self.next = FIRST + block * BLOCK;
                self.end = self.next + BLOCK;
                self.claims.push(claim);
                return Ok(());
            }
        }
        Err(WorldError::NoPorts)
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
