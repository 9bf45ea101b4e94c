//! The header with which a load balancer in front of the gateway introduces a connection: PROXY protocol, version 1 or 2.
//! Source: "The PROXY protocol", HAProxy Technologies, sections 2.1 and 2.2.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use ppp::{v1, v2};

/// The longest header that is read, in bytes. Addresses take 36 of version 2, and what load balancers add is short.
pub const MAX: usize = 2_048;

/// The longest line of version 1, with its end (section 2.1).
const MAX_LINE: usize = 107;
/// The part of version 2 that says how long the rest is.
const FIXED: usize = 16;

/// Who connected to the load balancer, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoints {
    /// The client.
    pub client: SocketAddr,
    /// Where it arrived.
    pub server: SocketAddr,
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introduction {
    /// Whom it introduces; `None` where the load balancer speaks for itself, as in a health check, or does not know.
    pub endpoints: Option<Endpoints>,
    /// How many bytes it takes.
    pub length: usize,
}

/// The bytes are no header, however many follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no PROXY protocol header")]
pub struct NoIntroduction;

/// Looks for a header at the start of everything received. `Ok(None)` means that more bytes are needed; a header is at most
/// [`MAX`] bytes long, and no verdict changes with more bytes.
///
/// # Errors
/// [`NoIntroduction`].
pub fn peek(received: &[u8]) -> Result<Option<Introduction>, NoIntroduction> {
    let head = received.get(..v2::PROTOCOL_PREFIX.len()).unwrap_or(received);
    if v2::PROTOCOL_PREFIX.starts_with(head) { binary(received) } else { line(received) }
}

fn binary(received: &[u8]) -> Result<Option<Introduction>, NoIntroduction> {
    match v2::Header::try_from(received) {
        Ok(header) if header.len() > MAX => Err(NoIntroduction),
        Ok(header) => {
            if header.tlvs().any(|field| field.is_err()) {
                return Err(NoIntroduction);
            }
            let endpoints = match header.command {
                v2::Command::Local => None,
                v2::Command::Proxy => between(header.protocol, &header.addresses)?,
            };
            Ok(Some(Introduction { endpoints, length: header.len() }))
        }
        Err(v2::ParseError::Partial(_, rest)) if FIXED + rest > MAX => Err(NoIntroduction),
        Err(v2::ParseError::Partial(..) | v2::ParseError::Incomplete(_)) => Ok(None),
        Err(_) => Err(NoIntroduction),
    }
}

/// Only a TCP connection can be introduced here; of a family or protocol that is not said, the sender knows nothing.
fn between(protocol: v2::Protocol, addresses: &v2::Addresses) -> Result<Option<Endpoints>, NoIntroduction> {
    match (protocol, addresses) {
        (v2::Protocol::Unspecified, _) | (_, v2::Addresses::Unspecified) => Ok(None),
        (v2::Protocol::Stream, v2::Addresses::IPv4(pair)) => Ok(Some(Endpoints {
            client: (pair.source_address, pair.source_port).into(),
            server: (pair.destination_address, pair.destination_port).into(),
        })),
        (v2::Protocol::Stream, v2::Addresses::IPv6(pair)) => Ok(Some(Endpoints {
            client: plain(pair.source_address.into(), pair.source_port),
            server: plain(pair.destination_address.into(), pair.destination_port),
        })),
        (v2::Protocol::Datagram, _) | (v2::Protocol::Stream, v2::Addresses::Unix(_)) => Err(NoIntroduction),
    }
}

/// An IPv4 address in the form of IPv6 would count as a network of its own.
fn plain(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

fn line(received: &[u8]) -> Result<Option<Introduction>, NoIntroduction> {
    const START: &[u8] = b"PROXY ";
    let head = received.get(..START.len()).unwrap_or(received);
    if !START.starts_with(head) {
        return Err(NoIntroduction);
    }
    let most = received.get(..MAX_LINE).unwrap_or(received);
    let Some(end) = most.iter().position(|byte| *byte == b'\n') else {
        return if received.len() < MAX_LINE { Ok(None) } else { Err(NoIntroduction) };
    };
    // The line is whole before it is read, so that its reader need not guess what may still come.
    let line = most.get(..=end).filter(|line| line.ends_with(b"\r\n")).ok_or(NoIntroduction)?;
    let header = v1::Header::try_from(line).map_err(|_| NoIntroduction)?;
    let endpoints = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(pair) => Some(Endpoints {
            client: (pair.source_address, pair.source_port).into(),
            server: (pair.destination_address, pair.destination_port).into(),
        }),
        v1::Addresses::Tcp6(pair) => Some(Endpoints {
            client: plain(pair.source_address.into(), pair.source_port),
            server: plain(pair.destination_address.into(), pair.destination_port),
        }),
    };
    Ok(Some(Introduction { endpoints, length: line.len() }))
}
