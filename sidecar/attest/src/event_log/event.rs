use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha384};

use super::{EventLogError, RUNTIME_REGISTER};

/// The event type of dstack's runtime events. Both digest versions use it.
pub const RUNTIME_EVENT_TYPE: u32 = 0x0800_0001;

/// How a runtime event's digest is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum EventVersion {
    /// `SHA-384(type as 4 little-endian bytes || ":" || name || ":" || payload)`
    #[default]
    V1,
    /// SHA-384 of the canonical JSON (RFC 8785) `{"name": …, "payload": hex, "type": …}`
    V2,
}

impl TryFrom<u32> for EventVersion {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            other => Err(format!("unknown event version {other}")),
        }
    }
}

impl From<EventVersion> for u32 {
    fn from(version: EventVersion) -> Self {
        match version {
            EventVersion::V1 => 1,
            EventVersion::V2 => 2,
        }
    }
}

impl EventVersion {
    pub(crate) fn is_first(&self) -> bool {
        *self == Self::V1
    }
}

/// One event of the log, in dstack's JSON field names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The register that the event extended, from 0.
    pub imr: u32,
    /// The TCG event type, or [`RUNTIME_EVENT_TYPE`].
    pub event_type: u32,
    /// The digest as supplied; empty in a log stripped for a certificate. For RTMR3 it is never used, only compared.
    #[serde(default, with = "hex_bytes")]
    pub digest: Vec<u8>,
    /// The event's name; empty for most boot events.
    pub event: String,
    /// What the event says.
    #[serde(with = "hex_bytes")]
    pub event_payload: Vec<u8>,
    /// How the digest is made.
    #[serde(default, skip_serializing_if = "EventVersion::is_first")]
    pub version: EventVersion,
    /// What the digest of a version 2 event was made from, as supplied.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "hex_bytes")]
    pub preimage: Vec<u8>,
}

impl Event {
    /// A version 1 runtime event, digest included.
    #[must_use]
    pub fn runtime(name: &str, payload: &[u8]) -> Self {
        let mut event = Self {
            imr: RUNTIME_REGISTER,
            event_type: RUNTIME_EVENT_TYPE,
            digest: Vec::new(),
            event: name.to_owned(),
            event_payload: payload.to_vec(),
            version: EventVersion::V1,
            preimage: Vec::new(),
        };
        event.digest = event.runtime_digest().to_vec();
        event
    }

    /// The digest with which a runtime event of this name, payload and version extends RTMR3.
    #[must_use]
    pub fn runtime_digest(&self) -> [u8; 48] {
        Sha384::digest(self.runtime_preimage()).into()
    }

    /// The bytes that the digest of a runtime event is made from.
    #[must_use]
    pub fn runtime_preimage(&self) -> Vec<u8> {
        match self.version {
            EventVersion::V1 => {
                let mut bytes = RUNTIME_EVENT_TYPE.to_le_bytes().to_vec();
                for part in [b":".as_slice(), self.event.as_bytes(), b":", &self.event_payload] {
                    bytes.extend_from_slice(part);
                }
                bytes
            }
            // serde_json escapes a string exactly as RFC 8785 asks, and the three keys stand in its order.
            EventVersion::V2 => format!(
                r#"{{"name":{},"payload":"{}","type":{RUNTIME_EVENT_TYPE}}}"#,
                serde_json::Value::from(self.event.as_str()),
                hex::encode(&self.event_payload),
            )
            .into_bytes(),
        }
    }

    /// The digest, provided that everything supplied beside name and payload agrees with them.
    pub(super) fn verified_digest(&self, index: usize) -> Result<[u8; 48], EventLogError> {
        if self.event_type != RUNTIME_EVENT_TYPE {
            return Err(EventLogError::ForeignEvent { index, event_type: self.event_type });
        }
        let altered = |field| EventLogError::Altered { index, name: self.event.clone(), field };
        let preimage = self.runtime_preimage();
        if !self.preimage.is_empty() && self.preimage != preimage {
            return Err(altered("preimage"));
        }
        let digest: [u8; 48] = Sha384::digest(&preimage).into();
        if !self.digest.is_empty() && self.digest != digest {
            return Err(altered("digest"));
        }
        Ok(digest)
    }
}

mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        // An absent preimage is written as null by some producers.
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        hex::decode(text).map_err(D::Error::custom)
    }
}
