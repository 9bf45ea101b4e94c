//! Systems that take one datagram at a time.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;

use postern_packets::congestion::Mark;

use super::{Received, Towards};

pub(super) fn prepare(_socket: &UdpSocket) {}

/// Nothing is split for us.
pub(super) fn splits(_socket: &UdpSocket) -> bool {
    false
}

/// Nothing is joined for us.
pub(super) fn joins(_socket: &UdpSocket) -> bool {
    false
}

/// One has to do.
pub(super) fn bind_beside(_first: &UdpSocket, _count: usize) -> io::Result<Vec<UdpSocket>> {
    Ok(Vec::new())
}

pub(super) fn receive(socket: &UdpSocket, room: &mut [IoSliceMut<'_>], messages: &mut Vec<Received>) -> io::Result<()> {
    for slot in room {
        match socket.recv_from(slot) {
            Ok((len, from)) => messages.push(Received { from, len, stride: len, mark: Mark::default() }),
            // What came before is to be worked off.
            Err(_) if !messages.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn transmit(socket: &UdpSocket, to: Towards, bytes: &[u8], _stride: Option<u16>) -> io::Result<()> {
    socket.send_to(bytes, to.to).map(drop)
}

pub(super) fn cannot_split(_error: &io::Error) -> bool {
    false
}

pub(super) fn is_too_large_to_split(_error: &io::Error) -> bool {
    false
}
