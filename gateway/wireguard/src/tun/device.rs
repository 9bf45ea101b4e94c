//! The interface.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tun_rs::{DeviceBuilder, ExpandBuffer, GROTable, SyncDevice};

use super::netlink::Netlink;

/// Packets that the kernel may hold for us. Its default for such interfaces, 500, is less than what it hands over for one
/// busy connection between two of our turns.
const QUEUE: u32 = 2_000;

/// A TUN interface with one address, which is up.
pub(super) struct Device {
    device: SyncDevice,
    name: String,
    index: u32,
}

impl Device {
    /// Makes an interface. It vanishes when this is dropped.
    ///
    /// # Errors
    /// When this process may not have one, or the kernel cannot do what is asked of it.
    pub(super) fn open(address: IpAddr, mtu: u16) -> io::Result<Self> {
        let device = DeviceBuilder::new().name("postern%d").offload(true).build_sync()?;
        device.set_nonblocking(true)?;
        device.set_mtu(mtu)?;
        if let Err(error) = device.set_tx_queue_len(QUEUE) {
            // Within a user namespace nobody may.
            tracing::info!(%error, "the queue of the tunnel's interface keeps the system's default length");
        }
        let name = device.name()?;
        let index = if_nametoindex(name.as_str())?;
        Netlink::open()?.add_address(index, address)?;
        device.enabled(true)?;
        Ok(Self { device, name, index })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Waits until the kernel has packets for us, or `stop` is closed at its other end.
    pub(super) fn wait(&self, stop: &UnixStream) -> io::Result<()> {
        let mut waited = [self.device.as_fd(), stop.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut waited, PollTimeout::NONE)?;
        Ok(())
    }

    /// Reads what the kernel has of one connection, split into packets, each in one of `packets` with its length in
    /// `lengths`. Returns how many there are.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing.
    pub(super) fn read<B: AsRef<[u8]> + AsMut<[u8]>>(
        &self,
        joined: &mut [u8],
        packets: &mut [B],
        lengths: &mut [usize],
    ) -> io::Result<usize> {
        self.device.recv_multiple(joined, packets, lengths, 0)
    }

    /// Gives packets to the kernel, segments that follow each other as one. Each of `packets` has room for
    /// [`tun_rs::VIRTIO_NET_HDR_LEN`] bytes before it.
    pub(super) fn write<B: ExpandBuffer>(&self, joined: &mut GROTable, packets: &mut [B]) -> io::Result<()> {
        self.device.send_multiple(joined, packets, tun_rs::VIRTIO_NET_HDR_LEN).map(drop)
    }
}
