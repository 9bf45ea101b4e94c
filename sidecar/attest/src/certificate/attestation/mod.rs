//! Extension `.8`, dstack's versioned attestation. Version 0 is SCALE; later versions start with a MessagePack map.

mod v0;
mod v1;

use super::CertificateError;
use crate::event_log::{Event, EventLog, EventVersion, RUNTIME_EVENT_TYPE, RUNTIME_REGISTER};

const EXTENSION: &str = ".8";

/// A quote and its event log, as extension `.8` carries them. Nothing about it is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attestation {
    /// The raw TDX quote.
    pub quote: Vec<u8>,
    /// The guest's event log.
    pub event_log: EventLog,
    /// What the guest says about its virtual machine, dstack's JSON. Nothing measures it; empty in our own certificates.
    pub config: String,
}

impl Attestation {
    /// Reads the content of extension `.8` (without its OCTET STRING), as a guest agent's `Attest` returns it too.
    ///
    /// # Errors
    /// When it is neither version 0 nor version 1, not of TDX, malformed, followed by other bytes, or tells its runtime
    /// events twice and differently.
    pub fn decode(content: &[u8]) -> Result<Self, CertificateError> {
        match content {
            [0, 0, fields @ ..] => v0::decode(fields),
            [0, ..] => Err(CertificateError::Unsupported(OTHER_PLATFORM)),
            [0x80..=0x8f | 0xde | 0xdf, ..] => v1::decode(content),
            _ => Err(CertificateError::Unsupported("an attestation of an unknown version")),
        }
    }

    /// Writes the oldest version that can express the log, as dstack does: version 1 if any runtime event is of version 2,
    /// and version 0 otherwise. Only the runtime events are written, without their digests, as dstack strips them for a
    /// certificate.
    ///
    /// `report_data` is repeated beside the quote; readers use the quote's own.
    #[must_use]
    pub fn encode(&self, report_data: &[u8; 64]) -> Vec<u8> {
        let needs_v1 = self.event_log.runtime_events().any(|(_, event)| event.version != EventVersion::V1);
        if needs_v1 { self.encode_v1(report_data) } else { v0::encode(self, report_data) }
    }

    /// Writes version 1, whatever the log. See [`Self::encode`].
    #[must_use]
    pub fn encode_v1(&self, report_data: &[u8; 64]) -> Vec<u8> {
        v1::encode(self, report_data)
    }
}

const OTHER_PLATFORM: &str = "an attestation of another platform than TDX";

fn malformed(detail: impl ToString) -> CertificateError {
    CertificateError::Malformed { extension: EXTENSION, detail: detail.to_string() }
}

/// The attestation tells its runtime events twice. Verifiers replay the short list, and readers may look at the other,
/// so the two have to agree wherever both are there.
fn merged(
    log: impl Iterator<Item = Event>,
    runtime: impl Iterator<Item = Event>,
) -> Result<EventLog, CertificateError> {
    let (in_log, mut events): (Vec<Event>, Vec<Event>) = log.partition(|event| event.imr == RUNTIME_REGISTER);
    let runtime: Vec<Event> = runtime.collect();
    let agree = in_log.len() == runtime.len()
        && in_log.iter().zip(&runtime).all(|(a, b)| a.event == b.event && a.event_payload == b.event_payload);
    if !in_log.is_empty() && !agree {
        return Err(malformed("its event log and its runtime events differ"));
    }
    events.extend(if in_log.is_empty() { runtime } else { in_log });
    Ok(EventLog(events))
}

/// An event of RTMR3 as the short list tells it.
fn runtime_event(name: String, payload: Vec<u8>, version: EventVersion) -> Event {
    Event {
        imr: RUNTIME_REGISTER,
        event_type: RUNTIME_EVENT_TYPE,
        digest: Vec::new(),
        event: name,
        event_payload: payload,
        version,
        preimage: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
