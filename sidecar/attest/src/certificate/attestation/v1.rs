//! Version 1: a MessagePack map with named fields, `{version, platform: {kind, data}, stack: {kind, data}}`.
//!
//! dstack's own encoder writes the quote as a list of numbers and payloads as binary strings. Other encoders choose
//! otherwise, so that wherever bytes stand, a list of numbers, a binary string and text are all read.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Attestation, EXTENSION, OTHER_PLATFORM, malformed, merged, runtime_event};
use crate::certificate::CertificateError;
use crate::certificate::msgpack::{self, base64, binary, hex};
use crate::event_log::{Event, EventVersion};

const VERSION: u64 = 1;
const PLATFORM: &str = "tdx";
const STACK: &str = "dstack";

/// What says how the rest is to be read.
#[derive(Deserialize)]
struct Head {
    version: u64,
    platform: Kind,
    stack: Kind,
}

#[derive(Deserialize)]
struct Kind {
    kind: String,
    #[serde(rename = "data")]
    _data: IgnoredAny,
}

#[derive(Serialize, Deserialize)]
struct Fields {
    version: u64,
    platform: Tagged<Platform>,
    stack: Tagged<Stack>,
}

#[derive(Serialize, Deserialize)]
struct Tagged<T> {
    kind: String,
    data: T,
}

#[derive(Serialize, Deserialize)]
struct Platform {
    #[serde(deserialize_with = "binary::deserialize")]
    quote: Vec<u8>,
    event_log: Vec<LogEvent>,
}

#[derive(Serialize, Deserialize)]
struct LogEvent {
    imr: u32,
    event_type: u32,
    #[serde(default, with = "hex")]
    digest: Vec<u8>,
    event: String,
    #[serde(with = "hex")]
    event_payload: Vec<u8>,
    #[serde(default, skip_serializing_if = "EventVersion::is_first")]
    version: EventVersion,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "hex")]
    preimage: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Stack {
    #[serde(deserialize_with = "binary::deserialize")]
    report_data: Vec<u8>,
    runtime_events: Vec<RuntimeEvent>,
    config: String,
}

#[derive(Serialize, Deserialize)]
struct RuntimeEvent {
    event: String,
    #[serde(with = "base64")]
    payload: Vec<u8>,
    #[serde(default, skip_serializing_if = "EventVersion::is_first")]
    version: EventVersion,
}

pub(super) fn encode(attestation: &Attestation, report_data: &[u8; 64]) -> Vec<u8> {
    let runtime = || attestation.event_log.runtime_events().map(|(_, event)| event.clone());
    let event_log = runtime().map(|event| LogEvent {
        imr: event.imr,
        event_type: event.event_type,
        digest: Vec::new(),
        event: event.event,
        event_payload: event.event_payload,
        version: event.version,
        preimage: Vec::new(),
    });
    let runtime_events = runtime().map(|event| RuntimeEvent {
        event: event.event,
        payload: event.event_payload,
        version: event.version,
    });
    msgpack::encode_named(&Fields {
        version: VERSION,
        platform: Tagged {
            kind: PLATFORM.to_owned(),
            data: Platform { quote: attestation.quote.clone(), event_log: event_log.collect() },
        },
        stack: Tagged {
            kind: STACK.to_owned(),
            data: Stack {
                report_data: report_data.to_vec(),
                runtime_events: runtime_events.collect(),
                config: attestation.config.clone(),
            },
        },
    })
}

pub(super) fn decode(content: &[u8]) -> Result<Attestation, CertificateError> {
    let head: Head = msgpack::decode(content, EXTENSION)?;
    if head.version != VERSION {
        return Err(CertificateError::Unsupported("an attestation of an unknown version"));
    }
    if head.platform.kind != PLATFORM {
        return Err(CertificateError::Unsupported(OTHER_PLATFORM));
    }
    // A pod's quote vouches for a text of the pod and never for a TLS key.
    if head.stack.kind != STACK {
        return Err(CertificateError::Unsupported("an attestation of another stack than dstack's"));
    }
    let Fields { platform, stack, .. } = msgpack::decode(content, EXTENSION)?;
    if stack.data.report_data.len() != 64 {
        return Err(malformed("its report data does not have 64 bytes"));
    }
    let log = platform.data.event_log.into_iter().map(Event::from);
    let runtime =
        stack.data.runtime_events.into_iter().map(|event| runtime_event(event.event, event.payload, event.version));
    Ok(Attestation { quote: platform.data.quote, event_log: merged(log, runtime)?, config: stack.data.config })
}

impl From<LogEvent> for Event {
    fn from(event: LogEvent) -> Self {
        Self {
            imr: event.imr,
            event_type: event.event_type,
            digest: event.digest,
            event: event.event,
            event_payload: event.event_payload,
            version: event.version,
            preimage: event.preimage,
        }
    }
}
