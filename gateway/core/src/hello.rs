//! The ClientHello (RFC 8446 section 4.1.2), read without consuming it.
//!
//! The message may come in any number of TCP segments and TLS records; the caller hands in everything received so far
//! and replays exactly those bytes to the server.

mod assembly;
mod extension;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use self::assembly::Assembly;
use self::reader::{Reader, Short};
use crate::host::{HostName, HostNameError};

/// The default limit for a ClientHello, in bytes on the wire.
pub const DEFAULT_MAX: usize = 16 * 1024;
/// The highest limit that makes sense: TLS servers stop at 64 KiB of handshake message.
pub const HIGHEST_MAX: usize = 64 * 1024;

/// The first byte of a TLS connection: a record of type `handshake`.
pub const FIRST_BYTE: u8 = 22;

/// What the gateway learns from a ClientHello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The name in `server_name`.
    pub server_name: HostName,
    /// The protocols in `application_layer_protocol_negotiation`, in the client's order; empty when it offers none.
    pub alpn: Vec<Vec<u8>>,
    /// Whether `encrypted_client_hello` is present, be it real or GREASE; then `server_name` is the outer name.
    pub encrypted: bool,
    /// How many bytes of the buffer the message takes, record headers included.
    pub length: usize,
}

/// Why no ClientHello can come of the bytes, however many follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The bytes are not TLS handshake records.
    #[error("the bytes are not TLS handshake records")]
    NotTls,
    /// A record is empty or longer than 2^14 bytes (RFC 8446 section 5.1).
    #[error("a TLS record has a forbidden length")]
    RecordLength,
    /// The first handshake message is not a ClientHello.
    #[error("the first handshake message is not a ClientHello")]
    NotClientHello,
    /// The ClientHello is longer than the gateway accepts.
    #[error("the ClientHello is too large")]
    TooLarge,
    /// Another message follows in the record in which the ClientHello ends.
    #[error("data follows the ClientHello in its record")]
    TrailingData,
    /// A field is cut short or has a forbidden length or value.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// An extension comes twice (RFC 8446 section 4.2), so that two readers could see two different names.
    #[error("an extension comes twice")]
    DuplicateExtension,
    /// `server_name` holds more or other than exactly one host name (RFC 6066 section 3).
    #[error("server_name does not hold exactly one host name")]
    ServerNameList,
    /// The host name is none that the gateway routes.
    #[error(transparent)]
    ServerName(#[from] HostNameError),
    /// There is no `server_name`.
    #[error("there is no server_name extension")]
    MissingServerName,
    /// There is no `signature_algorithms`, without which no certificate can be chosen (RFC 8446 section 9.2).
    #[error("there is no signature_algorithms extension")]
    MissingSignatureAlgorithms,
}

impl From<Short> for HelloError {
    fn from(_: Short) -> Self {
        Self::Malformed
    }
}

/// Looks for a ClientHello at the start of `buf`, which holds everything received from the first TLS byte on.
///
/// `Ok(None)` means that more bytes are needed. `max` bounds the bytes on the wire up to the end of the message, so a
/// caller that stops at an error holds no more than `max` bytes and one read. Who looks more than once keeps an
/// [`Assembly`].
pub fn peek(buf: &[u8], max: usize) -> Result<Option<ClientHello>, HelloError> {
    Assembly::default().peek(buf, max)
}

fn parse(message: &[u8], length: usize) -> Result<ClientHello, HelloError> {
    let mut message = Reader::new(message);
    let _version_and_random = message.take(2 + 32)?;
    if message.vec8()?.rest().len() > 32 {
        return Err(HelloError::Malformed);
    }
    message.filled16()?.each(|suites| suites.u16().map(drop))?;
    if !message.filled8()?.rest().contains(&0) {
        return Err(HelloError::Malformed);
    }
    let extensions = if message.is_empty() { Reader::new(&[]) } else { message.vec16()? };
    message.end()?;
    parse_extensions(extensions, length)
}

fn parse_extensions(mut extensions: Reader<'_>, length: usize) -> Result<ClientHello, HelloError> {
    let (mut server_name, mut alpn) = (None, Vec::new());
    let mut seen = BTreeSet::new();
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let body = extensions.vec16()?.rest();
        if !seen.insert(kind) {
            return Err(HelloError::DuplicateExtension);
        }
        if kind == extension::SERVER_NAME {
            server_name = Some(single_host_name(body)?);
            continue;
        }
        extension::check(kind, body)?;
        if kind == extension::ALPN {
            alpn = protocols(body)?;
        }
        if kind == extension::PRE_SHARED_KEY && !extensions.is_empty() {
            return Err(HelloError::Malformed);
        }
    }
    // The name first: a client that sends next to nothing should hear what it most likely lacks.
    let server_name = server_name.ok_or(HelloError::MissingServerName)?;
    if !seen.contains(&extension::SIGNATURE_ALGORITHMS) {
        return Err(HelloError::MissingSignatureAlgorithms);
    }
    Ok(ClientHello { server_name, alpn, encrypted: seen.contains(&extension::ENCRYPTED_CLIENT_HELLO), length })
}

/// RFC 6066 section 3: one list, with one entry, of type `host_name`.
fn single_host_name(body: &[u8]) -> Result<HostName, HelloError> {
    const HOST_NAME: u8 = 0;
    let mut body = Reader::new(body);
    let mut list = body.filled16()?;
    body.end()?;
    if list.u8()? != HOST_NAME {
        return Err(HelloError::ServerNameList);
    }
    let name = list.vec16()?.rest();
    if !list.is_empty() {
        return Err(HelloError::ServerNameList);
    }
    Ok(HostName::parse(name)?)
}

fn protocols(body: &[u8]) -> Result<Vec<Vec<u8>>, HelloError> {
    let mut protocols = Vec::new();
    Reader::new(body).filled16()?.each(|list| {
        protocols.push(list.filled8()?.rest().to_vec());
        Ok(())
    })?;
    Ok(protocols)
}
