//! Changing the lists of what is allowed, many values in one transaction where the contract can.

use alloy::primitives::{Address, B256};
use alloy::providers::DynProvider;
use alloy::sol_types::SolCall as _;
use postern_watch::abi::app::AppAuth::{self, AppAuthInstance};
use postern_watch::abi::kms::KmsAuth::{self, KmsAuthInstance};
use serde_json::json;

use crate::chain::{Chain, call_failed};
use crate::failure::Failure;
use crate::logs::{Member, word};
use crate::report::Report;
use crate::timelock::span;
use crate::transact::{Done, Outcome};

/// The ERC-165 ids that say that a contract has batches: of IAppAuthBatches, IKmsAuthManagement and IKmsAuthBatches.
const APP_BATCHES: [u8; 4] = [0x49, 0xc2, 0xe7, 0xef];
pub(crate) const KMS_MANAGEMENT: [u8; 4] = [0xe0, 0xb5, 0x1f, 0xf9];
const KMS_BATCHES: [u8; 4] = [0xfc, 0x18, 0x61, 0xa2];

/// The most values in one transaction, which keeps it far below any block's gas limit.
const BATCH: usize = 100;

/// A list on chain.
pub(crate) enum List {
    ComposeHashes(AppAuthInstance<DynProvider>),
    Devices(AppAuthInstance<DynProvider>),
    OsImages(KmsAuthInstance<DynProvider>),
    KmsMeasurements(KmsAuthInstance<DynProvider>),
    KmsDevices(KmsAuthInstance<DynProvider>),
}

/// One change of what is allowed: the value, and what was done if anything had to be.
pub(crate) struct Change {
    pub(crate) value: String,
    pub(crate) outcome: Option<Outcome>,
}

impl List {
    pub(crate) fn contract(&self) -> Address {
        match self {
            Self::ComposeHashes(app) | Self::Devices(app) => *app.address(),
            Self::OsImages(kms) | Self::KmsMeasurements(kms) | Self::KmsDevices(kms) => *kms.address(),
        }
    }

    /// Whether a value is on the list.
    pub(crate) async fn holds(&self, value: B256) -> Result<bool, Failure> {
        let answer = match self {
            Self::ComposeHashes(app) => app.allowedComposeHashes(value).call().await,
            Self::Devices(app) => app.allowedDeviceIds(value).call().await,
            Self::OsImages(kms) => kms.allowedOsImages(value).call().await,
            Self::KmsMeasurements(kms) => kms.kmsAllowedAggregatedMrs(value).call().await,
            Self::KmsDevices(kms) => kms.kmsAllowedDeviceIds(value).call().await,
        };
        answer.map_err(|error| call_failed("asking about the list", error))
    }

    /// All that is on the list: what the logs tell of, each confirmed by a call.
    pub(crate) async fn members(&self, chain: &Chain) -> Result<Vec<Member>, Failure> {
        let contract = self.contract();
        let told = match self {
            Self::ComposeHashes(_) => {
                chain.members::<AppAuth::ComposeHashAdded, AppAuth::ComposeHashRemoved>(contract, word).await?
            }
            Self::Devices(_) => chain.members::<AppAuth::DeviceAdded, AppAuth::DeviceRemoved>(contract, word).await?,
            Self::OsImages(_) => {
                chain.members::<KmsAuth::OsImageHashAdded, KmsAuth::OsImageHashRemoved>(contract, word).await?
            }
            Self::KmsMeasurements(_) => {
                chain.members::<KmsAuth::KmsAggregatedMrAdded, KmsAuth::KmsAggregatedMrRemoved>(contract, word).await?
            }
            Self::KmsDevices(_) => {
                chain.members::<KmsAuth::KmsDeviceAdded, KmsAuth::KmsDeviceRemoved>(contract, word).await?
            }
        };
        let mut confirmed = Vec::new();
        for member in told {
            if self.holds(member.value).await? {
                confirmed.push(member);
            }
        }
        Ok(confirmed)
    }

    /// Puts values on the list or takes them off, as far as that is not so already.
    pub(crate) async fn change(&self, chain: &Chain, values: &[B256], allow: bool) -> Result<Vec<Change>, Failure> {
        let mut wanted = Vec::new();
        for value in values {
            if self.holds(*value).await? != allow && !wanted.contains(value) {
                wanted.push(*value);
            }
        }
        let batches = match self {
            Self::ComposeHashes(_) | Self::Devices(_) => APP_BATCHES,
            Self::OsImages(_) => KMS_MANAGEMENT,
            Self::KmsMeasurements(_) | Self::KmsDevices(_) => KMS_BATCHES,
        };
        let size = if wanted.len() > 1 && chain.supports(self.contract(), batches).await? { BATCH } else { 1 };
        let mut made: Vec<Change> = Vec::new();
        for batch in wanted.chunks(size) {
            let (what, call) = self.call(batch, allow);
            let outcome = chain.govern_by(what, self.contract(), call.into()).await?;
            made.extend(batch.iter().map(|value| Change { value: value.to_string(), outcome: Some(outcome.clone()) }));
        }
        let unchanged = values.iter().filter(|value| !wanted.contains(value));
        made.extend(unchanged.map(|value| Change { value: value.to_string(), outcome: None }));
        let place = |change: &Change| values.iter().position(|value| value.to_string() == change.value);
        made.sort_by_key(place);
        Ok(made)
    }

    /// The call that puts values on the list or takes them off, and what it does.
    fn call(&self, values: &[B256], allow: bool) -> (&'static str, Vec<u8>) {
        match self {
            Self::ComposeHashes(_) => call_for_compose_hashes(values, allow),
            Self::Devices(_) => call_for_devices(values, allow),
            Self::OsImages(_) => call_for_images(values, allow),
            Self::KmsMeasurements(_) => call_for_kms_measurements(values, allow),
            Self::KmsDevices(_) => call_for_kms_devices(values, allow),
        }
    }
}

fn call_for_compose_hashes(values: &[B256], allow: bool) -> (&'static str, Vec<u8>) {
    use AppAuth::{addComposeHashCall, addComposeHashesCall, removeComposeHashCall, removeComposeHashesCall};
    let what = if allow { "adding the compose hash" } else { "removing the compose hash" };
    let call = match (values, allow) {
        (&[value], true) => addComposeHashCall { composeHash: value }.abi_encode(),
        (&[value], false) => removeComposeHashCall { composeHash: value }.abi_encode(),
        (all, true) => addComposeHashesCall { composeHashes: all.to_vec() }.abi_encode(),
        (all, false) => removeComposeHashesCall { composeHashes: all.to_vec() }.abi_encode(),
    };
    (what, call)
}

fn call_for_devices(values: &[B256], allow: bool) -> (&'static str, Vec<u8>) {
    use AppAuth::{addDeviceCall, addDevicesCall, removeDeviceCall, removeDevicesCall};
    let what = if allow { "adding the device" } else { "removing the device" };
    let call = match (values, allow) {
        (&[value], true) => addDeviceCall { deviceId: value }.abi_encode(),
        (&[value], false) => removeDeviceCall { deviceId: value }.abi_encode(),
        (all, true) => addDevicesCall { deviceIds: all.to_vec() }.abi_encode(),
        (all, false) => removeDevicesCall { deviceIds: all.to_vec() }.abi_encode(),
    };
    (what, call)
}

fn call_for_images(values: &[B256], allow: bool) -> (&'static str, Vec<u8>) {
    use KmsAuth::{addOsImageHashCall, addOsImageHashesCall, removeOsImageHashCall, removeOsImageHashesCall};
    let what = if allow { "adding the OS image" } else { "removing the OS image" };
    let call = match (values, allow) {
        (&[value], true) => addOsImageHashCall { osImageHash: value }.abi_encode(),
        (&[value], false) => removeOsImageHashCall { osImageHash: value }.abi_encode(),
        (all, true) => addOsImageHashesCall { osImageHashes: all.to_vec() }.abi_encode(),
        (all, false) => removeOsImageHashesCall { osImageHashes: all.to_vec() }.abi_encode(),
    };
    (what, call)
}

fn call_for_kms_measurements(values: &[B256], allow: bool) -> (&'static str, Vec<u8>) {
    use KmsAuth::{
        addKmsAggregatedMrCall, addKmsAggregatedMrsCall, removeKmsAggregatedMrCall, removeKmsAggregatedMrsCall,
    };
    let what = if allow { "adding the key server's measurement" } else { "removing the key server's measurement" };
    let call = match (values, allow) {
        (&[value], true) => addKmsAggregatedMrCall { mrAggregated: value }.abi_encode(),
        (&[value], false) => removeKmsAggregatedMrCall { mrAggregated: value }.abi_encode(),
        (all, true) => addKmsAggregatedMrsCall { mrAggregateds: all.to_vec() }.abi_encode(),
        (all, false) => removeKmsAggregatedMrsCall { mrAggregateds: all.to_vec() }.abi_encode(),
    };
    (what, call)
}

fn call_for_kms_devices(values: &[B256], allow: bool) -> (&'static str, Vec<u8>) {
    use KmsAuth::{addKmsDeviceCall, addKmsDevicesCall, removeKmsDeviceCall, removeKmsDevicesCall};
    let what = if allow { "adding the key server's device" } else { "removing the key server's device" };
    let call = match (values, allow) {
        (&[value], true) => addKmsDeviceCall { deviceId: value }.abi_encode(),
        (&[value], false) => removeKmsDeviceCall { deviceId: value }.abi_encode(),
        (all, true) => addKmsDevicesCall { deviceIds: all.to_vec() }.abi_encode(),
        (all, false) => removeKmsDevicesCall { deviceIds: all.to_vec() }.abi_encode(),
    };
    (what, call)
}

/// Tells what was changed and in which block, one line for each value.
pub(crate) fn changes(made: &str, already: &str, changes: &[Change]) -> Report {
    let line = |change: &Change| match &change.outcome {
        Some(Outcome::Done(done)) => {
            Some(format!("{} {made} in block {} {}", change.value, done.block, done.block_hash))
        }
        Some(Outcome::Proposed { id, ready_at, done }) => {
            let wait = span(ready_at.saturating_sub(done.timestamp));
            Some(format!("{} proposed as {id}; can be executed in {wait} (Unix time {ready_at})", change.value))
        }
        Some(Outcome::Planned) => None,
        None => Some(format!("{} {already}: nothing to do", change.value)),
    };
    let entry = |change: &Change| {
        let (done, proposal) = match &change.outcome {
            Some(Outcome::Done(done)) => (Some(done), None),
            Some(Outcome::Proposed { id, ready_at, done }) => (Some(done), Some((id, ready_at))),
            Some(Outcome::Planned) | None => (None, None),
        };
        json!({
            "value": change.value,
            "changed": done.is_some() && proposal.is_none(),
            "proposal": proposal.map(|(id, _)| id),
            "ready_at": proposal.map(|(_, ready_at)| ready_at),
            "transaction": done.map(|done| Done::transaction(done)),
            "block": done.map(|done| done.block),
            "block_hash": done.map(|done| done.block_hash),
            "block_timestamp": done.map(|done| done.timestamp),
        })
    };
    Report::new(json!({"changes": changes.iter().map(entry).collect::<Vec<_>>()}))
        .lines(changes.iter().filter_map(line))
}
