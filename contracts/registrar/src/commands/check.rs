//! `registrar check`.

use alloy::primitives::{Address, B256};
use postern_watch::abi::kms::IAppAuth::AppBootInfo;
use serde_json::json;

use super::address;
use crate::chain::{Chain, call_failed};
use crate::cli::CheckArguments;
use crate::failure::Failure;
use crate::report::{Report, printable};

/// Asks the KMS contract, as gateways do.
pub(crate) async fn run(chain: &Chain, arguments: &CheckArguments) -> Result<Report, Failure> {
    let kms = chain.kms().await?;
    let (app, compose) = (address(&arguments.app), B256::from(arguments.compose.hash()?.0));
    let boot = AppBootInfo {
        appId: app,
        composeHash: compose,
        instanceId: arguments.instance.map(|instance| Address::from(instance.0)).unwrap_or_default(),
        deviceId: arguments.device.map(|device| B256::from(device.0)).unwrap_or_default(),
        osImageHash: arguments.os_image.map(|image| B256::from(image.0)).unwrap_or_default(),
        tcbStatus: arguments.tcb_status.clone(),
        mrAggregated: B256::ZERO,
        mrSystem: B256::ZERO,
        advisoryIds: Vec::new(),
    };
    let (allowed, reason) = match kms.isAppAllowed(boot).call().await.map_err(|error| call_failed("asking", error)) {
        Ok(answer) => (answer.isAllowed, answer.reason),
        // Gateways read a revert as a refusal.
        Err(Failure::Reverted { reason, .. }) => (false, format!("the app's contract reverted: {reason}")),
        Err(failure) => return Err(failure),
    };
    let reason = printable(&reason);
    let json = json!({"app_id": app, "compose_hash": compose, "allowed": allowed, "reason": reason});
    let line = if allowed { "allowed".to_owned() } else { format!("refused: {reason}") };
    Ok(Report::new(json).line(line).refusal(!allowed))
}
