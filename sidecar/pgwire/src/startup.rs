//! StartupMessage: who the client wants to be, kept as it came so that it can be forwarded untouched.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use crate::negotiation::Version;

/// Longest startup packet, as PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub const MAX_STARTUP: usize = 10_000;
/// Length and version precede the parameters.
const FIXED: usize = 8;

/// A StartupMessage of protocol 3.x. Names and values are bytes: nothing guarantees UTF-8. Clients put what they like into
/// `options`, so values are not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Startup {
    raw: Bytes,
    version: Version,
}

/// Why a startup packet was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StartupError {
    /// The packet is longer than [`MAX_STARTUP`] or shorter than its fixed part.
    #[error("startup packet has an impossible length")]
    Length,
    /// Not protocol 3.x.
    #[error("unsupported protocol version {0}.{1}")]
    Version(u16, u16),
    /// The parameters are not pairs of terminated strings with one terminator after the last.
    #[error("invalid startup packet layout")]
    Layout,
    /// `user`, `database` or `replication` stands there twice, so that two readers could see two different values.
    #[error("a startup parameter is given twice")]
    Repeated,
}

impl Startup {
    /// Reads one complete packet, length field included.
    ///
    /// # Errors
    /// See [`StartupError`].
    pub fn parse(packet: Bytes) -> Result<Self, StartupError> {
        let (head, body) = packet.split_first_chunk::<FIXED>().ok_or(StartupError::Length)?;
        let [l0, l1, l2, l3, v0, v1, v2, v3] = *head;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length != packet.len() || length > MAX_STARTUP {
            return Err(StartupError::Length);
        }
        let (major, minor) = (u16::from_be_bytes([v0, v1]), u16::from_be_bytes([v2, v3]));
        let version = Version::new(u32::from_be_bytes([v0, v1, v2, v3])).ok_or(StartupError::Version(major, minor))?;
        check_layout(body)?;
        Ok(Self { version, raw: packet })
    }

    /// The packet as it came, length field included.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The protocol version that the client asks for.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The role to log in as; empty when the client named none.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        self.parameter(b"user").unwrap_or_default()
    }

    /// The database to connect to; PostgreSQL's default is the user's name.
    #[must_use]
    pub fn database(&self) -> &[u8] {
        self.parameter(b"database").filter(|name| !name.is_empty()).unwrap_or_else(|| self.user())
    }

    /// The value of a parameter; the last one wins, as in PostgreSQL.
    #[must_use]
    pub fn parameter(&self, name: &[u8]) -> Option<&[u8]> {
        self.parameters().filter(|(key, _)| *key == name).map(|(_, value)| value).last()
    }

    /// All parameters in the order in which they came.
    pub fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        Parameters(self.raw.get(FIXED..).unwrap_or_default())
    }

    /// Whether the client asks for replication, physical or logical. Only values that PostgreSQL surely reads as
    /// "no" count as no.
    #[must_use]
    pub fn is_replication(&self) -> bool {
        const NO: [&[u8]; 5] = [b"false", b"off", b"no", b"0", b"f"];
        self.parameter(b"replication").is_some_and(|value| !NO.iter().any(|no| value.eq_ignore_ascii_case(no)))
    }
}

impl fmt::Debug for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Startup");
        debug
            .field("version", &format_args!("{}", self.version))
            .field("length", &self.raw.len())
            .finish_non_exhaustive()
    }
}

fn check_layout(body: &[u8]) -> Result<(), StartupError> {
    let mut seen = [0_u32; 3];
    let mut parameters = Parameters(body);
    for (key, _) in parameters.by_ref() {
        for (count, name) in seen.iter_mut().zip([b"user".as_slice(), b"database", b"replication"]) {
            *count += u32::from(key == name);
        }
    }
    if parameters.0 != [0] {
        return Err(StartupError::Layout);
    }
    if seen.iter().any(|count| *count > 1) { Err(StartupError::Repeated) } else { Ok(()) }
}

/// Pairs until the terminator or the first thing that is no pair; what is left stays in the field.
struct Parameters<'a>(&'a [u8]);

impl<'a> Iterator for Parameters<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = c_string(self.0).filter(|(key, _)| !key.is_empty())?;
        let (value, rest) = c_string(rest)?;
        self.0 = rest;
        Some((key, value))
    }
}

/// The bytes before the first NUL and those after it.
fn c_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

#[cfg(test)]
mod tests;
