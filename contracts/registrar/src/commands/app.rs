//! `registrar app`.

use alloy::eips::BlockId;
use alloy::primitives::{Address, B256, U256, b256};
use alloy::providers::Provider as _;
use alloy::sol_types::SolEvent as _;
use postern_identity::AppId;
use postern_watch::abi::kms::KmsAuth::{AppDeployedViaFactory, AppRegistered, deployAndRegisterApp_1Call};
use serde_json::json;

use super::{address, compose_hash, device};
use crate::chain::{Chain, call_failed, failed};
use crate::cli::{AppCommand, Compose, CreateArguments};
use crate::failure::Failure;
use crate::logs::Member;
use crate::report::Report;

/// Where a proxy keeps the address of its code (ERC-1967).
const IMPLEMENTATION_SLOT: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");

pub(crate) async fn run(chain: &Chain, command: &AppCommand) -> Result<Report, Failure> {
    match command {
        AppCommand::Create(arguments) => create(chain, arguments).await,
        AppCommand::List => list(chain).await,
        AppCommand::Show { app } => show(chain, address(app)).await,
    }
}

async fn create(chain: &Chain, arguments: &CreateArguments) -> Result<Report, Failure> {
    let owner = arguments.owner.map_or_else(|| chain.signer().map(|signer| signer.address()), Ok)?;
    let compose = arguments.compose.as_ref().map(Compose::hash).transpose()?;
    let kms = chain.kms().await?;
    let call = deployAndRegisterApp_1Call {
        initialOwner: owner,
        disableUpgrades: arguments.disable_upgrades,
        requireTcbUpToDate: arguments.require_tcb_up_to_date,
        allowAnyDevice: arguments.allow_any_device,
        initialDeviceId: arguments.device.map(|device| B256::from(device.0)).unwrap_or_default(),
        initialComposeHash: compose.map(|hash| B256::from(hash.0)).unwrap_or_default(),
    };
    let done = chain.call("creating the app", *kms.address(), call).await?;
    // Only the KMS contract's own word counts: any contract can log something of this shape.
    let mut logs = done.receipt.logs().iter().filter(|log| log.address() == *kms.address());
    let created = logs.find_map(|log| AppDeployedViaFactory::decode_log(&log.inner).ok());
    let app = created.ok_or_else(|| Failure::Unexpected("the transaction created no app".to_owned()))?.appId;
    let name = AppId(app.into_array());
    let json = json!({
        "app_id": app,
        "owner": owner,
        "compose_hash": compose.map(|hash| B256::from(hash.0)),
    });
    let report = Report::new(json)
        .field("app", format_args!("{app:#x}"))
        .field("owner", format_args!("{owner:#x}"))
        .field("host name", format_args!("{name}s.<domain>"));
    Ok(done.tell(report))
}

async fn list(chain: &Chain) -> Result<Report, Failure> {
    let kms = chain.kms().await?;
    let logs = chain.logs(*kms.address(), vec![AppRegistered::SIGNATURE_HASH]).await?;
    let mut apps: Vec<(Address, u64)> = Vec::new();
    for log in &logs {
        let Ok(registered) = AppRegistered::decode_log(&log.inner) else { continue };
        if !apps.iter().any(|(known, _)| *known == registered.appId) {
            apps.push((registered.appId, log.block_number.unwrap_or_default()));
        }
    }
    let entries = apps.iter().map(|(app, block)| json!({"app_id": app, "since_block": block}));
    let report = Report::new(json!({"apps": entries.collect::<Vec<_>>()}));
    if apps.is_empty() {
        return Ok(report.line("none"));
    }
    Ok(report.lines(apps.iter().map(|(app, block)| format!("{app:#x}  since block {block}"))))
}

async fn show(chain: &Chain, address: Address) -> Result<Report, Failure> {
    let kms = chain.kms().await?;
    let app = chain.app(address).await?;
    let asked = |error| call_failed("looking at the app", error);
    let registered = kms.registeredApps(address).call().await.map_err(asked)?;
    let owner = app.owner().call().await.map_err(asked)?;
    let any_device = app.allowAnyDevice().call().await.map_err(asked)?;
    let require_tcb = app.requireTcbUpToDate().call().await.map_err(asked)?;
    let compose_hashes = compose_hash::allowed(chain, &app).await?;
    let devices = device::allowed(chain, &app).await?;
    let slot = chain.provider.get_storage_at(address, U256::from_be_bytes(IMPLEMENTATION_SLOT.0));
    let code = slot.block_id(BlockId::latest()).await.map_err(|error| failed("looking at the app's code", error))?;
    let code = Address::from_word(B256::from(code));
    let values = |members: &[Member]| members.iter().map(|member| member.value).collect::<Vec<_>>();
    let json = json!({
        "app_id": address,
        "registered": registered,
        "owner": owner,
        "implementation": code,
        "allow_any_device": any_device,
        "require_tcb_up_to_date": require_tcb,
        "compose_hashes": values(&compose_hashes),
        "devices": values(&devices),
    });
    let each = |members: &[Member]| members.iter().map(|member| format!("  {}", member.value)).collect::<Vec<_>>();
    Ok(Report::new(json)
        .field("app", format_args!("{address:#x}"))
        .field("registered", registered)
        .field("owner", format_args!("{owner:#x}"))
        .field("implementation", format_args!("{code:#x}"))
        .field("every device allowed", any_device)
        .field("TCB must be UpToDate", require_tcb)
        .field("compose hashes", compose_hashes.len())
        .lines(each(&compose_hashes))
        .field("devices", devices.len())
        .lines(each(&devices)))
}
