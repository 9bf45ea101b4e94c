//! The question that is put to the chain.

use std::hash::{Hash, Hasher};

use postern_attest::Appraisal;
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};

/// What a workload proved about itself, in the nine fields of dstack's `AppBootInfo`.
///
/// Two workloads that differ in any field are two questions: the contract may look at every one of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootInfo {
    /// The app; on chain, the address of its AppAuth contract.
    pub app_id: AppId,
    /// What the app runs.
    pub compose_hash: ComposeHash,
    /// The CVM; on chain an address, because it has 20 bytes.
    pub instance_id: InstanceId,
    /// The machine.
    pub device_id: DeviceId,
    /// dstack's digest over all measurement registers.
    pub mr_aggregated: [u8; 32],
    /// dstack's digest over those registers that do not depend on the app.
    pub mr_system: [u8; 32],
    /// The OS image.
    pub os_image_hash: OsImageHash,
    /// Intel's word for the platform's patch level, such as `UpToDate`.
    pub tcb_status: String,
    /// Intel's advisories that apply to the platform.
    pub advisory_ids: Vec<String>,
}

/// Few workloads share these two, and the hash of all fields would take longer than all else of a check on a connection's path.
impl Hash for BootInfo {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.instance_id.hash(state);
        self.compose_hash.hash(state);
    }
}

impl From<&Appraisal> for BootInfo {
    /// A guest that did not measure its OS image asks about the image zero, which contracts do not allow.
    fn from(appraisal: &Appraisal) -> Self {
        let identity = &appraisal.identity;
        Self {
            app_id: identity.app_id,
            compose_hash: identity.compose_hash,
            instance_id: identity.instance_id,
            device_id: appraisal.device_id,
            mr_aggregated: appraisal.mr_aggregated,
            mr_system: appraisal.mr_system,
            os_image_hash: identity.os_image_hash.unwrap_or(OsImageHash([0; OsImageHash::LEN])),
            tcb_status: appraisal.tcb_status.clone(),
            advisory_ids: appraisal.advisory_ids.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use postern_attest::AppIdentity;
    use postern_identity::Register;

    use super::*;

    #[test]
    fn every_field_is_the_one_that_was_proved() {
        let mut appraisal = Appraisal {
            identity: AppIdentity {
                app_id: AppId([1; 20]),
                compose_hash: ComposeHash([2; 32]),
                instance_id: InstanceId([3; 20]),
                os_image_hash: Some(OsImageHash([4; 32])),
                key_provider: Vec::new(),
            },
            device_id: DeviceId([5; 32]),
            mrtd: Register([9; 48]),
            rtmr: [Register([9; 48]); 4],
            mr_aggregated: [6; 32],
            mr_system: [7; 32],
            tcb_status: "UpToDate".to_owned(),
            advisory_ids: vec!["INTEL-SA-00001".to_owned()],
            fingerprint: [9; 32],
            valid_until: 9,
        };
        let expected = BootInfo {
            app_id: AppId([1; 20]),
            compose_hash: ComposeHash([2; 32]),
            instance_id: InstanceId([3; 20]),
            device_id: DeviceId([5; 32]),
            mr_aggregated: [6; 32],
            mr_system: [7; 32],
            os_image_hash: OsImageHash([4; 32]),
            tcb_status: "UpToDate".to_owned(),
            advisory_ids: vec!["INTEL-SA-00001".to_owned()],
        };
        assert_eq!(BootInfo::from(&appraisal), expected);
        appraisal.identity.os_image_hash = None;
        assert_eq!(BootInfo::from(&appraisal).os_image_hash, OsImageHash([0; 32]));
    }
}
