//! Which protocol a session speaks: what the client asks for, what Postgres has, and what we understand.
//!
//! A client may ask for a newer minor version than the server has, or for protocol options (`_pq_.…`) that the server does
//! not know. The server then names what it has in NegotiateProtocolVersion, before it asks for a password, and goes on with
//! that. We ask for the password before Postgres is asked for a session, so the answer to the client is ours; Postgres gets
//! a startup packet that it needs to negotiate nothing about, so that the promise holds.
//! Source: PostgreSQL documentation, "Frontend/Backend Protocol", sections "Protocol Versions" and "Start-up".

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::Message;
use crate::startup::Startup;

/// What the names of protocol options begin with.
const OPTION: &[u8] = b"_pq_.";

/// A minor version of protocol 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32);

impl Version {
    /// Protocol 3.0, which everybody speaks.
    pub const V3_0: Self = Self(0x0003_0000);
    /// Protocol 3.2 of PostgreSQL 18: cancel keys may be longer than four bytes.
    pub const V3_2: Self = Self(0x0003_0002);
    /// The version that PostgreSQL keeps for clients that test whether servers negotiate: nobody will ever have it.
    pub const GREASE: Self = Self(0x0003_270f);

    /// The newest version that we understand. What a newer one changes between the startup packet and the first
    /// ReadyForQuery is unknown, so none is promised.
    pub const OURS: Self = Self::V3_2;

    /// The version with this code, major in the upper 16 bits; `None` for another major version than 3.
    #[must_use]
    pub const fn new(code: u32) -> Option<Self> {
        if code >> 16 == 3 { Some(Self(code)) } else { None }
    }

    /// The code as it stands on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}", self.0 & 0xffff)
    }
}

/// What is promised to a client, and what Postgres is asked so that the promise holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The version that the session speaks.
    pub version: Version,
    /// NegotiateProtocolVersion for the client; `None` when it gets what it asked for.
    pub answer: Option<Bytes>,
    /// The startup packet for Postgres: the client's own, byte for byte, when it gets what it asked for.
    pub startup: Bytes,
}

/// Settles what a session speaks when the server's newest version is `newest`. No protocol option is known to us, so none is
/// promised: it could change messages that we read.
#[must_use]
pub fn agree(startup: &Startup, newest: Version) -> Agreement {
    let version = startup.version().min(newest).min(Version::OURS);
    let options: Vec<&[u8]> = startup.parameters().map(|(name, _)| name).filter(|name| is_option(name)).collect();
    if version == startup.version() && options.is_empty() {
        return Agreement { version, answer: None, startup: startup.raw().clone() };
    }
    Agreement { version, answer: Some(answer(version, &options)), startup: reduced(startup, version) }
}

fn is_option(name: &[u8]) -> bool {
    name.starts_with(OPTION)
}

/// NegotiateProtocolVersion: the version, and the options that are not known.
fn answer(version: Version, options: &[&[u8]]) -> Bytes {
    let names: usize = options.iter().map(|name| name.len() + 1).sum();
    let length = 4 + 4 + 4 + names;
    let mut message = BytesMut::with_capacity(1 + length);
    message.put_u8(b'v');
    message.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.put_u32(version.code());
    message.put_u32(u32::try_from(options.len()).unwrap_or(u32::MAX));
    for name in options {
        message.put_slice(name);
        message.put_u8(0);
    }
    message.freeze()
}

/// The same packet in this version and without protocol options.
fn reduced(startup: &Startup, version: Version) -> Bytes {
    let kept = startup.parameters().filter(|(name, _)| !is_option(name));
    packet(version, kept)
}

/// A startup packet that asks for a version and an option that no server has, so that a server has to name its newest
/// version before it does anything else. `user` has to be one that the server's log may mention.
#[must_use]
pub fn probe(user: &[u8]) -> Bytes {
    packet(Version::GREASE, [(b"user".as_slice(), user), (b"_pq_.test_protocol_negotiation", b"")].into_iter())
}

/// The version that a server's NegotiateProtocolVersion names; `None` for other messages, and for what is none.
#[must_use]
pub fn named_version(message: &Message) -> Option<Version> {
    if message.tag() != b'v' {
        return None;
    }
    let (code, rest) = message.body().split_first_chunk::<4>()?;
    // The number of options that the server does not know, and their names, are of no interest but have to be there.
    rest.first_chunk::<4>()?;
    Version::new(u32::from_be_bytes(*code))
}

fn packet<'a>(version: Version, parameters: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Bytes {
    let mut packet = BytesMut::new();
    packet.put_u32(0);
    packet.put_u32(version.code());
    for (name, value) in parameters {
        for text in [name, value] {
            packet.put_slice(text);
            packet.put_u8(0);
        }
    }
    packet.put_u8(0);
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(head) = packet.first_chunk_mut::<4>() {
        *head = length;
    }
    packet.freeze()
}

#[cfg(test)]
mod tests;
