//! The interface.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::net::if_::if_nametoindex;
use postern_packets::join::{Frame, MOST_JOINED};
use tun_rs::{DeviceBuilder, SyncDevice};

use super::netlink::Netlink;
use crate::batch::most_joined;
use crate::config::DEFAULT_MTU;
use crate::link::OVERHEAD;

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
        let netlink = Netlink::open()?;
        netlink.add_address(index, address)?;
        let segments = limit_segments(&netlink, index, mtu);
        device.enabled(true)?;
        let queue = device.tx_queue_len().unwrap_or_default();
        tracing::info!(
            interface = name,
            mtu,
            offload = device.tcp_gso(),
            queues,
            queue,
            segments,
            "tunnel interface ready"
        );
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

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Has the kernel hand over no more at once than one sending of datagrams carries. Of more, a few segments would be left
/// over each time, and would cost both ends nearly as much as the others together. Segments above the usual size are few
/// enough by what the kernel hands over at most, and a peer's may be smaller than the interface's. Returns the limit in force.
fn limit_segments(netlink: &Netlink, index: u32, mtu: u16) -> Option<usize> {
    let most = most_joined(usize::from(mtu.min(DEFAULT_MTU)) + OVERHEAD);
    match netlink.limit_segments(index, u32::try_from(most).unwrap_or(u32::MAX)) {
        Ok(()) => Some(most),
        Err(error) => {
            tracing::info!(%error, "the kernel hands over more at once than is sent at once");
            None
        }
    }
}
