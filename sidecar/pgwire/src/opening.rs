//! What the first bytes of a connection are: TLS at once, or one of PostgreSQL's opening packets.

use bytes::Bytes;
use thiserror::Error;

use crate::cancel::{CANCEL_REQUEST, CancelKey, MAX_SECRET, MIN_SECRET};
use crate::startup::{MAX_STARTUP, Startup, StartupError};

/// First byte of a TLS record that carries a handshake message.
const TLS_HANDSHAKE: u8 = 0x16;
/// The code of an SSLRequest.
const SSL_REQUEST: u32 = 80_877_103;
/// The code of a GSSENCRequest.
const GSSENC_REQUEST: u32 = 80_877_104;

/// One opening, as far as it can be told from the first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A TLS record; nothing of it was consumed.
    Tls,
    /// The client asks for TLS and waits for `S` or `N`.
    SslRequest,
    /// The client asks for GSSAPI encryption and waits for `G` or `N`.
    GssEncRequest,
    /// The client asks to cancel another session's query and expects no answer.
    Cancel(CancelKey),
    /// The client starts a session.
    Startup(Startup),
}

/// Why the bytes can never become an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpeningError {
    /// The first bytes are neither TLS nor the length of an opening packet.
    #[error("neither TLS nor PostgreSQL")]
    Foreign,
    /// A length that no opening packet of this kind has.
    #[error("opening packet has an impossible length {0}")]
    Length(u32),
    /// A request code in PostgreSQL's range that nobody defined.
    #[error("unknown request code {0}")]
    Code(u32),
    /// A startup packet that PostgreSQL would not read either.
    #[error(transparent)]
    Startup(#[from] StartupError),
}

/// Reads one opening from the front of `buf` and says how many bytes it took; `None` when more bytes are needed.
/// Errors come as soon as the bytes at hand rule everything out. At most 10,000 bytes are ever asked for.
///
/// Bytes behind an SSLRequest or GSSENCRequest that arrived before the answer are the caller's to refuse
/// (the class of CVE-2021-23214).
///
/// # Errors
/// See [`OpeningError`].
pub fn parse(buf: &[u8]) -> Result<Option<(Opening, usize)>, OpeningError> {
    match buf {
        [] | [0] => return Ok(None),
        [TLS_HANDSHAKE, ..] => return Ok(Some((Opening::Tls, 0))),
        [0, 0, ..] => {}
        _ => return Err(OpeningError::Foreign),
    }
    let Some((length, rest)) = buf.split_first_chunk::<4>() else { return Ok(None) };
    let announced = u32::from_be_bytes(*length);
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if !(8..=MAX_STARTUP).contains(&length) {
        return Err(OpeningError::Length(announced));
    }
    let Some((code, _)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let code = u32::from_be_bytes(*code);
    if !length_fits(code, length)? {
        return Err(OpeningError::Length(announced));
    }
    let Some(packet) = buf.get(..length) else { return Ok(None) };
    Ok(Some((complete(code, packet)?, length)))
}

/// Whether a packet with this code may have this length.
fn length_fits(code: u32, length: usize) -> Result<bool, OpeningError> {
    match (code, code >> 16) {
        (SSL_REQUEST | GSSENC_REQUEST, _) => Ok(length == 8),
        (CANCEL_REQUEST, _) => Ok((12 + MIN_SECRET..=12 + MAX_SECRET).contains(&length)),
        (_, 1234) => Err(OpeningError::Code(code)),
        (_, 3) => Ok(length > 8),
        (_, major) => {
            let part = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
            Err(StartupError::Version(part(major), part(code & 0xffff)).into())
        }
    }
}

fn complete(code: u32, packet: &[u8]) -> Result<Opening, OpeningError> {
    match code {
        SSL_REQUEST => Ok(Opening::SslRequest),
        GSSENC_REQUEST => Ok(Opening::GssEncRequest),
        CANCEL_REQUEST => {
            let key = packet.get(8..).and_then(CancelKey::from_body);
            key.map(Opening::Cancel).ok_or(OpeningError::Code(code))
        }
        _ => Ok(Opening::Startup(Startup::parse(Bytes::copy_from_slice(packet))?)),
    }
}

#[cfg(test)]
mod tests;
