//! The UDP socket of a tunnel: many datagrams a system call where the system can, and a short memory for those that do
//! not fit into the socket at once.

mod arrivals;
mod backlog;
#[cfg(target_os = "linux")]
#[path = "udp/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "udp/portable.rs"]
mod system;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use postern_packets::congestion::Mark;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use self::arrivals::Received;
use self::backlog::Backlog;
use crate::batch::{Batch, MOST_JOINED, Run};
use crate::lock::{lock, read, write};
use crate::meters::Meters;

pub(crate) use self::arrivals::Arrivals;

/// Where datagrams go, and what their outer headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Towards {
    pub(super) to: SocketAddr,
    pub(super) mark: Mark,
}

/// The socket of the system.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: std::net::UdpSocket,
    /// The same, for the runtime that waits for it; none when a thread does.
    awaited: Option<UdpSocket>,
}

/// The socket.
#[derive(Debug)]
pub(crate) struct Udp {
    /// None once it is closed.
    socket: RwLock<Option<Arc<Socket>>>,
    local: SocketAddr,
    /// Whether the system splits what is sent (UDP_SEGMENT). Turned off when a device refuses to.
    splits: AtomicBool,
    backlog: Mutex<Backlog>,
    /// Whether there is a backlog; it goes first.
    backlogged: AtomicBool,
    /// Woken when there is one.
    wake: Notify,
}

impl Socket {
    fn attempt<T>(
        &self,
        interest: Interest,
        attempt: impl FnOnce(&std::net::UdpSocket) -> io::Result<T>,
    ) -> io::Result<T> {
        match &self.awaited {
            Some(awaited) => awaited.try_io(interest, || attempt(&self.socket)),
            None => attempt(&self.socket),
        }
    }

    fn awaited(&self) -> io::Result<&UdpSocket> {
        self.awaited.as_ref().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Socket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Udp {
    /// Binds a socket. Must be called within a runtime.
    #[cfg(test)]
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::of_runtime(std::net::UdpSocket::bind(address)?)
    }

    /// Waits until the runtime has seen that the socket is writable: until then, what is sent has to wait.
    #[cfg(test)]
    pub(crate) async fn writable(&self) {
        self.socket().unwrap().awaited().unwrap().writable().await.unwrap();
    }

    /// Takes a bound socket. Must be called within the runtime that waits for it.
    pub(crate) fn of_runtime(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let awaited = UdpSocket::from_std(socket.try_clone()?)?;
        Self::new(Socket { socket, awaited: Some(awaited) })
    }

    /// Takes a bound socket that a thread waits for. Whoever sends leaves it to that thread to send what has to wait.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_thread(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Self::new(Socket { socket, awaited: None })
    }

    fn new(socket: Socket) -> io::Result<Self> {
        system::prepare(&socket.socket);
        Ok(Self {
            local: socket.socket.local_addr()?,
            splits: AtomicBool::new(system::splits(&socket.socket)),
            socket: RwLock::new(Some(Arc::new(socket))),
            backlog: Mutex::default(),
            backlogged: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Gives the socket back, as soon as nobody waits for it any more.
    pub(crate) fn close(&self) {
        write(&self.socket).take();
    }

    /// Waits until there is something to receive.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket()?.awaited()?.readable().await
    }

    /// Receives what is there, without waiting. Returns whether there may be more.
    pub(crate) fn try_receive(&self, arrivals: &mut Arrivals) -> io::Result<bool> {
        let socket = self.socket()?;
        arrivals
            .fill(|room, messages| socket.attempt(Interest::READABLE, |socket| system::receive(socket, room, messages)))
    }

    /// Whether the system splits what is sent.
    pub(crate) fn splits(&self) -> bool {
        self.splits.load(Ordering::Relaxed)
    }

    /// Whether the system joins what is received.
    pub(crate) fn joins(&self) -> bool {
        self.socket().is_ok_and(|socket| system::joins(&socket.socket))
    }

    /// Sends datagrams in order, without waiting. What the socket has no room for goes to a bounded backlog, and what
    /// does not fit there is lost, as datagrams may be.
    pub(crate) fn send(&self, to: SocketAddr, datagrams: &Batch, mark: Mark, meters: &Meters) {
        let to = Towards { to, mark };
        let (most, largest) = if self.splits() { MOST_JOINED } else { (1, 0) };
        for run in datagrams.runs(most, largest) {
            if self.is_backlogged() {
                self.keep(to, &run, meters);
                continue;
            }
            match self.transmit(to, &run) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.keep(to, &run, meters),
                Err(error) => {
                    tracing::trace!(%error, to = %to.to, "tunnel packets were not sent");
                    meters.dropped("unsent", run.bytes.len().div_ceil(run.stride));
                }
            }
        }
    }

    /// Whether anything waits for the socket to have room.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.backlogged.load(Ordering::Acquire)
    }

    /// Whether so much waits for the socket that nothing more should be made for it.
    pub(crate) fn is_congested(&self) -> bool {
        self.is_backlogged() && lock(&self.backlog).is_high()
    }

    /// Waits for a backlog and sends it; returns when it is gone.
    pub(crate) async fn drain(&self) -> io::Result<()> {
        self.wake.notified().await;
        while !self.send_backlog() {
            self.socket()?.awaited()?.writable().await?;
        }
        Ok(())
    }

    /// Sends what waits, as far as there is room. Returns whether nothing is left.
    pub(crate) fn send_backlog(&self) -> bool {
        let mut backlog = lock(&self.backlog);
        while let Some((to, run)) = backlog.first() {
            match self.transmit(to, &run) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Ok(()) | Err(_) => backlog.forget_first(),
            }
        }
        self.backlogged.store(false, Ordering::Release);
        true
    }

    fn keep(&self, to: Towards, run: &Run<'_>, meters: &Meters) {
        let mut backlog = lock(&self.backlog);
        if backlog.push(to, run) {
            self.backlogged.store(true, Ordering::Release);
            self.wake.notify_one();
        } else {
            meters.dropped("backlog_full", run.bytes.len().div_ceil(run.stride));
        }
    }

    fn transmit(&self, to: Towards, run: &Run<'_>) -> io::Result<()> {
        let to = Towards { to: self.reachable(to.to), ..to };
        if run.bytes.len() <= run.stride {
            return self.try_transmit(to, run.bytes, None);
        }
        if self.splits() {
            let stride = u16::try_from(run.stride).map_err(io::Error::other)?;
            match self.try_transmit(to, run.bytes, Some(stride)) {
                Err(error) if system::is_too_large_to_split(&error) => {}
                Err(error) if system::cannot_split(&error) => return self.stop_splitting(to, run),
                outcome => return outcome,
            }
        }
        run.bytes.chunks(run.stride).try_for_each(|datagram| self.try_transmit(to, datagram, None))
    }

    /// Sends datagrams one by one, from now on for everybody if that works where splitting did not.
    fn stop_splitting(&self, to: Towards, run: &Run<'_>) -> io::Result<()> {
        let mut datagrams = run.bytes.chunks(run.stride);
        datagrams.next().map_or(Ok(()), |first| self.try_transmit(to, first, None))?;
        // It can be sent, so it was the splitting that failed before, and not the address.
        if self.splits.swap(false, Ordering::Relaxed) {
            tracing::warn!("the network does not split UDP datagrams for us; sending them one by one");
        }
        datagrams.try_for_each(|datagram| self.try_transmit(to, datagram, None))
    }

    fn try_transmit(&self, to: Towards, bytes: &[u8], stride: Option<u16>) -> io::Result<()> {
        let socket = read(&self.socket);
        let socket = socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        socket.attempt(Interest::WRITABLE, |socket| system::transmit(socket, to, bytes, stride))
    }

    /// The socket, to be waited for.
    pub(crate) fn socket(&self) -> io::Result<Arc<Socket>> {
        read(&self.socket).clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The address as this socket's family writes it.
    fn reachable(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.local.is_ipv6() => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            IpAddr::V4(_) | IpAddr::V6(_) => to,
        }
    }
}

/// Binds so many sockets of one port, among which the system shares out who sends to it; one where it cannot. The first is
/// bound alone, so that a port that somebody else has is never shared with them by mistake.
pub(crate) fn bind_all(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::UdpSocket>> {
    let first = std::net::UdpSocket::bind(address)?;
    let more = system::bind_beside(&first, count.saturating_sub(1))?;
    Ok(std::iter::once(first).chain(more).collect())
}

#[cfg(test)]
mod tests;
