//! One simulated confidential VM: what booted in it, its event log, its quotes and its keys.

use std::sync::Arc;

use hkdf::Hkdf;
use postern_attest::event_log::{Event, EventLog};
use postern_identity::{AppId, ComposeHash, InstanceId, OsImageHash, Register};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{Measurements, Tee};

/// The image that every simulated CVM booted.
pub const OS_IMAGE: OsImageHash = OsImageHash(*b"SIMULATED OS IMAGE - NOT A REAL ");

/// dstack's salt for every key that it derives.
const KEY_SALT: &[u8] = b"RATLS";

/// A confidential VM on a simulated platform.
#[derive(Debug)]
pub struct Cvm {
    tee: Arc<Tee>,
    app_id: AppId,
    compose: Vec<u8>,
    instance_id: InstanceId,
    event_log: EventLog,
    measurements: Measurements,
}

impl Cvm {
    /// Boots `compose` (the raw bytes of `app-compose.json`) as an instance of an application.
    ///
    /// `instance` takes the place of the random seed on the data disk: one name gives one instance id.
    #[must_use]
    pub fn new(tee: Arc<Tee>, app_id: AppId, compose: Vec<u8>, instance: &str) -> Self {
        Self::with_measurements(tee, app_id, compose, instance, Measurements::default())
    }

    /// As [`Cvm::new`], with chosen measurements. RTMR3 always follows from the event log.
    #[must_use]
    pub fn with_measurements(
        tee: Arc<Tee>,
        app_id: AppId,
        compose: Vec<u8>,
        instance: &str,
        measurements: Measurements,
    ) -> Self {
        let instance_id = instance_id(instance, &app_id);
        let compose_hash = compose_hash(&compose);
        let event_log = boot_log(&app_id, &compose_hash, &instance_id, &key_provider(&tee));
        let [rtmr0, rtmr1, rtmr2, _] = measurements.rtmr;
        let rtmr = [rtmr0, rtmr1, rtmr2, extend_all(&event_log)];
        Self { tee, app_id, compose, instance_id, event_log, measurements: Measurements { rtmr, ..measurements } }
    }

    /// The platform on which it runs.
    #[must_use]
    pub fn tee(&self) -> &Arc<Tee> {
        &self.tee
    }

    /// The application.
    #[must_use]
    pub fn app_id(&self) -> AppId {
        self.app_id
    }

    /// This instance of the application.
    #[must_use]
    pub fn instance_id(&self) -> InstanceId {
        self.instance_id
    }

    /// The raw bytes of `app-compose.json`.
    #[must_use]
    pub fn compose(&self) -> &[u8] {
        &self.compose
    }

    /// SHA-256 of the raw bytes of `app-compose.json`.
    #[must_use]
    pub fn compose_hash(&self) -> ComposeHash {
        compose_hash(&self.compose)
    }

    /// The events of the boot, in the order of dstack's guest.
    #[must_use]
    pub fn event_log(&self) -> &EventLog {
        &self.event_log
    }

    /// The registers that its quotes carry.
    #[must_use]
    pub fn measurements(&self) -> &Measurements {
        &self.measurements
    }

    /// A signed quote over `report_data`.
    #[must_use]
    pub fn quote(&self, report_data: [u8; 64]) -> Vec<u8> {
        self.tee.quote(&self.measurements, report_data)
    }

    /// The key of a path, as dstack's `GetKey` derives it: all instances of one application share it.
    #[must_use]
    pub fn derive_key(&self, path: &str) -> Zeroizing<[u8; 32]> {
        let root = derive(self.tee.seed(), &[self.app_id.as_bytes(), b"app-key"]);
        derive(root.as_ref(), &[path.as_bytes()])
    }

    /// What released the keys, as the event log names it.
    pub(crate) fn key_provider(&self) -> Vec<u8> {
        key_provider(&self.tee)
    }

    /// SHA-256 over MRTD and all four registers, as dstack aggregates them when no configuration id is set.
    pub(crate) fn mr_aggregated(&self) -> [u8; 32] {
        self.registers(4).finalize().into()
    }

    fn registers(&self, count: usize) -> Sha256 {
        let start = Sha256::new().chain_update(self.measurements.mrtd.as_bytes());
        self.measurements
            .rtmr
            .iter()
            .take(count)
            .fold(start, |digest, register| digest.chain_update(register.as_bytes()))
    }
}

/// HKDF-SHA256 with dstack's salt; the context is concatenated without separators.
fn derive(key: &[u8], context: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    let expanded = Hkdf::<Sha256>::new(Some(KEY_SALT), key).expand_multi_info(context, derived.as_mut());
    debug_assert!(expanded.is_ok(), "32 bytes are far below the limit of HKDF-SHA256");
    derived
}

fn compose_hash(compose: &[u8]) -> ComposeHash {
    ComposeHash(Sha256::digest(compose).into())
}

fn instance_id(name: &str, app_id: &AppId) -> InstanceId {
    let disk_seed = Sha256::digest(name);
    let digest = Sha256::new().chain_update(disk_seed.get(..20).unwrap_or_default()).chain_update(app_id.as_bytes());
    let digest: [u8; 32] = digest.finalize().into();
    InstanceId(std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default()))
}

fn key_provider(tee: &Tee) -> Vec<u8> {
    serde_json::json!({"name": "kms", "id": hex::encode(Sha256::digest(tee.root_der()))}).to_string().into_bytes()
}

fn boot_log(app_id: &AppId, compose_hash: &ComposeHash, instance_id: &InstanceId, key_provider: &[u8]) -> EventLog {
    EventLog(vec![
        Event::runtime("system-preparing", b""),
        Event::runtime("app-id", app_id.as_bytes()),
        Event::runtime("compose-hash", compose_hash.as_bytes()),
        Event::runtime("instance-id", instance_id.as_bytes()),
        Event::runtime("boot-mr-done", b""),
        Event::runtime("os-image-hash", OS_IMAGE.as_bytes()),
        Event::runtime("key-provider", key_provider),
        Event::runtime("system-ready", b""),
    ])
}

/// RTMR3 after the events, as the hardware would have extended it.
fn extend_all(log: &EventLog) -> Register {
    use sha2::Sha384;
    let extend = |register: [u8; 48], event: &Event| -> [u8; 48] {
        Sha384::new().chain_update(register).chain_update(&event.digest).finalize().into()
    };
    Register(log.0.iter().fold([0; 48], extend))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cvm(seed: u8, app: u8, instance: &str) -> Cvm {
        Cvm::new(Arc::new(Tee::new([seed; 32]).unwrap()), AppId([app; 20]), b"{}".to_vec(), instance)
    }

    #[test]
    fn keys_match_a_fixed_vector() {
        // HKDF-SHA256 (RFC 5869) by another implementation: salt "RATLS", key 00 01 .. 1f, info "pg/superuser".
        let key: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        assert_eq!(
            hex::encode(derive(&key, &[b"pg/", b"superuser"])),
            "1e42e6cb8c55ed5cb831b5faf53e1e598056f956fc1ec19e7d442ef170dc25a2"
        );
        // The same, with a root derived from the seed 07 .. 07 and the app id a0 .. a0 followed by "app-key".
        assert_eq!(
            hex::encode(cvm(7, 0xa0, "one").derive_key("pg/superuser")),
            "731f8c160324d4ec37b74df58e1f4c3dce4d30953846a77f587030e84c38fbab"
        );
    }

    #[test]
    fn keys_are_shared_inside_an_application_and_nowhere_else() {
        let key = cvm(7, 1, "one").derive_key("path");
        assert_eq!(key, cvm(7, 1, "two").derive_key("path"));
        assert_ne!(key, cvm(7, 2, "one").derive_key("path"));
        assert_ne!(key, cvm(8, 1, "one").derive_key("path"));
        assert_ne!(key, cvm(7, 1, "one").derive_key("another"));
    }

    #[test]
    fn an_instance_is_named_by_its_disk_and_its_application() {
        assert_eq!(cvm(7, 1, "one").instance_id(), cvm(8, 1, "one").instance_id());
        assert_ne!(cvm(7, 1, "one").instance_id(), cvm(7, 1, "two").instance_id());
        assert_ne!(cvm(7, 1, "one").instance_id(), cvm(7, 2, "one").instance_id());
    }

    #[test]
    fn the_event_log_replays_to_the_register_in_the_quote() {
        let cvm = cvm(7, 1, "one");
        assert_eq!(cvm.event_log().replay_rtmr3().unwrap(), cvm.measurements().rtmr[3]);
        let identity = cvm.event_log().identity().unwrap();
        assert_eq!(identity.app_id, cvm.app_id());
        assert_eq!(identity.compose_hash, cvm.compose_hash());
        assert_eq!(identity.instance_id, cvm.instance_id());
        assert_eq!(identity.os_image_hash, Some(OS_IMAGE));
    }
}
