//! Systems that take one datagram at a time.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::Received;

/// Nothing is split for us.
pub(super) const SPLITS: bool = false;

pub(super) fn prepare(_socket: &UdpSocket) {}

pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let (len, from) = socket.try_recv_from(buffer)?;
    Ok(Received { from, len, stride: len })
}

pub(super) fn transmit(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], _stride: Option<u16>) -> io::Result<()> {
    socket.try_send_to(bytes, to).map(drop)
}

pub(super) fn cannot_split(_error: &io::Error) -> bool {
    false
}
