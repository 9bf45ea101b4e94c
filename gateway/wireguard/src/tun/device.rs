//! The interface.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use postern_packets::join::{Frame, MOST_JOINED};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::netlink::Netlink;

/// Packets that the kernel may hold for us. Its default for such interfaces, 500, is less than what it hands over for one
/// busy connection between two of our turns.
const QUEUE: u32 = 2_000;

/// A TUN interface with one address, which is up. What it carries can be cut and joined by the kernel (IFF_VNET_HDR, TSO).
pub(super) struct Device {
    queue: Queue,
    more: Vec<Queue>,
    name: String,
    index: u32,
}

/// A way to the interface. The kernel keeps each connection to one.
pub(super) struct Queue(SyncDevice);

impl Device {
    /// Makes an interface with so many queues. It vanishes when this is dropped.
    ///
    /// # Errors
    /// When this process may not have one, or the kernel cannot do what is asked of it.
    pub(super) fn open(address: IpAddr, mtu: u16, queues: usize) -> io::Result<Self> {
        let device = DeviceBuilder::new().name("postern%d").offload(true).multi_queue(queues > 1).build_sync()?;
        device.set_nonblocking(true)?;
        device.set_mtu(mtu)?;
        if let Err(error) = device.set_tx_queue_len(QUEUE) {
            // Within a user namespace nobody may.
            tracing::info!(%error, "the queue of the tunnel's interface keeps the system's default length");
        }
        let more: io::Result<Vec<Queue>> = (1..queues).map(|_| Queue::beside(&device)).collect();
        let name = device.name()?;
        let index = if_nametoindex(name.as_str())?;
        Netlink::open()?.add_address(index, address)?;
        device.enabled(true)?;
        Ok(Self { queue: Queue(device), more: more?, name, index })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// How many queues there are.
    pub(super) fn queues(&self) -> usize {
        self.more.len() + 1
    }

    /// A queue by its number; the first one when there are fewer.
    pub(super) fn queue(&self, number: usize) -> &Queue {
        number.checked_sub(1).and_then(|number| self.more.get(number)).unwrap_or(&self.queue)
    }
}

impl Queue {
    fn beside(device: &SyncDevice) -> io::Result<Self> {
        let queue = device.try_clone()?;
        queue.set_nonblocking(true)?;
        Ok(Self(queue))
    }

    /// Waits until the kernel has packets for us, or `stop` is closed at its other end.
    pub(super) fn wait(&self, stop: &UnixStream) -> io::Result<()> {
        let mut waited = [self.0.as_fd(), stop.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut waited, PollTimeout::NONE)?;
        Ok(())
    }

    /// Reads what the kernel has of one connection, behind a header that says how it is to be cut. Returns its length.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing.
    pub(super) fn read(&self, frame: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0.as_fd(), frame)?)
    }

    /// Gives the kernel a packet, or several as one.
    pub(super) fn write(&self, frame: &Frame<'_>) -> io::Result<()> {
        let mut pieces = [IoSlice::new(&[]); MOST_JOINED + 2];
        let mut count = 0;
        for (room, piece) in pieces.iter_mut().zip(frame.pieces()) {
            *room = IoSlice::new(piece);
            count += 1;
        }
        rustix::io::writev(self.0.as_fd(), pieces.get(..count).unwrap_or_default())?;
        Ok(())
    }
}
