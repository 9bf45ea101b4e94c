//! MessagePack as dstack's certificates use it: no byte may follow, and bytes come in several guises.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use super::CertificateError;

/// Nothing that is read here nests deeper than some five levels. Unknown fields may, and cost stack.
const MAX_DEPTH: usize = 32;

/// Reads one value and nothing behind it.
pub(super) fn decode<T: DeserializeOwned>(content: &[u8], extension: &'static str) -> Result<T, CertificateError> {
    let mut rest = content;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut deserializer)
        .map_err(|error| CertificateError::Malformed { extension, detail: error.to_string() })?;
    match rest.len() {
        0 => Ok(value),
        bytes => Err(CertificateError::TrailingBytes { what: extension, bytes }),
    }
}

/// Writes a value with its fields' names.
pub(super) fn encode_named(value: &impl Serialize) -> Vec<u8> {
    // Writing fails only for lists of unknown length and for writers that fail.
    rmp_serde::to_vec_named(value).unwrap_or_default()
}

/// Writes a value without its fields' names.
pub(super) fn encode_positional(value: &impl Serialize) -> Vec<u8> {
    rmp_serde::to_vec(value).unwrap_or_default()
}

/// Bytes that are written as a list of numbers, and for which no text stands.
pub(super) mod binary {
    use super::{Deserializer, bytes};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        bytes(deserializer, |_| None)
    }
}

/// Bytes for which hexadecimal text may stand.
pub(super) mod hex {
    use super::{Deserializer, Serializer, bytes};

    pub(in super::super) fn serialize<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(value)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        bytes(deserializer, |text| ::hex::decode(text).ok())
    }
}

/// Bytes for which base64 text may stand (RFC 4648, section 4).
pub(super) mod base64 {
    use ::base64::Engine as _;
    use ::base64::engine::general_purpose::STANDARD;

    use super::{Deserializer, Serializer, bytes};

    pub(in super::super) fn serialize<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(value)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        bytes(deserializer, |text| STANDARD.decode(text).ok())
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D, text: fn(&str) -> Option<Vec<u8>>) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_any(AnyBytes(text))
}

/// Reads bytes in any guise; the function decodes text.
struct AnyBytes(fn(&str) -> Option<Vec<u8>>);

impl<'de> Visitor<'de> for AnyBytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
        (self.0)(text).ok_or_else(|| E::custom("text stands where bytes are expected, and does not encode any"))
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<u8>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}
