//! `registrar device`.

use alloy::primitives::B256;
use alloy::providers::DynProvider;
use postern_identity::{AppId, DeviceId};
use postern_watch::abi::app::AppAuth::{
    AppAuthInstance, DeviceAdded, DeviceRemoved, addDeviceCall, removeDeviceCall, setAllowAnyDeviceCall,
};
use serde_json::json;

use super::{address, changed, list};
use crate::chain::{Chain, call_failed};
use crate::cli::DeviceCommand;
use crate::failure::Failure;
use crate::logs::{Member, word};
use crate::report::Report;

pub(crate) async fn run(chain: &Chain, command: &DeviceCommand) -> Result<Report, Failure> {
    match command {
        DeviceCommand::Add { app, device } => change(chain, app, device, true).await,
        DeviceCommand::Remove { app, device } => change(chain, app, device, false).await,
        DeviceCommand::List { app } => {
            let contract = chain.app(address(app)).await?;
            let any = allows_any(&contract).await?;
            let report = list(
                "devices",
                json!({"app": address(app), "allow_any_device": any}),
                &allowed(chain, &contract).await?,
            );
            Ok(if any { report.line("every device is allowed, whatever is listed") } else { report })
        }
        DeviceCommand::AllowAny { app, allow } => allow_any(chain, app, *allow).await,
    }
}

/// The devices that an app allows by name: those that its logs tell of, each confirmed by a call.
pub(crate) async fn allowed(chain: &Chain, app: &AppAuthInstance<DynProvider>) -> Result<Vec<Member>, Failure> {
    let mut confirmed = Vec::new();
    for member in chain.members::<DeviceAdded, DeviceRemoved>(*app.address(), word).await? {
        if is_allowed(app, member.value).await? {
            confirmed.push(member);
        }
    }
    Ok(confirmed)
}

async fn change(chain: &Chain, app: &AppId, device: &DeviceId, allow: bool) -> Result<Report, Failure> {
    let device = B256::from(device.0);
    let contract = chain.app(address(app)).await?;
    let to = *contract.address();
    let done = if is_allowed(&contract, device).await? == allow {
        None
    } else if allow {
        Some(chain.call("adding the device", to, addDeviceCall { deviceId: device }).await?)
    } else {
        Some(chain.call("removing the device", to, removeDeviceCall { deviceId: device }).await?)
    };
    let what = format!("{to:#x} {} device {device}", if allow { "allows" } else { "does not list" });
    Ok(changed(json!({"app": to, "device": device, "allowed": allow}), what, done.as_ref()))
}

async fn allow_any(chain: &Chain, app: &AppId, allow: bool) -> Result<Report, Failure> {
    let contract = chain.app(address(app)).await?;
    let to = *contract.address();
    let done = if allows_any(&contract).await? == allow {
        None
    } else {
        Some(chain.call("setting the rule for devices", to, setAllowAnyDeviceCall { anyDevice: allow }).await?)
    };
    let what = format!("{to:#x} allows {}", if allow { "every device" } else { "only devices that were added" });
    Ok(changed(json!({"app": to, "allow_any_device": allow}), what, done.as_ref()))
}

async fn is_allowed(app: &AppAuthInstance<DynProvider>, device: B256) -> Result<bool, Failure> {
    let answer = app.allowedDeviceIds(device).call().await;
    answer.map_err(|error| call_failed("asking about the device", error))
}

async fn allows_any(app: &AppAuthInstance<DynProvider>) -> Result<bool, Failure> {
    let answer = app.allowAnyDevice().call().await;
    answer.map_err(|error| call_failed("asking about the rule for devices", error))
}
