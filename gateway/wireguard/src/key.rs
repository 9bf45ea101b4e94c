//! Curve25519 keys of tunnel ends, written as WireGuard writes them: base64 of 32 bytes.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519;
use rand::RngCore as _;
use zeroize::{Zeroize as _, Zeroizing};

/// A key in bytes (RFC 7748, section 5).
const KEY_LEN: usize = 32;

/// A text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a WireGuard key is 44 characters of base64 that stand for 32 bytes")]
pub struct KeyError;

/// The public half of a tunnel end's key: the name of a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

/// The private half of a tunnel end's key. Wiped when dropped; never printed.
#[derive(Clone)]
pub struct PrivateKey(Zeroizing<[u8; KEY_LEN]>);

impl PublicKey {
    /// Takes the 32 bytes of a public key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    pub(crate) fn to_x25519(self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.0)
    }
}

impl PrivateKey {
    /// Takes the 32 bytes of a private key.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Draws a new key from the system's random numbers, clamped as `wg genkey` does, so that other tools show the same
    /// bytes.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        rand::rng().fill_bytes(bytes.as_mut());
        if let [first, .., last] = bytes.as_mut() {
            *first &= 0b1111_1000;
            *last = (*last & 0b0111_1111) | 0b0100_0000;
        }
        Self(bytes)
    }

    /// The 32 bytes, to be kept somewhere safe.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.to_x25519()).to_bytes())
    }

    pub(crate) fn to_x25519(&self) -> x25519::StaticSecret {
        x25519::StaticSecret::from(*self.0)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey([redacted])")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let mut bytes = STANDARD.decode(text).map_err(|_| KeyError)?;
    let key = <[u8; KEY_LEN]>::try_from(bytes.as_slice()).map(Zeroizing::new).map_err(|_| KeyError);
    bytes.zeroize();
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_public_key_is_derived_as_rfc_7748_says() {
        // RFC 7748, section 6.1: Alice's keys.
        let private = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse::<PrivateKey>().unwrap();
        assert_eq!(private.public().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn generated_keys_differ_and_are_clamped() {
        let (one, other) = (PrivateKey::generate(), PrivateKey::generate());
        assert_ne!(one.public(), other.public());
        assert_eq!(one.expose()[0] & 7, 0);
        assert_eq!(one.expose()[31] & 0b1100_0000, 0b0100_0000);
    }

    #[test]
    fn a_private_key_is_not_printed() {
        let private = PrivateKey::generate();
        assert_eq!(format!("{private:?}"), "PrivateKey([redacted])");
    }

    #[test]
    fn what_is_not_32_bytes_is_no_key() {
        for text in ["", "AAAA", "not base64 at all", &"A".repeat(64)] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError), "{text}");
            assert!(text.parse::<PrivateKey>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_are_read_back_as_written(bytes in any::<[u8; 32]>()) {
            let key = PublicKey::from_bytes(bytes);
            prop_assert_eq!(key.to_string().parse::<PublicKey>(), Ok(key));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,80}") {
            let _: Result<PublicKey, KeyError> = text.parse();
        }
    }
}
