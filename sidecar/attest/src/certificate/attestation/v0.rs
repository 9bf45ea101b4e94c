//! Version 0: two SCALE indices, then the fields.

use parity_scale_codec::{Decode, Encode};

use super::{Attestation, EXTENSION, malformed, merged, runtime_event};
use crate::certificate::CertificateError;
use crate::event_log::{Event, EventVersion};

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

/// Writes the runtime events as version 1 events, whatever they are; the caller knows that they are.
pub(super) fn encode(attestation: &Attestation, report_data: &[u8; 64]) -> Vec<u8> {
    let runtime = || attestation.event_log.runtime_events().map(|(_, event)| event);
    let event_log = runtime().map(|event| EventV0 {
        imr: event.imr,
        event_type: event.event_type,
        digest: Vec::new(),
        event: event.event.clone(),
        event_payload: event.event_payload.clone(),
    });
    let runtime_events =
        runtime().map(|event| RuntimeEventV0 { event: event.event.clone(), payload: event.event_payload.clone() });
    let fields = TdxV0 {
        quote: attestation.quote.clone(),
        event_log: event_log.collect(),
        runtime_events: runtime_events.collect(),
        report_data: *report_data,
        config: attestation.config.clone(),
    };
    [V0_OF_TDX.as_slice(), &fields.encode()].concat()
}

/// Reads what follows the two indices.
pub(super) fn decode(mut fields: &[u8]) -> Result<Attestation, CertificateError> {
    let read = TdxV0::decode(&mut fields).map_err(malformed)?;
    if !fields.is_empty() {
        return Err(CertificateError::TrailingBytes { what: EXTENSION, bytes: fields.len() });
    }
    let log = read.event_log.into_iter().map(Event::from);
    let runtime =
        read.runtime_events.into_iter().map(|event| runtime_event(event.event, event.payload, EventVersion::V1));
    Ok(Attestation { quote: read.quote, event_log: merged(log, runtime)?, config: read.config })
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
