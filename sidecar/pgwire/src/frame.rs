//! Messages after the opening: one tag byte, a length that counts itself, a body.

use std::fmt;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use zeroize::Zeroize as _;

/// Tag and length.
const HEAD: usize = 5;

/// One whole message. Its content is never printed: it may be a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    raw: Bytes,
}

/// Why the bytes at hand cannot become a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A length below 4 or negative.
    #[error("message length {0} is impossible")]
    Length(i32),
    /// A length above what the receiver takes at this point.
    #[error("message of {length} bytes where at most {cap} are expected")]
    TooLong {
        /// The length that was announced.
        length: usize,
        /// The receiver's cap on tag, length and body together.
        cap: usize,
    },
}

impl Message {
    /// What kind of message this is.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.raw.first().copied().unwrap_or_default()
    }

    /// The bytes after tag and length.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.raw.get(HEAD..).unwrap_or_default()
    }

    /// The message as it came.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Overwrites the message, if nothing else holds on to its bytes.
    pub fn wipe(self) {
        if let Ok(mut bytes) = self.raw.try_into_mut() {
            bytes.zeroize();
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({})", Summary(&self.raw))
    }
}

/// What may be printed of a message: its tag and its length on the wire.
pub(crate) struct Summary<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.0.first().copied().unwrap_or_default();
        write!(f, "{:?}, {} bytes", char::from(tag), self.0.len())
    }
}

/// Takes one message off the front of `buf`; `None` when more bytes are needed. `cap` bounds the whole message, so that
/// a peer cannot make the caller's buffer grow by announcing a length.
///
/// # Errors
/// See [`FrameError`]; the length is judged as soon as it is there.
pub fn split(buf: &mut BytesMut, cap: usize) -> Result<Option<Message>, FrameError> {
    let Some(length) = buf.get(1..HEAD).and_then(|bytes| bytes.first_chunk::<4>()) else { return Ok(None) };
    let announced = i32::from_be_bytes(*length);
    let length = usize::try_from(announced).unwrap_or_default();
    if length < 4 {
        return Err(FrameError::Length(announced));
    }
    let whole = length + 1;
    if whole > cap {
        return Err(FrameError::TooLong { length: whole, cap });
    }
    Ok((buf.len() >= whole).then(|| Message { raw: buf.split_to(whole).freeze() }))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::{FrameError, split};

    #[test]
    fn messages_come_off_one_by_one() {
        let mut buf = BytesMut::from(&b"Z\0\0\0\x05IS\0\0\0\x04"[..]);
        let first = split(&mut buf, 100).unwrap().unwrap();
        assert_eq!((first.tag(), first.body(), &first.raw()[..]), (b'Z', &b"I"[..], &b"Z\0\0\0\x05I"[..]));
        let second = split(&mut buf, 100).unwrap().unwrap();
        assert_eq!((second.tag(), second.body()), (b'S', &b""[..]));
        assert_eq!(split(&mut buf, 100), Ok(None));
    }

    #[test]
    fn every_prefix_is_not_yet() {
        let message = b"R\0\0\0\x08\0\0\0\0";
        for end in 0..message.len() {
            let mut buf = BytesMut::from(&message[..end]);
            assert_eq!(split(&mut buf, 100), Ok(None));
            assert_eq!(buf.len(), end);
        }
    }

    #[test]
    fn impossible_lengths_are_refused_without_a_body() {
        for (length, announced) in [([0, 0, 0, 3], 3), ([0, 0, 0, 0], 0), ([0xff, 0xff, 0xff, 0xff], -1)] {
            let mut buf = BytesMut::from(&[b"p".as_slice(), &length].concat()[..]);
            assert_eq!(split(&mut buf, 100), Err(FrameError::Length(announced)));
        }
        let mut buf = BytesMut::from(&b"p\x7f\xff\xff\xff"[..]);
        assert_eq!(split(&mut buf, 100), Err(FrameError::TooLong { length: 0x8000_0000, cap: 100 }));
    }

    #[test]
    fn debug_shows_the_tag_and_the_length_alone() {
        let password = split(&mut BytesMut::from(&b"p\0\0\0\x0bsecret\0"[..]), 100).unwrap().unwrap();
        assert_eq!(format!("{password:?}"), "Message('p', 12 bytes)");
        assert_eq!(format!("{password:#?}"), "Message('p', 12 bytes)");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), cap in 0_usize..64) {
            let mut buf = BytesMut::from(&bytes[..]);
            if let Ok(Some(message)) = split(&mut buf, cap) {
                prop_assert!(message.raw().len() <= cap);
                prop_assert_eq!([message.raw().to_vec(), buf.to_vec()].concat(), bytes);
            }
        }
    }
}
