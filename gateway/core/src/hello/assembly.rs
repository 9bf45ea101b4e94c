//! Fragments of a handshake message, joined as they come (RFC 8446 section 5.1).

use super::{ClientHello, FIRST_BYTE, HelloError, parse};

const RECORD_HEADER: usize = 5;
const MAX_RECORD: usize = 1 << 14;
const HANDSHAKE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;

/// How far the first handshake message of a connection has been read. However small the pieces in which it comes, each of
/// its bytes is looked at once.
#[derive(Debug, Default)]
pub struct Assembly {
    /// How many bytes of the buffer were read: record headers, and the fragments that are in `message`.
    read: usize,
    /// How many bytes of the last record are still to come.
    missing: usize,
    /// The message so far, its own header included.
    message: Vec<u8>,
}

impl Assembly {
    /// Does what [`super::peek`] does, for a buffer that starts with the bytes of the calls before and has grown since.
    /// Nothing is to be asked after an error or a ClientHello.
    ///
    /// # Errors
    /// See [`HelloError`].
    pub fn peek(&mut self, buf: &[u8], max: usize) -> Result<Option<ClientHello>, HelloError> {
        if !self.is_complete_with(buf, max)? {
            return Ok(None);
        }
        parse(self.message.get(HANDSHAKE_HEADER..).unwrap_or_default(), self.read).map(Some)
    }

    fn is_complete_with(&mut self, buf: &[u8], max: usize) -> Result<bool, HelloError> {
        loop {
            let unread = buf.get(self.read..).unwrap_or_default();
            let body = if self.missing > 0 {
                unread
            } else {
                let Some(record) = record_length(unread)? else { return more(self.read + RECORD_HEADER, max) };
                (self.read, self.missing) = (self.read + RECORD_HEADER, record);
                unread.get(RECORD_HEADER..).unwrap_or_default()
            };
            let fragment = body.get(..self.missing.min(body.len())).unwrap_or_default();
            self.message.extend_from_slice(fragment);
            (self.read, self.missing) = (self.read + fragment.len(), self.missing - fragment.len());
            if let Some(length) = message_length(&self.message)? {
                let end = HANDSHAKE_HEADER + length;
                if end > max || self.read > max {
                    return Err(HelloError::TooLarge);
                }
                // The record header alone tells that more than the message is to come.
                if self.message.len() + self.missing > end {
                    return Err(HelloError::TrailingData);
                }
                if self.message.len() == end {
                    return Ok(true);
                }
            }
            if self.missing > 0 {
                return more(self.read, max);
            }
        }
    }
}

/// More is needed, if `wire` bytes are not too many already.
fn more(wire: usize, max: usize) -> Result<bool, HelloError> {
    if wire > max { Err(HelloError::TooLarge) } else { Ok(false) }
}

/// The length in a record header, checked byte by byte so that junk is refused as soon as it shows.
fn record_length(bytes: &[u8]) -> Result<Option<usize>, HelloError> {
    if bytes.first().is_some_and(|kind| *kind != FIRST_BYTE) || bytes.get(1).is_some_and(|major| *major != 3) {
        return Err(HelloError::NotTls);
    }
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<RECORD_HEADER>() else { return Ok(None) };
    match usize::from(u16::from_be_bytes([high, low])) {
        // Empty handshake records carry nothing and would let a peer keep a connection busy for ever.
        0 => Err(HelloError::RecordLength),
        length if length > MAX_RECORD => Err(HelloError::RecordLength),
        length => Ok(Some(length)),
    }
}

fn message_length(message: &[u8]) -> Result<Option<usize>, HelloError> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(HelloError::NotClientHello);
    }
    let Some(&[_, high, middle, low]) = message.first_chunk::<HANDSHAKE_HEADER>() else { return Ok(None) };
    Ok(Some(usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)))
}

#[cfg(test)]
mod tests;
