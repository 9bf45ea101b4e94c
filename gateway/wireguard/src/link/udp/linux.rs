//! Linux: the kernel joins datagrams of one sender (UDP_GRO) and splits what is sent (UDP_SEGMENT), udp(7). One trip
//! through its UDP stack then carries some 45 packets, and those trips are nine tenths of a packet's cost.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{
    IpRecvTos, Ipv6RecvTClass, RcvBuf, RcvBufForce, SndBuf, SndBufForce, UdpGroSegment, UdpGsoSegment,
};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, getsockopt, recvmmsg,
    sendmsg, setsockopt,
};
use postern_packets::congestion::Mark;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Received, Towards};

/// Room for bursts of many connections, in bytes. Without the privilege to have it, the system's limit applies.
const BUFFER: usize = 8 * 1024 * 1024;

/// An empty datagram of nobody.
const NOTHING: Received =
    Received { from: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), len: 0, stride: 0, mark: Mark::NotCapable };

/// Asks for what the socket can do; none of it is needed to work.
pub(super) fn prepare(socket: &UdpSocket) {
    if setsockopt(socket, RcvBufForce, &BUFFER).or_else(|_| setsockopt(socket, RcvBuf, &BUFFER)).is_err() {
        tracing::warn!("the receive buffer of the tunnel's socket keeps the system's default size");
    }
    if setsockopt(socket, SndBufForce, &BUFFER).or_else(|_| setsockopt(socket, SndBuf, &BUFFER)).is_err() {
        tracing::warn!("the send buffer of the tunnel's socket keeps the system's default size");
    }
    if setsockopt(socket, UdpGroSegment, &true).is_err() {
        tracing::warn!("the kernel does not join datagrams that are received");
    }
    // What routers say of congestion. A socket of both families gets it in the form of the datagram's own.
    let told = [setsockopt(socket, IpRecvTos, &true), setsockopt(socket, Ipv6RecvTClass, &true)];
    let hears_congestion = told.iter().any(Result::is_ok);
    if !hears_congestion {
        tracing::warn!("what routers say of congestion is not heard");
    }
    tracing::info!(
        receive_buffer = getsockopt(socket, RcvBuf).unwrap_or_default(),
        send_buffer = getsockopt(socket, SndBuf).unwrap_or_default(),
        splits = splits(socket),
        joins = joins(socket),
        hears_congestion,
        "tunnel socket ready"
    );
}

/// Whether the kernel splits what is sent.
pub(super) fn splits(socket: &UdpSocket) -> bool {
    getsockopt(socket, UdpGsoSegment).is_ok()
}

/// Whether the kernel joins what is received.
pub(super) fn joins(socket: &UdpSocket) -> bool {
    getsockopt(socket, UdpGroSegment).unwrap_or(false)
}

/// Binds more sockets to the address of one (SO_REUSEPORT, socket(7)). Only sockets of the same user can be added.
pub(super) fn bind_beside(first: &UdpSocket, count: usize) -> io::Result<Vec<UdpSocket>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let address = first.local_addr()?;
    SockRef::from(first).set_reuse_port(true)?;
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(SockRef::from(first).only_v6()?)?;
        }
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    (0..count).map(|_| bind()).collect()
}

/// Receives a message into each piece of `room`, as far as there are messages.
pub(super) fn receive(socket: &UdpSocket, room: &mut [IoSliceMut<'_>], messages: &mut Vec<Received>) -> io::Result<()> {
    // Made anew each time: the kernel writes over the lengths of addresses and control messages, and they would have to be
    // what they were.
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(room.len(), Some(cmsg_space!(i32, i32)));
    let mut slots: Vec<_> = room.iter_mut().map(|slot| [IoSliceMut::new(slot)]).collect();
    for message in recvmmsg(socket.as_raw_fd(), &mut headers, &mut slots, MsgFlags::empty(), None)? {
        // One that cannot be understood takes none of the others with it.
        messages.push(received(&message).unwrap_or(NOTHING));
    }
    Ok(())
}

fn received(message: &RecvMsg<'_, '_, SockaddrStorage>) -> io::Result<Received> {
    let from = message.address.as_ref().and_then(socket_addr).ok_or(io::ErrorKind::InvalidData)?;
    let mut received = Received { from, len: message.bytes, stride: message.bytes, mark: Mark::default() };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::UdpGroSegments(size) = control {
            received.stride = usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(received.stride);
        } else if let ControlMessageOwned::Ipv4Tos(byte) = control {
            received.mark = Mark::of_byte(byte);
        } else if let ControlMessageOwned::Ipv6TClass(class) = control {
            received.mark = Mark::of_byte(class.to_le_bytes()[0]);
        }
    }
    Ok(received)
}

pub(super) fn transmit(socket: &UdpSocket, to: Towards, bytes: &[u8], stride: Option<u16>) -> io::Result<()> {
    let parts = [IoSlice::new(bytes)];
    let (byte, class) = (to.mark.to_byte(), i32::from(to.mark.to_byte()));
    let is_v4 = to.to.ip().to_canonical().is_ipv4();
    let mark = if is_v4 { ControlMessage::Ipv4Tos(&byte) } else { ControlMessage::Ipv6TClass(&class) };
    let split = stride.as_ref().map(ControlMessage::UdpGsoSegments);
    let control = [Some(mark).filter(|_| byte != 0), split];
    let control: Vec<_> = control.into_iter().flatten().collect();
    sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&SockaddrStorage::from(to.to)))?;
    Ok(())
}

/// Whether sending failed because the device does not let the kernel split datagrams.
pub(super) fn cannot_split(error: &io::Error) -> bool {
    error.raw_os_error().map(Errno::from_raw) == Some(Errno::EIO)
}

/// Whether sending failed because the datagrams are larger than what the path to this one address takes. They can be sent as
/// fragments, which the kernel does not split for us. Nobody else is sent less for it. (EINVAL, or EMSGSIZE from newer kernels.)
pub(super) fn is_too_large_to_split(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EINVAL | Errno::EMSGSIZE))
}

fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
