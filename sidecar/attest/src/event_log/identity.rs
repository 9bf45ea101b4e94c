use postern_identity::{AppId, ComposeHash, InstanceId, OsImageHash};

use super::{Event, EventLogError};

/// What measured boot says about an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppIdentity {
    /// The application: on chain, the address of its AppAuth contract.
    pub app_id: AppId,
    /// SHA-256 of the raw `app-compose.json`.
    pub compose_hash: ComposeHash,
    /// The CVM within the application.
    pub instance_id: InstanceId,
    /// The OS image, if the guest measured it.
    pub os_image_hash: Option<OsImageHash>,
    /// Who provided the keys: dstack's JSON `{"name", "id"}`, byte for byte as measured; empty when there was none.
    pub key_provider: Vec<u8>,
}

/// The application may append events after this one, even ones with the names of identity events.
const SYSTEM_READY: &str = "system-ready";
const APP_ID: &str = "app-id";
const COMPOSE_HASH: &str = "compose-hash";
const INSTANCE_ID: &str = "instance-id";
const OS_IMAGE_HASH: &str = "os-image-hash";
const KEY_PROVIDER: &str = "key-provider";

impl AppIdentity {
    pub(super) fn from_boot_events<'a>(events: impl Iterator<Item = &'a Event>) -> Result<Self, EventLogError> {
        let mut boot = Vec::new();
        let mut ready = false;
        for (index, event) in events.enumerate() {
            if event.event == SYSTEM_READY {
                ready = true;
                break;
            }
            // The digest of version 1 is over `name:payload`, so a colon in a name could hide an event of another name.
            if event.event.contains(':') {
                return Err(EventLogError::AmbiguousName { index });
            }
            boot.push(event);
        }
        if !ready {
            return Err(EventLogError::Missing(SYSTEM_READY));
        }
        Ok(Self {
            app_id: AppId(fixed(&boot, APP_ID)?.ok_or(EventLogError::Missing(APP_ID))?),
            compose_hash: ComposeHash(fixed(&boot, COMPOSE_HASH)?.ok_or(EventLogError::Missing(COMPOSE_HASH))?),
            instance_id: InstanceId(fixed(&boot, INSTANCE_ID)?.ok_or(EventLogError::Missing(INSTANCE_ID))?),
            os_image_hash: fixed(&boot, OS_IMAGE_HASH)?.map(OsImageHash),
            key_provider: unique(&boot, KEY_PROVIDER)?.unwrap_or_default().to_vec(),
        })
    }
}

fn fixed<const N: usize>(boot: &[&Event], name: &'static str) -> Result<Option<[u8; N]>, EventLogError> {
    let Some(payload) = unique(boot, name)? else { return Ok(None) };
    let wrong = EventLogError::WrongLength { name, found: payload.len(), expected: N };
    payload.try_into().map(Some).map_err(|_| wrong)
}

fn unique<'a>(boot: &[&'a Event], name: &'static str) -> Result<Option<&'a [u8]>, EventLogError> {
    let mut found = boot.iter().filter(|event| event.event == name);
    let first = found.next().map(|event| event.event_payload.as_slice());
    if found.next().is_some() { Err(EventLogError::Duplicate(name)) } else { Ok(first) }
}
