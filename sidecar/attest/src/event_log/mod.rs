//! The runtime event log of a dstack guest, and what it says about the application.
//!
//! The log itself is only a claim. It counts once [`EventLog::replay_rtmr3`] has given the RTMR3 of a verified quote, and
//! then only for what the guest's own boot wrote, before the application could append events of its own.

mod compressed;
mod event;
mod identity;
#[cfg(test)]
mod tests;

use postern_identity::Register;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha384};

pub use compressed::MAX_INFLATED_BYTES;
pub use event::{Event, EventVersion, RUNTIME_EVENT_TYPE};
pub use identity::AppIdentity;

/// The register that runtime events extend, counted from 0.
pub const RUNTIME_REGISTER: u32 = 3;
/// A JSON event log of more bytes than this is refused unread.
pub const MAX_JSON_BYTES: usize = 256 * 1024;
/// A log of more events than this is refused.
pub const MAX_EVENTS: usize = 1024;

/// A guest's event log, in the order in which the events extended their registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventLog(pub Vec<Event>);

/// Why an event log cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// The log is larger than this crate reads.
    #[error("the event log has {found} {unit}, of at most {limit}")]
    TooLarge {
        /// How much there was.
        found: usize,
        /// How much is read at most.
        limit: usize,
        /// What was counted.
        unit: &'static str,
    },
    /// The log is not a JSON list of events.
    #[error("the event log is not a JSON list of events: {0}")]
    Json(String),
    /// The compressed form is damaged.
    #[error("the compressed event log cannot be read: {0}")]
    Compressed(String),
    /// RTMR3 holds an event that is not one of dstack's runtime events, so that its digest cannot be recomputed.
    #[error("event {index} extends RTMR3 with the foreign type {event_type:#010x}")]
    ForeignEvent {
        /// Where in the log it stands.
        index: usize,
        /// Its type.
        event_type: u32,
    },
    /// A supplied digest or preimage is not the one that name and payload give.
    #[error("event {index} ({name:?}) was changed: its {field} does not belong to its name and payload")]
    Altered {
        /// Where in the log it stands.
        index: usize,
        /// Its name.
        name: String,
        /// Which supplied value disagrees.
        field: &'static str,
    },
    /// A boot event's name holds a colon, which separates name and payload in the digest: another event may stand behind
    /// it, cut at another place.
    #[error("event {index} of the boot part has a colon in its name")]
    AmbiguousName {
        /// Which runtime event, from 0.
        index: usize,
    },
    /// An identity event stands twice before `system-ready`.
    #[error("event {0:?} appears twice before system-ready")]
    Duplicate(&'static str),
    /// An identity event is missing before `system-ready`, or `system-ready` itself is.
    #[error("event {0:?} is missing from the boot part of the log")]
    Missing(&'static str),
    /// An identity event's payload has the wrong length.
    #[error("event {name:?} has a payload of {found} bytes instead of {expected}")]
    WrongLength {
        /// Its name.
        name: &'static str,
        /// How long the payload is.
        found: usize,
        /// How long it has to be.
        expected: usize,
    },
}

impl EventLog {
    /// Reads dstack's JSON form, as a guest agent returns it and extension `.2` carries it.
    ///
    /// # Errors
    /// When the text is larger than [`MAX_JSON_BYTES`], is not a list of events, or has more than [`MAX_EVENTS`].
    pub fn from_json(json: &[u8]) -> Result<Self, EventLogError> {
        within(json.len(), MAX_JSON_BYTES, "bytes")?;
        let events: Vec<Event> =
            serde_json::from_slice(json).map_err(|error| EventLogError::Json(error.to_string()))?;
        Self::bounded(events)
    }

    /// A log that a peer has sent, in whatever form.
    pub(crate) fn bounded(events: Vec<Event>) -> Result<Self, EventLogError> {
        within(events.len(), MAX_EVENTS, "events")?;
        Ok(Self(events))
    }

    /// Writes dstack's JSON form.
    ///
    /// # Errors
    /// None in practice: every event has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, EventLogError> {
        serde_json::to_vec(self).map_err(|error| EventLogError::Json(error.to_string()))
    }

    /// The events that extended RTMR3, with the place at which they stand in the whole log.
    pub fn runtime_events(&self) -> impl Iterator<Item = (usize, &Event)> {
        self.0.iter().enumerate().filter(|(_, event)| event.imr == RUNTIME_REGISTER)
    }

    /// The value of RTMR3 after all events, recomputed from names and payloads. Supplied digests are never used; they
    /// only may not contradict what is computed.
    ///
    /// # Errors
    /// When RTMR3 has a foreign event, or an event carries a digest or preimage that is not its own.
    pub fn replay_rtmr3(&self) -> Result<Register, EventLogError> {
        self.runtime_events().try_fold(Register([0; 48]), |register, (index, event)| {
            let digest = event.verified_digest(index)?;
            Ok(Register(Sha384::new().chain_update(register.0).chain_update(digest).finalize().into()))
        })
    }

    /// What the boot part of the log says about the application. It means something only if [`Self::replay_rtmr3`] gives
    /// the RTMR3 of a verified quote.
    ///
    /// # Errors
    /// When `system-ready`, the app id, the compose hash or the instance id is missing, or an identity event stands
    /// twice or has a payload of the wrong length.
    pub fn identity(&self) -> Result<AppIdentity, EventLogError> {
        AppIdentity::from_boot_events(self.runtime_events().map(|(_, event)| event))
    }
}

fn within(found: usize, limit: usize, unit: &'static str) -> Result<(), EventLogError> {
    if found > limit { Err(EventLogError::TooLarge { found, limit, unit }) } else { Ok(()) }
}
