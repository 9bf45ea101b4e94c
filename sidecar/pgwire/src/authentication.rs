//! The server's side of authentication: ask for the cluster secret in clear, inside TLS, or have it proven by SCRAM.

pub mod scram;

use thiserror::Error;

use crate::frame::Message;

/// Largest PasswordMessage, or message of SCRAM, that is read. A cluster secret has 64 characters, and the longest message of
/// SCRAM about 250.
pub const MAX_PASSWORD_MESSAGE: usize = 1_024;

/// AuthenticationCleartextPassword.
pub const CLEARTEXT_REQUEST: &[u8] = b"R\0\0\0\x08\0\0\0\x03";

/// Why a message is no password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// Another message came instead.
    #[error("expected a password, got message type {0}")]
    Unexpected(u8),
    /// The password is not one terminated string.
    #[error("invalid password packet layout")]
    Layout,
}

/// The password in a PasswordMessage.
///
/// # Errors
/// See [`PasswordError`].
pub fn password(message: &Message) -> Result<&[u8], PasswordError> {
    if message.tag() != b'p' {
        return Err(PasswordError::Unexpected(message.tag()));
    }
    match message.body().split_last() {
        Some((0, password)) if !password.contains(&0) => Ok(password),
        _ => Err(PasswordError::Layout),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::{MAX_PASSWORD_MESSAGE, PasswordError, password};
    use crate::frame::{self, Message};

    fn message(bytes: &[u8]) -> Message {
        frame::split(&mut BytesMut::from(bytes), MAX_PASSWORD_MESSAGE).unwrap().unwrap()
    }

    #[test]
    fn a_terminated_string_is_a_password() {
        assert_eq!(password(&message(b"p\0\0\0\x08abc\0")), Ok(&b"abc"[..]));
        assert_eq!(password(&message(b"p\0\0\0\x05\0")), Ok(&b""[..]));
    }

    #[test]
    fn anything_else_is_not() {
        assert_eq!(password(&message(b"p\0\0\0\x04")), Err(PasswordError::Layout));
        assert_eq!(password(&message(b"p\0\0\0\x07abc")), Err(PasswordError::Layout));
        assert_eq!(password(&message(b"p\0\0\0\x08a\0c\0")), Err(PasswordError::Layout));
        assert_eq!(password(&message(b"Q\0\0\0\x05\0")), Err(PasswordError::Unexpected(b'Q')));
    }

    proptest! {
        #[test]
        fn random_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
            let _read = password(&message(&[b"p".as_slice(), &length, &body].concat()));
        }
    }
}
