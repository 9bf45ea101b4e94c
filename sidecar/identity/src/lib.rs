//! The names of measured code, as fixed-size values that cannot be mixed up.
//!
//! Every identifier is written as lower-case hex without a prefix, and read with or without `0x`, in either case. A value
//! of the wrong length is refused; nothing is padded or cut, because a padded hash would alias another one on chain.

use std::fmt;
use std::str::FromStr;

/// Why a text is not one of the identifiers of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must be {expected} hex digits, with or without 0x: {found}")]
pub struct ParseIdError {
    /// Which identifier was expected, in words.
    pub kind: &'static str,
    /// How many hex digits it has.
    pub expected: usize,
    /// What was found instead, without repeating the input.
    pub found: Found,
}

/// What a refused text looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Found {
    /// The number of digits was wrong.
    Length(usize),
    /// A character was not a hex digit.
    NotHex,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(digits) => write!(f, "it has {digits}"),
            Self::NotHex => f.write_str("it holds another character"),
        }
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// How many bytes the identifier has.
            pub const LEN: usize = $bytes;

            /// The bytes, in the order in which the hex form shows them.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex(text, $kind).map(Self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                <[u8; $bytes]>::try_from(bytes).map(Self).map_err(|_| ParseIdError {
                    kind: $kind,
                    expected: 2 * $bytes,
                    found: Found::Length(2 * bytes.len()),
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

identifier!(
    /// An application: on chain, the address of its AppAuth contract.
    AppId, 20, "an app id"
);
identifier!(
    /// One CVM of an application.
    InstanceId, 20, "an instance id"
);
identifier!(
    /// SHA-256 of the raw bytes of `app-compose.json`.
    ComposeHash, 32, "a compose hash"
);
identifier!(
    /// SHA-256 of the platform's PPID, from a verified PCK certificate.
    DeviceId, 32, "a device id"
);
identifier!(
    /// The digest of an OS image, as the guest reports it.
    OsImageHash, 32, "an OS image hash"
);
identifier!(
    /// A TDX measurement register (MRTD or RTMR), SHA-384.
    Register, 48, "a measurement register"
);

fn parse_hex<const N: usize>(text: &str, kind: &'static str) -> Result<[u8; N], ParseIdError> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let refuse = |found| ParseIdError { kind, expected: 2 * N, found };
    let mut bytes = [0; N];
    hex::decode_to_slice(digits, &mut bytes).map_err(|error| match error {
        hex::FromHexError::InvalidHexCharacter { .. } => refuse(Found::NotHex),
        hex::FromHexError::OddLength | hex::FromHexError::InvalidStringLength => {
            refuse(Found::Length(digits.chars().count()))
        }
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_written_form_reads_back(bytes: [u8; 20]) {
            let id = AppId(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(format!("0x{}", id.to_string().to_uppercase()).parse(), Ok(id));
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(serde_json::from_str::<AppId>(&json).unwrap(), id);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _: Result<ComposeHash, _> = text.parse();
        }
    }

    #[test]
    fn a_short_hash_is_refused_rather_than_padded() {
        let refused = "ab".repeat(31).parse::<ComposeHash>().unwrap_err();
        assert_eq!(refused.found, Found::Length(62));
        assert_eq!(refused.to_string(), "a compose hash must be 64 hex digits, with or without 0x: it has 62");
    }

    #[test]
    fn a_text_that_is_not_hex_is_refused_without_being_repeated() {
        let refused = "zz".repeat(20).parse::<AppId>().unwrap_err();
        assert_eq!(refused.found, Found::NotHex);
        assert!(!refused.to_string().contains('z'));
    }
}
