use dcap_qvl::quote::Quote;
use parity_scale_codec::Decode;
use postern_identity::AppId;

use super::{Attestation, der::octet_string};
use crate::event_log::{Event, EventLog, EventLogError};
use crate::oid;

/// An X.509 extension to be put into a certificate, not critical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Which extension.
    pub oid: &'static [u64],
    /// The extension's value (`extnValue`): the content in its OCTET STRING.
    pub content: Vec<u8>,
}

/// Why evidence cannot be put into a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtensionError {
    /// The quote is not one of a TD.
    #[error("the quote cannot be put into a certificate: {0}")]
    Quote(String),
    /// The event log contradicts itself.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
}

/// The extensions of a server or client leaf: quote (`.1`), event log (`.2`), app id (`.3`) and versioned attestation
/// (`.8`), so that dstack's and TeeSQL's clients each find the form they read.
///
/// The quote stands there twice, and all has to fit a first flight. So the zeros with which guests pad a quote are left out,
/// the log of `.2` is compressed, as dstack itself wrote it there before it had `.8`, and only the events of RTMR3 are
/// carried: the others cannot be bound to their payloads. `.8` is of version 0, or of version 1 when the log has version 2
/// events, which version 0 cannot express.
///
/// # Errors
/// When `quote` is not a TD quote, or the log does not replay.
pub fn extensions(quote: &[u8], log: &EventLog, app_id: &AppId) -> Result<Vec<Extension>, ExtensionError> {
    log.replay_rtmr3()?;
    let mut padding = quote;
    let parsed = Quote::decode(&mut padding).map_err(|error| ExtensionError::Quote(error.to_string()))?;
    let quote = if padding.iter().all(|byte| *byte == 0) { without(quote, padding) } else { quote };
    let td = parsed.report.as_td10().ok_or_else(|| ExtensionError::Quote("it is not a TD quote".to_owned()))?;
    // Some clients replay the supplied digests, so they are all there and all right.
    let runtime = EventLog(
        log.runtime_events()
            .map(|(_, event)| Event { digest: event.runtime_digest().to_vec(), ..event.clone() })
            .collect(),
    );
    let log = runtime.to_compressed()?;
    let attestation = Attestation { quote: quote.to_vec(), event_log: runtime, config: String::new() };
    Ok(vec![
        Extension { oid: oid::QUOTE, content: octet_string(quote) },
        Extension { oid: oid::EVENT_LOG, content: octet_string(&log) },
        Extension { oid: oid::APP_ID, content: octet_string(app_id.as_bytes()) },
        Extension { oid: oid::ATTESTATION, content: octet_string(&attestation.encode(&td.report_data)) },
    ])
}

/// What stands before `end`.
fn without<'a>(all: &'a [u8], end: &[u8]) -> &'a [u8] {
    all.get(..all.len().saturating_sub(end.len())).unwrap_or(all)
}
