//! What an auditor wants to find in the log: who was let in, who was refused, who was thrown out, and by which block.

use std::time::Duration;

use postern_allowlist::{Admission, Block, BootInfo, NotAdmitted};
use postern_gateway_core::registration::Assignment;
use postern_wireguard::PublicKey;

/// The target of these lines, so that they can be kept longer than others.
const AUDIT: &str = "audit";

/// An instance was registered.
pub fn admitted(boot: &BootInfo, admission: &Admission, assignment: &Assignment, key: &PublicKey) {
    tracing::info!(
        target: AUDIT,
        instance = %boot.instance_id,
        app = %boot.app_id,
        compose_hash = %boot.compose_hash,
        device = %boot.device_id,
        block = admission.block.number,
        address = %assignment.address,
        slot = assignment.slot.number(),
        %key,
        "instance admitted"
    );
}

/// An instance was refused at its registration.
pub fn refused(boot: &BootInfo, not_admitted: &NotAdmitted) {
    tracing::info!(
        target: AUDIT,
        instance = %boot.instance_id,
        app = %boot.app_id,
        compose_hash = %boot.compose_hash,
        device = %boot.device_id,
        reason = not_admitted.label(),
        "instance refused: {not_admitted}"
    );
}

/// A registered instance is not allowed any more.
pub fn revoked(
    boot: &BootInfo,
    block: Option<&Block>,
    not_admitted: &NotAdmitted,
    cut: usize,
    after: Option<Duration>,
) {
    tracing::warn!(
        target: AUDIT,
        instance = %boot.instance_id,
        app = %boot.app_id,
        compose_hash = %boot.compose_hash,
        block = block.map(|block| block.number),
        reason = not_admitted.label(),
        sessions_cut = cut,
        milliseconds = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        "instance revoked: {not_admitted}"
    );
}

/// The evidence of a registered instance is not believed any more.
pub fn disbelieved(boot: &BootInfo, reason: &'static str, cut: usize) {
    tracing::warn!(
        target: AUDIT,
        instance = %boot.instance_id,
        app = %boot.app_id,
        compose_hash = %boot.compose_hash,
        reason,
        sessions_cut = cut,
        "the evidence of an instance is not believed any more"
    );
}

/// A revoked instance is allowed again.
pub fn restored(boot: &BootInfo, block: &Block) {
    tracing::info!(
        target: AUDIT,
        instance = %boot.instance_id,
        app = %boot.app_id,
        compose_hash = %boot.compose_hash,
        block = block.number,
        "instance admitted again"
    );
}

/// A registered instance was dropped because its time or its evidence is over.
pub fn expired(boot: &BootInfo) {
    tracing::info!(target: AUDIT, instance = %boot.instance_id, app = %boot.app_id, "registration expired");
}
