//! One TCP connection: packets in and out, bytes in and out. No sockets, no tasks; the time is an argument.
//!
//! Every connection is a smoltcp interface of its own with one socket. smoltcp looks through all sockets of an interface
//! for every packet; with one there is nothing to look through, and connections do not wait for each other.

mod ends;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint, IpListenEndpoint};

use super::sequence::Sequence;
use super::wire::Wire;
use crate::batch::Batch;
use crate::config::TcpSettings;

/// The buffer of each direction, in bytes: the largest window without scaling. With scaling, smoltcp would for a moment
/// take more from a far end than it has room for, as the window in a SYN is never scaled.
const BUFFER: usize = 65_535;

/// How long a far end may take to complete the handshake that it began.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that nobody holds any more may take to deliver what was written.
const LINGER: Duration = Duration::from_secs(60);

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both ends have closed it.
    Finished,
    /// The far end reset it.
    Reset,
    /// The far end has not been heard for too long.
    TimedOut,
    /// This end cut it: the peer was removed, or the tunnel stopped.
    Removed,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// In its handshake.
    Opening,
    /// Able to carry bytes at least one way.
    Open,
    /// Closed at both ends, and owing the far end nothing but its last answer again.
    Resting,
    /// No more packets will come of it, and none is understood.
    Over,
}

/// What a connection is between, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) local: SocketAddr,
    pub(super) mtu: u16,
    pub(super) tcp: TcpSettings,
}

pub(super) struct Connection {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    terms: Terms,
    sequence: Sequence,
    ending: Option<Ending>,
    /// Until when it may go on after its stream was dropped.
    abandoned: Option<Instant>,
}

impl Connection {
    /// A connection that waits for the SYN of a far end.
    pub(super) fn incoming(terms: Terms, now: Instant) -> Option<Self> {
        let mut connection = Self::new(terms, now);
        let tcp = connection.tcp();
        tcp.set_timeout(Some(HANDSHAKE_TIMEOUT.into()));
        tcp.listen(IpListenEndpoint { addr: Some(terms.local.ip().into()), port: terms.local.port() }).ok()?;
        Some(connection)
    }

    /// A connection to a far end. The SYN goes out with the next [`Connection::emit`]. None for an address that cannot be
    /// connected to.
    pub(super) fn outgoing(terms: Terms, remote: SocketAddr, now: Instant) -> Option<Self> {
        let mut connection = Self::new(terms, now);
        let Self { interface, sockets, socket, .. } = &mut connection;
        let tcp = sockets.get_mut::<Socket<'_>>(*socket);
        tcp.set_timeout(Some(terms.tcp.user_timeout.into()));
        tcp.connect(interface.context(), IpEndpoint::from(remote), IpEndpoint::from(terms.local)).ok()?;
        Some(connection)
    }

    fn new(terms: Terms, now: Instant) -> Self {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut tcp = Socket::new(buffer(), buffer());
        tcp.set_nagle_enabled(false);
        tcp.set_keep_alive(Some(terms.tcp.keepalive.into()));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let socket = sockets.add(tcp);
        Self {
            interface: interface(terms.local.ip(), terms.mtu, now),
            sockets,
            socket,
            terms,
            sequence: Sequence::default(),
            ending: None,
            abandoned: None,
        }
    }

    /// Takes a packet in. What has to be answered at once is added to `out`; [`Connection::emit`] adds the rest.
    pub(super) fn ingest(&mut self, packet: &[u8], resets: bool, now: Instant, out: &mut Batch) {
        let (before, first) = (self.tcp().state(), out.len());
        self.sequence.note_received(packet);
        let mut wire = Wire { mtu: self.terms.mtu, inbound: Some(packet), outbound: &mut *out };
        self.interface.poll_ingress_single(now, &mut wire, &mut self.sockets);
        self.sequence.correct(out, first);
        let after = self.tcp().state();
        if after == State::Closed && before != State::Closed {
            self.ending.get_or_insert(if resets { Ending::Reset } else { Ending::Finished });
        }
        if before == State::SynReceived && after != State::SynReceived {
            let timeout = self.terms.tcp.user_timeout;
            self.tcp().set_timeout(Some(timeout.into()));
        }
        if self.abandoned.is_some() {
            self.discard();
        }
    }

    /// Adds what is to be sent to `out` until nothing is left or the batch is full. Returns whether it is full.
    pub(super) fn emit(&mut self, now: Instant, out: &mut Batch) -> bool {
        if self.abandoned.is_some_and(|until| now >= until) {
            self.cut(Ending::TimedOut);
        }
        loop {
            if out.is_full(self.terms.mtu) {
                return true;
            }
            let (before, count) = (self.tcp().state(), out.len());
            let mut wire = Wire { mtu: self.terms.mtu, inbound: None, outbound: &mut *out };
            self.interface.poll_egress(now, &mut wire, &mut self.sockets);
            self.sequence.correct(out, count);
            if before != State::Closed && self.tcp().state() == State::Closed {
                self.ending.get_or_insert(if before == State::TimeWait { Ending::Finished } else { Ending::TimedOut });
            }
            if out.len() == count {
                return false;
            }
        }
    }

    /// When [`Connection::emit`] wants to be called next, though nothing happens until then.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        let next = self.interface.poll_at(now, &self.sockets);
        next.into_iter().chain(self.abandoned).min()
    }

    pub(super) fn phase(&self) -> Phase {
        let tcp = self.sockets.get::<Socket<'_>>(self.socket);
        match tcp.state() {
            // With a far end known, a reset is still to be sent.
            State::Closed | State::Listen if tcp.remote_endpoint().is_none() => Phase::Over,
            State::Listen | State::SynSent | State::SynReceived => Phase::Opening,
            State::TimeWait => Phase::Resting,
            State::Closed
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => Phase::Open,
        }
    }

    /// Whether something was sent that the far end has not acknowledged.
    pub(super) fn awaits_answer(&self) -> bool {
        let tcp = self.sockets.get::<Socket<'_>>(self.socket);
        match tcp.state() {
            State::SynSent | State::SynReceived | State::FinWait1 | State::Closing | State::LastAck => true,
            State::Established | State::CloseWait => tcp.send_queue() > 0,
            State::Closed | State::Listen | State::FinWait2 | State::TimeWait => false,
        }
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    fn tcp(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

/// An interface with one address and nothing else.
pub(super) fn interface(address: IpAddr, mtu: u16, now: Instant) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = rand::random();
    let mut nothing = Batch::default();
    let mut interface = Interface::new(config, &mut Wire { mtu, inbound: None, outbound: &mut nothing }, now);
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    interface.update_ip_addrs(|addresses| {
        // There is room for two, and this is the first.
        let _: Result<(), IpCidr> = addresses.push(IpCidr::new(address.into(), prefix));
    });
    interface
}

#[cfg(test)]
mod tests;
