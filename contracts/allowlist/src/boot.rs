//! The question that is put to the chain.

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
