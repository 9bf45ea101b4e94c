//! `registrar device`.

use alloy::primitives::B256;
use alloy::providers::DynProvider;
use postern_identity::AppId;
use postern_watch::abi::app::AppAuth::{AppAuthInstance, setAllowAnyDeviceCall};
use serde_json::json;

use super::{address, list};
use crate::chain::{Chain, call_failed};
use crate::cli::{DeviceCommand, Devices};
use crate::failure::Failure;
use crate::lists::{Change, List, changes};
use crate::report::Report;

pub(crate) async fn run(chain: &Chain, command: &DeviceCommand) -> Result<Report, Failure> {
    match command {
        DeviceCommand::Add(wish) => change(chain, wish, true).await,
        DeviceCommand::Remove(wish) => change(chain, wish, false).await,
        DeviceCommand::List { app } => {
            let contract = chain.app(address(app)).await?;
            let any = allows_any(&contract).await?;
            let members = List::Devices(contract).members(chain).await?;
            let report = list("devices", json!({"app_id": address(app), "allow_any_device": any}), &members);
            Ok(if any { report.line("every device is allowed, whatever is listed") } else { report })
        }
        DeviceCommand::AllowAny { app, allow } => allow_any(chain, app, *allow).await,
    }
}

async fn change(chain: &Chain, wish: &Devices, allow: bool) -> Result<Report, Failure> {
    let list = List::Devices(chain.app(address(&wish.app)).await?);
    let devices: Vec<_> = wish.devices.iter().map(|device| B256::from(device.0)).collect();
    let made = list.change(chain, &devices, allow).await?;
    Ok(if allow { changes("allowed", "is allowed", &made) } else { changes("removed", "is not listed", &made) })
}

async fn allow_any(chain: &Chain, app: &AppId, allow: bool) -> Result<Report, Failure> {
    let contract = chain.app(address(app)).await?;
    let to = *contract.address();
    let outcome = if allows_any(&contract).await? == allow {
        None
    } else {
        Some(chain.govern("setting the rule for devices", to, setAllowAnyDeviceCall { anyDevice: allow }).await?)
    };
    let value = if allow { "every device" } else { "only listed devices" };
    Ok(changes("allowed", "is allowed", &[Change { value: value.to_owned(), outcome }]))
}

async fn allows_any(app: &AppAuthInstance<DynProvider>) -> Result<bool, Failure> {
    let answer = app.allowAnyDevice().call().await;
    answer.map_err(|error| call_failed("asking about the rule for devices", error))
}
