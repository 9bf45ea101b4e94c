//! `registrar device`.

use alloy::primitives::B256;
use alloy::providers::DynProvider;
use postern_identity::AppId;
use postern_watch::abi::app::AppAuth::{
    AppAuthInstance, DeviceAdded, DeviceRemoved, addDeviceCall, removeDeviceCall, setAllowAnyDeviceCall,
};
use serde_json::json;

use super::{Change, address, changes, list};
use crate::chain::{Chain, call_failed};
use crate::cli::{DeviceCommand, Devices};
use crate::failure::Failure;
use crate::logs::{Member, word};
use crate::report::Report;

pub(crate) async fn run(chain: &Chain, command: &DeviceCommand) -> Result<Report, Failure> {
    match command {
        DeviceCommand::Add(wish) => change(chain, wish, true).await,
        DeviceCommand::Remove(wish) => change(chain, wish, false).await,
        DeviceCommand::List { app } => {
            let contract = chain.app(address(app)).await?;
            let any = allows_any(&contract).await?;
            let report = list(
                "devices",
                json!({"app_id": address(app), "allow_any_device": any}),
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

async fn change(chain: &Chain, wish: &Devices, allow: bool) -> Result<Report, Failure> {
    let contract = chain.app(address(&wish.app)).await?;
    let to = *contract.address();
    let mut made = Vec::new();
    for device in wish.devices.iter().map(|device| B256::from(device.0)) {
        let done = if is_allowed(&contract, device).await? == allow {
            None
        } else if allow {
            Some(chain.call("adding the device", to, addDeviceCall { deviceId: device }).await?)
        } else {
            Some(chain.call("removing the device", to, removeDeviceCall { deviceId: device }).await?)
        };
        made.push(Change { value: device.to_string(), done });
    }
    Ok(if allow { changes("allowed", "is allowed", &made) } else { changes("removed", "is not listed", &made) })
}

async fn allow_any(chain: &Chain, app: &AppId, allow: bool) -> Result<Report, Failure> {
    let contract = chain.app(address(app)).await?;
    let to = *contract.address();
    let done = if allows_any(&contract).await? == allow {
        None
    } else {
        Some(chain.call("setting the rule for devices", to, setAllowAnyDeviceCall { anyDevice: allow }).await?)
    };
    let value = if allow { "every device" } else { "only listed devices" };
    Ok(changes("allowed", "is allowed", &[Change { value: value.to_owned(), done }]))
}

async fn is_allowed(app: &AppAuthInstance<DynProvider>, device: B256) -> Result<bool, Failure> {
    let answer = app.allowedDeviceIds(device).call().await;
    answer.map_err(|error| call_failed("asking about the device", error))
}

async fn allows_any(app: &AppAuthInstance<DynProvider>) -> Result<bool, Failure> {
    let answer = app.allowAnyDevice().call().await;
    answer.map_err(|error| call_failed("asking about the rule for devices", error))
}
