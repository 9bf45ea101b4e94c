//! Extension `.8`, dstack's versioned attestation. Version 0 is SCALE; later versions start with a MessagePack map.

use parity_scale_codec::{Decode, Encode};

use super::CertificateError;
use crate::event_log::{Event, EventLog, EventVersion, RUNTIME_EVENT_TYPE, RUNTIME_REGISTER};

const EXTENSION: &str = ".8";

/// The SCALE indices of version 0 and, within it, of the TDX platform. Other platforms have other fields.
const V0_OF_TDX: [u8; 2] = [0, 0];

#[derive(Encode, Decode)]
struct TdxV0 {
    quote: Vec<u8>,
    event_log: Vec<EventV0>,
    runtime_events: Vec<RuntimeEventV0>,
    report_data: [u8; 64],
    config: String,
}

#[derive(Encode, Decode)]
struct EventV0 {
    imr: u32,
    event_type: u32,
    digest: Vec<u8>,
    event: String,
    event_payload: Vec<u8>,
}

#[derive(Encode, Decode)]
struct RuntimeEventV0 {
    event: String,
    payload: Vec<u8>,
}

/// A quote and its event log, as extension `.8` carries them.
pub(super) struct Attestation {
    pub(super) quote: Vec<u8>,
    pub(super) event_log: EventLog,
}

/// Encodes version 0, with the runtime events alone and without their digests, as dstack strips it for a certificate.
/// `None` when the log has version 2 events, which version 0 cannot tell apart.
pub(super) fn encode_v0(quote: &[u8], report_data: [u8; 64], log: &EventLog) -> Option<Vec<u8>> {
    if log.runtime_events().any(|(_, event)| event.version != EventVersion::V1) {
        return None;
    }
    let event_log = log.runtime_events().map(|(_, event)| EventV0 {
        imr: event.imr,
        event_type: event.event_type,
        digest: Vec::new(),
        event: event.event.clone(),
        event_payload: event.event_payload.clone(),
    });
    let runtime_events = log
        .runtime_events()
        .map(|(_, event)| RuntimeEventV0 { event: event.event.clone(), payload: event.event_payload.clone() });
    let attestation = TdxV0 {
        quote: quote.to_vec(),
        event_log: event_log.collect(),
        runtime_events: runtime_events.collect(),
        report_data,
        config: String::new(),
    };
    Some([V0_OF_TDX.as_slice(), &attestation.encode()].concat())
}

/// Reads the content of extension `.8`.
pub(super) fn decode(content: &[u8]) -> Result<Attestation, CertificateError> {
    let mut fields = match content {
        [0, 0, fields @ ..] => fields,
        [0, ..] => return Err(CertificateError::Unsupported("an attestation of another platform than TDX")),
        [0x80..=0x8f | 0xde | 0xdf, ..] => {
            return Err(CertificateError::Unsupported("an attestation of version 1 (MessagePack)"));
        }
        _ => return Err(CertificateError::Unsupported("an attestation of an unknown version")),
    };
    let attestation = TdxV0::decode(&mut fields)
        .map_err(|error| CertificateError::Malformed { extension: EXTENSION, detail: error.to_string() })?;
    if !fields.is_empty() {
        return Err(CertificateError::TrailingBytes { what: EXTENSION, bytes: fields.len() });
    }
    Ok(Attestation { quote: attestation.quote, event_log: merged(attestation.event_log, attestation.runtime_events)? })
}

/// The attestation tells its runtime events twice. Verifiers replay the short list, and readers may look at the other,
/// so the two have to agree wherever both are there.
fn merged(log: Vec<EventV0>, runtime: Vec<RuntimeEventV0>) -> Result<EventLog, CertificateError> {
    let (in_log, mut events): (Vec<Event>, Vec<Event>) =
        log.into_iter().map(Event::from).partition(|event| event.imr == RUNTIME_REGISTER);
    let runtime: Vec<Event> = runtime.into_iter().map(Event::from).collect();
    let agree = in_log.len() == runtime.len()
        && in_log.iter().zip(&runtime).all(|(a, b)| a.event == b.event && a.event_payload == b.event_payload);
    if !in_log.is_empty() && !agree {
        return Err(CertificateError::Malformed {
            extension: EXTENSION,
            detail: "its event log and its runtime events differ".to_owned(),
        });
    }
    events.extend(if in_log.is_empty() { runtime } else { in_log });
    // Each event costs a hash, and a certificate has room for tens of thousands.
    Ok(EventLog::bounded(events)?)
}

impl From<EventV0> for Event {
    fn from(event: EventV0) -> Self {
        Self {
            imr: event.imr,
            event_type: event.event_type,
            digest: event.digest,
            event: event.event,
            event_payload: event.event_payload,
            version: EventVersion::V1,
            preimage: Vec::new(),
        }
    }
}

impl From<RuntimeEventV0> for Event {
    fn from(event: RuntimeEventV0) -> Self {
        Self {
            imr: RUNTIME_REGISTER,
            event_type: RUNTIME_EVENT_TYPE,
            digest: Vec::new(),
            event: event.event,
            event_payload: event.payload,
            version: EventVersion::V1,
            preimage: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_events_is_refused_before_it_is_hashed() {
        let event = || Event::runtime("", b"");
        let log = EventLog(std::iter::repeat_with(event).take(crate::event_log::MAX_EVENTS + 1).collect());
        let attestation = encode_v0(b"quote", [0; 64], &log).unwrap();
        let refused = decode(&attestation).map(|read| read.event_log.0.len());
        assert!(matches!(refused, Err(CertificateError::EventLog(_))), "{refused:?}");
    }
}
