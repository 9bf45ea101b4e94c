//! dstack's versioned attestation, version 0: everything that a verifier needs in one SCALE value.

use parity_scale_codec::Encode;
use postern_attest::event_log::EventLog;

/// The indices of version 0 and, within it, of the TDX platform.
const V0_OF_TDX: [u8; 2] = [0, 0];

#[derive(Encode)]
struct LoggedEvent<'a> {
    imr: u32,
    event_type: u32,
    digest: &'a [u8],
    event: &'a str,
    event_payload: &'a [u8],
}

#[derive(Encode)]
struct RuntimeEvent<'a> {
    event: &'a str,
    payload: &'a [u8],
}

/// The attestation as `Attest` returns it: with the whole event log, unlike the one in a certificate.
pub(crate) fn version_0(quote: &[u8], report_data: [u8; 64], log: &EventLog, config: &str) -> Vec<u8> {
    let logged = log.0.iter().map(|event| LoggedEvent {
        imr: event.imr,
        event_type: event.event_type,
        digest: &event.digest,
        event: &event.event,
        event_payload: &event.event_payload,
    });
    let runtime =
        log.runtime_events().map(|(_, event)| RuntimeEvent { event: &event.event, payload: &event.event_payload });
    let fields = (quote, logged.collect::<Vec<_>>(), runtime.collect::<Vec<_>>(), report_data, config);
    [V0_OF_TDX.as_slice(), &fields.encode()].concat()
}
