//! ErrorResponse: the one message in which Postgres, and we, say no.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::sqlstate::SqlState;

/// Longest text of one field in bytes; longer ones are cut between two characters.
const MAX_TEXT: usize = 1_000;

/// A fatal error that ends the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorResponse {
    sqlstate: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl ErrorResponse {
    /// A FATAL error with a code and a sentence.
    #[must_use]
    pub fn fatal(sqlstate: SqlState, message: impl Into<String>) -> Self {
        Self { sqlstate, message: message.into(), detail: None, hint: None }
    }

    /// Adds the DETAIL line.
    #[must_use]
    pub fn detail(mut self, text: impl Into<String>) -> Self {
        self.detail = Some(text.into());
        self
    }

    /// Adds the HINT line.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// The code.
    #[must_use]
    pub const fn sqlstate(&self) -> SqlState {
        self.sqlstate
    }

    /// The sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The bytes for the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut fields = BytesMut::new();
        field(&mut fields, b'S', "FATAL");
        field(&mut fields, b'V', "FATAL");
        field(&mut fields, b'C', self.sqlstate.code());
        field(&mut fields, b'M', &self.message);
        for (tag, text) in [(b'D', &self.detail), (b'H', &self.hint)] {
            if let Some(text) = text {
                field(&mut fields, tag, text);
            }
        }
        fields.put_u8(0);
        let mut message = BytesMut::with_capacity(fields.len() + 5);
        message.put_u8(b'E');
        message.put_u32(u32::try_from(fields.len() + 4).unwrap_or(u32::MAX));
        message.put_slice(&fields);
        message.freeze()
    }
}

/// Texts may hold anything; a NUL would end the field early, so it is left out.
fn field(into: &mut BytesMut, tag: u8, text: &str) {
    into.put_u8(tag);
    let end = into.len() + MAX_TEXT;
    for character in text.chars().filter(|character| *character != '\0') {
        let mut bytes = [0; 4];
        let bytes = character.encode_utf8(&mut bytes).as_bytes();
        if into.len() + bytes.len() > end {
            break;
        }
        into.put_slice(bytes);
    }
    into.put_u8(0);
}

/// An ErrorResponse that came from Postgres: the parts worth logging, and the bytes to forward. The rest of them, such as
/// the detail, may quote data and is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The five characters, or whatever stood there.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// The whole message as it came.
    pub raw: Bytes,
}

impl ServerError {
    /// Reads the fields of an ErrorResponse or NoticeResponse. Missing fields are empty; text that is no UTF-8 is
    /// replaced.
    #[must_use]
    pub fn parse(raw: &Bytes, body: &[u8]) -> Self {
        let mut error = Self { sqlstate: String::new(), message: String::new(), raw: raw.clone() };
        for part in body.split(|byte| *byte == 0) {
            match part {
                [b'C', text @ ..] => error.sqlstate = String::from_utf8_lossy(text).into_owned(),
                [b'M', text @ ..] => error.message = String::from_utf8_lossy(text).into_owned(),
                _ => {}
            }
        }
        error
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sqlstate, message, raw } = self;
        let mut debug = f.debug_struct("ServerError");
        debug.field("sqlstate", sqlstate).field("message", message).field("length", &raw.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::{ErrorResponse, ServerError};
    use crate::frame;
    use crate::sqlstate::SqlState;

    #[test]
    fn the_bytes_are_as_documented() {
        let error = ErrorResponse::fatal(SqlState::INVALID_PASSWORD, "no").detail("d").hint("h");
        assert_eq!(&error.encode()[..], b"E\0\0\0\x24SFATAL\0VFATAL\0C28P01\0Mno\0Dd\0Hh\0\0");
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        let error = ErrorResponse::fatal(SqlState::CANNOT_CONNECT_NOW, "starting");
        let message = frame::split(&mut BytesMut::from(&error.encode()[..]), 1000).unwrap().unwrap();
        let read = ServerError::parse(message.raw(), message.body());
        assert_eq!((read.sqlstate.as_str(), read.message.as_str()), ("57P03", "starting"));
    }

    #[test]
    fn debug_leaves_out_what_the_detail_quotes() {
        let error =
            ErrorResponse::fatal(SqlState::NOT_SUPPORTED, "no such row").detail("Key (iban)=(DE99) is missing.");
        let message = frame::split(&mut BytesMut::from(&error.encode()[..]), 1000).unwrap().unwrap();
        let text = format!("{:?}", ServerError::parse(message.raw(), message.body()));
        assert!(text.contains("0A000") && text.contains("no such row") && !text.contains("DE99"), "{text}");
    }

    /// The primary message, as the bytes that stand in its field.
    fn sent(text: &str) -> Vec<u8> {
        let bytes = ErrorResponse::fatal(SqlState::NOT_SUPPORTED, text).encode();
        let field = bytes[5..].split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"M"));
        field.unwrap_or_default().to_vec()
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        for (character, kept) in [("a", 1_000), ("ä", 1_000), ("€", 999), ("𝄞", 1_000)] {
            let text = character.repeat(1_500);
            for lead in ["", "x", "xy", "x\0yz"] {
                let cut = String::from_utf8(sent(&format!("{lead}{text}"))).unwrap();
                assert!(cut.len() <= 1_000 && cut.len() + 4 > 1_000, "{} bytes", cut.len());
            }
            assert_eq!(sent(&text).len(), kept);
        }
    }

    proptest! {
        #[test]
        fn any_text_keeps_the_frame(text in any::<String>()) {
            let error = ErrorResponse::fatal(SqlState::NOT_SUPPORTED, text.clone()).detail(text);
            let mut buf = BytesMut::from(&error.encode()[..]);
            let message = frame::split(&mut buf, 10_000).unwrap().unwrap();
            prop_assert!(buf.is_empty());
            prop_assert_eq!(message.body().split(|byte| *byte == 0).filter(|part| !part.is_empty()).count(), 5);
        }

        #[test]
        fn random_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _read = ServerError::parse(&bytes::Bytes::new(), &body);
        }
    }
}
