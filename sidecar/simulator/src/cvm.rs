//! One simulated confidential VM: what booted in it, its event log, its quotes and its keys.

use std::sync::Arc;

use postern_attest::event_log::{Event, EventLog};
use postern_identity::{AppId, ComposeHash, InstanceId, OsImageHash};
use sha2::{Digest as _, Sha256};

use crate::{Measurements, Tee, boot};

/// The image that every simulated CVM booted.
pub const OS_IMAGE: OsImageHash = OsImageHash(*b"SIMULATED OS IMAGE - NOT A REAL ");

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

    /// As [`Cvm::new`], with chosen measurements. RTMR3 always follows from the event log, and a register with another value
    /// than the default has no events in it.
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
        let runtime = runtime_events(&app_id, &compose_hash, &instance_id, &key_provider(&tee));
        let [rtmr0, rtmr1, rtmr2, _] = measurements.rtmr;
        let booted = (0..).zip([rtmr0, rtmr1, rtmr2]).filter(|(number, value)| boot::register(*number) == *value);
        let boot = booted.flat_map(|(number, _)| boot::events(number));
        let event_log = EventLog(boot.chain(runtime.iter().cloned()).collect());
        let rtmr = [rtmr0, rtmr1, rtmr2, boot::replay(runtime.into_iter())];
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

    /// The events of the boot: those of firmware and kernel, then dstack's own in the order of its guest.
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

    /// What released the keys, as the event log names it.
    pub(crate) fn key_provider(&self) -> Vec<u8> {
        key_provider(&self.tee)
    }

    /// SHA-256 over MRTD, the registers of the boot and what released the keys, as dstack names a system.
    pub(crate) fn mr_system(&self) -> [u8; 32] {
        self.registers(3).chain_update(Sha256::digest(self.key_provider())).finalize().into()
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
    // Written by hand, as it is measured: serde_json's order of keys depends on the features that a build happens to have.
    format!(r#"{{"name":"kms","id":"{}"}}"#, hex::encode(&tee.kms().root_spki)).into_bytes()
}

/// dstack's own events of a boot, all of which extend RTMR3.
fn runtime_events(
    app_id: &AppId,
    compose_hash: &ComposeHash,
    instance_id: &InstanceId,
    key_provider: &[u8],
) -> Vec<Event> {
    vec![
        Event::runtime("system-preparing", b""),
        Event::runtime("app-id", app_id.as_bytes()),
        Event::runtime("compose-hash", compose_hash.as_bytes()),
        Event::runtime("instance-id", instance_id.as_bytes()),
        Event::runtime("boot-mr-done", b""),
        Event::runtime("os-image-hash", OS_IMAGE.as_bytes()),
        Event::runtime("key-provider", key_provider),
        Event::runtime("system-ready", b""),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cvm(seed: u8, app: u8, instance: &str) -> Cvm {
        Cvm::new(Arc::new(Tee::new([seed; 32]).unwrap()), AppId([app; 20]), b"{}".to_vec(), instance)
    }

    #[test]
    fn an_instance_is_named_by_its_disk_and_its_application() {
        assert_eq!(cvm(7, 1, "one").instance_id(), cvm(8, 1, "one").instance_id());
        assert_ne!(cvm(7, 1, "one").instance_id(), cvm(7, 1, "two").instance_id());
        assert_ne!(cvm(7, 1, "one").instance_id(), cvm(7, 2, "one").instance_id());
    }

    #[test]
    fn the_event_log_replays_to_the_registers_in_the_quote() {
        let cvm = cvm(7, 1, "one");
        for (number, register) in (0..).zip(cvm.measurements().rtmr) {
            assert_eq!(boot::replay(cvm.event_log().0.iter().filter(|event| event.imr == number).cloned()), register);
        }
        assert_eq!(cvm.event_log().replay_rtmr3().unwrap(), cvm.measurements().rtmr[3]);
        let identity = cvm.event_log().identity().unwrap();
        assert_eq!(identity.app_id, cvm.app_id());
        assert_eq!(identity.compose_hash, cvm.compose_hash());
        assert_eq!(identity.instance_id, cvm.instance_id());
        assert_eq!(identity.os_image_hash, Some(OS_IMAGE));
    }

    #[test]
    fn the_event_log_has_no_events_for_a_register_that_was_chosen() {
        let tee = Arc::new(Tee::new([7; 32]).unwrap());
        let mut measurements = Measurements::default();
        measurements.rtmr[1] = postern_identity::Register([1; 48]);
        let cvm = Cvm::with_measurements(tee, AppId([1; 20]), b"{}".to_vec(), "one", measurements);
        let mut registers: Vec<u32> = cvm.event_log().0.iter().map(|event| event.imr).collect();
        registers.dedup();
        assert_eq!(registers, [0, 2, 3]);
    }
}
