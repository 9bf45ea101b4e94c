//! Linux: the kernel joins datagrams of one sender (UDP_GRO) and splits what is sent (UDP_SEGMENT), udp(7). One trip
//! through its UDP stack then carries some 45 packets, and those trips are nine tenths of a packet's cost.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce, UdpGroSegment};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recvmsg, sendmsg, setsockopt,
};
use tokio::net::UdpSocket;

use super::Received;

/// The kernel splits what is sent.
pub(super) const SPLITS: bool = true;

/// Room for bursts of many connections, in bytes. Without the privilege to have it, the system's limit applies.
const BUFFER: usize = 8 * 1024 * 1024;

/// Asks for what the socket can do; none of it is needed to work.
pub(super) fn prepare(socket: &UdpSocket) {
    if setsockopt(socket, RcvBufForce, &BUFFER).or_else(|_| setsockopt(socket, RcvBuf, &BUFFER)).is_err() {
        tracing::warn!("the receive buffer of the tunnel's socket keeps the system's default size");
    }
    if setsockopt(socket, SndBufForce, &BUFFER).or_else(|_| setsockopt(socket, SndBuf, &BUFFER)).is_err() {
        tracing::warn!("the send buffer of the tunnel's socket keeps the system's default size");
    }
    let joins = setsockopt(socket, UdpGroSegment, &true).is_ok();
    tracing::info!(
        joins,
        receive_buffer = getsockopt(socket, RcvBuf).unwrap_or_default(),
        send_buffer = getsockopt(socket, SndBuf).unwrap_or_default(),
        "tunnel socket ready"
    );
}

pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let from = message.address.as_ref().and_then(socket_addr).ok_or(io::ErrorKind::InvalidData)?;
    let joined = message.cmsgs()?.find_map(|control| {
        let ControlMessageOwned::UdpGroSegments(size) = control else { return None };
        usize::try_from(size).ok().filter(|size| *size > 0)
    });
    Ok(Received { from, len: message.bytes, stride: joined.unwrap_or(message.bytes) })
}

pub(super) fn transmit(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], stride: Option<u16>) -> io::Result<()> {
    let parts = [IoSlice::new(bytes)];
    let to = SockaddrStorage::from(to);
    let split = stride.as_ref().map(ControlMessage::UdpGsoSegments);
    sendmsg(socket.as_raw_fd(), &parts, split.as_slice(), MsgFlags::empty(), Some(&to))?;
    Ok(())
}

/// Whether sending failed because the device, or the path's MTU, does not let the kernel split datagrams.
pub(super) fn cannot_split(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EIO | Errno::EINVAL))
}

fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
