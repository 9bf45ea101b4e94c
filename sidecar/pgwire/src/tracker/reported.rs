//! The settings that Postgres reports to its clients.

use bytes::{BufMut, Bytes, BytesMut};

use super::MAX_LOOKED_INTO;
use crate::frame;

/// The most settings that are remembered. PostgreSQL 18 reports 15 of them.
const MAX: usize = 64;
/// Tag and length.
const HEAD: usize = 5;
/// AuthenticationOk.
const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

/// The last ParameterStatus for each setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported(Vec<Bytes>);

impl Reported {
    /// The settings in what Postgres has said on the way to its first ReadyForQuery; `None` when they are not all understood.
    #[must_use]
    pub fn of(greeting: &[u8]) -> Option<Self> {
        let (mut greeting, mut reported) = (BytesMut::from(greeting), Self::default());
        while let Some(message) = frame::split(&mut greeting, MAX_LOOKED_INTO).ok()? {
            if message.tag() == b'S' && !reported.note(message.raw()) {
                return None;
            }
        }
        greeting.is_empty().then_some(reported)
    }

    /// Takes note of a whole ParameterStatus. `false` when it is none, or names one setting too many.
    #[must_use]
    pub fn note(&mut self, message: &[u8]) -> bool {
        let Some(name) = name_of(message) else { return false };
        let (copy, fits) = (Bytes::copy_from_slice(message), self.0.len() < MAX);
        match self.0.iter_mut().find(|known| name_of(known) == Some(name)) {
            Some(known) => *known = copy,
            None if fits => self.0.push(copy),
            None => return false,
        }
        true
    }

    /// What a new session is told before its cancel key: that it is logged in, and the settings.
    #[must_use]
    pub fn greeting(&self) -> BytesMut {
        let mut greeting = BytesMut::from(OK);
        self.0.iter().for_each(|message| greeting.put_slice(message));
        greeting
    }
}

/// The name that stands in a ParameterStatus; `None` for other messages.
fn name_of(message: &[u8]) -> Option<&[u8]> {
    let (head, body) = message.split_at_checked(HEAD)?;
    let length = body.iter().position(|byte| *byte == 0)?;
    (head.first() == Some(&b'S') && body.last() == Some(&0)).then(|| body.get(..length))?
}

#[cfg(test)]
mod tests {
    use super::{MAX, OK, Reported};

    fn status(name: &str, value: &str) -> Vec<u8> {
        let body = format!("{name}\0{value}\0");
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [b"S".as_slice(), &length, body.as_bytes()].concat()
    }

    #[test]
    fn the_last_word_on_each_setting_counts() {
        let mut reported = Reported::default();
        for (name, value) in [("TimeZone", "UTC"), ("DateStyle", "ISO"), ("TimeZone", "CET")] {
            assert!(reported.note(&status(name, value)));
        }
        let expected = [OK, &status("TimeZone", "CET"), &status("DateStyle", "ISO")].concat();
        assert_eq!(&reported.greeting()[..], &expected[..]);
    }

    #[test]
    fn a_greeting_is_repeated_without_its_notices() {
        let (first, second) = (status("TimeZone", "UTC"), status("DateStyle", "ISO"));
        let said = [OK, &first, b"N\0\0\0\x05\0", &second].concat();
        let reported = Reported::of(&said).unwrap();
        assert_eq!(&reported.greeting()[..], &[OK, &first, &second].concat()[..]);
        assert_eq!(Reported::of(&said[..said.len() - 1]), None);
        assert_eq!(Reported::of(b"S\0\0\0\x05a"), None);
    }

    #[test]
    fn what_is_no_status_and_one_too_many_are_not_taken() {
        let mut reported = Reported::default();
        for message in [&b""[..], b"S\0\0\0\x04", b"S\0\0\0\x05a", b"Z\0\0\0\x06a\0", b"S\0\0\0\x06\0a"] {
            assert!(!reported.note(message), "{message:?}");
        }
        for number in 0..MAX {
            assert!(reported.note(&status(&number.to_string(), "")));
        }
        assert!(!reported.note(&status("one more", "")));
        assert!(reported.note(&status("0", "known")));
    }
}
