//! `registrar check`.

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256};
use postern_identity::AppId;
use postern_watch::abi::kms::IAppAuth::AppBootInfo;
use serde_json::json;

use super::address;
use crate::chain::{Chain, call_failed};
use crate::cli::{CheckArguments, Compose, GuestArguments};
use crate::failure::Failure;
use crate::report::{Report, printable};

/// What the KMS contract says about a CVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    /// Why not; empty when allowed.
    pub(crate) reason: String,
}

impl Verdict {
    pub(crate) fn in_words(&self) -> String {
        if self.allowed { "allowed".to_owned() } else { format!("refused: {}", self.reason) }
    }
}

pub(crate) async fn run(chain: &Chain, arguments: &CheckArguments) -> Result<Report, Failure> {
    let boot = boot_info(&arguments.app, &arguments.compose, &arguments.guest)?;
    let (app, compose) = (boot.appId, boot.composeHash);
    let verdict = ask(chain, boot, BlockId::latest()).await?;
    let json = json!({"app_id": app, "compose_hash": compose, "allowed": verdict.allowed, "reason": verdict.reason});
    Ok(Report::new(json).line(verdict.in_words()).refusal(!verdict.allowed))
}

pub(crate) fn boot_info(app: &AppId, compose: &Compose, guest: &GuestArguments) -> Result<AppBootInfo, Failure> {
    Ok(AppBootInfo {
        appId: address(app),
        composeHash: B256::from(compose.hash()?.0),
        instanceId: guest.instance.map(|instance| Address::from(instance.0)).unwrap_or_default(),
        deviceId: guest.device.map(|device| B256::from(device.0)).unwrap_or_default(),
        osImageHash: guest.os_image.map(|image| B256::from(image.0)).unwrap_or_default(),
        tcbStatus: guest.tcb_status.clone(),
        mrAggregated: B256::ZERO,
        mrSystem: B256::ZERO,
        advisoryIds: Vec::new(),
    })
}

/// Asks the KMS contract, as gateways do.
pub(crate) async fn ask(chain: &Chain, boot: AppBootInfo, block: BlockId) -> Result<Verdict, Failure> {
    let answer = chain.kms().await?.isAppAllowed(boot).block(block).call().await;
    match answer.map_err(|error| call_failed("asking", error)) {
        Ok(answer) => Ok(Verdict { allowed: answer.isAllowed, reason: printable(&answer.reason) }),
        // Gateways read a revert as a refusal.
        Err(Failure::Reverted { reason, .. }) => {
            Ok(Verdict { allowed: false, reason: format!("the app's contract reverted: {reason}") })
        }
        Err(failure) => Err(failure),
    }
}
