//! `registrar app`.

use alloy::primitives::{Address, B256};
use alloy::providers::DynProvider;
use alloy::sol_types::SolEvent as _;
use postern_identity::AppId;
use postern_watch::abi::app::AppAuth::setRequireTcbUpToDateCall;
use postern_watch::abi::kms::KmsAuth::{
    AppDeployedViaFactory, AppDeregistered, AppRegistered, KmsAuthInstance, deployAndRegisterApp_1Call,
    deregisterAppCall, registerAppCall,
};
use serde_json::json;

use super::{address, governance, owner_or_signer};
use crate::chain::{Chain, call_failed, if_known};
use crate::cli::{AppCommand, Compose, CreateArguments};
use crate::failure::Failure;
use crate::lists::{Change, KMS_MANAGEMENT, List, changes};
use crate::logs::{Member, word};
use crate::report::Report;

pub(crate) async fn run(chain: &Chain, command: &AppCommand) -> Result<Report, Failure> {
    match command {
        AppCommand::Create(arguments) => create(chain, arguments).await,
        AppCommand::List => list(chain).await,
        AppCommand::Show { app } => show(chain, address(app)).await,
        AppCommand::Transfer { app, to } => governance::transfer(chain, contract(chain, app).await?, *to).await,
        AppCommand::Accept { app } => governance::accept(chain, contract(chain, app).await?).await,
        AppCommand::Pause { app } => governance::pause(chain, contract(chain, app).await?, true).await,
        AppCommand::Unpause { app } => governance::pause(chain, contract(chain, app).await?, false).await,
        AppCommand::RequireTcb { app, require } => require_tcb(chain, address(app), *require).await,
        AppCommand::Register { app } => register(chain, address(app)).await,
        AppCommand::Deregister { app } => deregister(chain, address(app)).await,
    }
}

/// The address of an app's contract, which must be there.
async fn contract(chain: &Chain, app: &AppId) -> Result<Address, Failure> {
    Ok(*chain.app(address(app)).await?.address())
}

async fn create(chain: &Chain, arguments: &CreateArguments) -> Result<Report, Failure> {
    let owner = owner_or_signer(chain, arguments.owner)?;
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
    let outcome = chain.call("creating the app", owner, *kms.address(), call).await?;
    let Some(done) = outcome.done() else { return Ok(Report::new(json!({"owner": owner}))) };
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

async fn require_tcb(chain: &Chain, address: Address, require: bool) -> Result<Report, Failure> {
    let app = chain.app(address).await?;
    let required = app.requireTcbUpToDate().call().await;
    let required = required.map_err(|error| call_failed("asking about the demand on the platform", error))?;
    let outcome = if required == require {
        None
    } else {
        let call = setRequireTcbUpToDateCall { upToDate: require };
        Some(chain.govern("setting the demand on the platform", address, call).await?)
    };
    let value = if require { "TCB status UpToDate" } else { "any TCB status" };
    let (made, already) = if require { ("required", "is required") } else { ("allowed", "is allowed") };
    Ok(changes(made, already, &[Change { value: value.to_owned(), outcome }]))
}

async fn register(chain: &Chain, app: Address) -> Result<Report, Failure> {
    let kms = chain.kms().await?;
    chain.must_be_a_contract(app).await?;
    let outcome = if is_registered(chain, app).await? {
        None
    } else {
        let owner = chain.owner(*kms.address()).await?;
        // Everybody may register an app, but only the owner one that was deregistered. Older contracts bar none.
        let barred = chain.supports(*kms.address(), KMS_MANAGEMENT).await? && is_barred(&kms, app).await?;
        let call = registerAppCall { appId: app };
        Some(if barred {
            chain.govern("registering the app", *kms.address(), call).await?
        } else {
            chain.call("registering the app", owner, *kms.address(), call).await?
        })
    };
    Ok(changes("registered", "is registered", &[Change { value: format!("{app:#x}"), outcome }]))
}

async fn deregister(chain: &Chain, app: Address) -> Result<Report, Failure> {
    let kms = chain.kms().await?;
    if !chain.supports(*kms.address(), KMS_MANAGEMENT).await? {
        let text = "this KMS contract cannot deregister apps, as dstack's cannot: remove what the app allows instead";
        return Err(Failure::Unsupported(text.to_owned()));
    }
    let outcome = if is_barred(&kms, app).await? {
        None
    } else {
        Some(chain.govern("deregistering the app", *kms.address(), deregisterAppCall { appId: app }).await?)
    };
    Ok(changes("deregistered", "is deregistered", &[Change { value: format!("{app:#x}"), outcome }]))
}

async fn is_barred(kms: &KmsAuthInstance<DynProvider>, app: Address) -> Result<bool, Failure> {
    let barred = kms.deregisteredApps(app).call().await;
    barred.map_err(|error| call_failed("asking about the app", error))
}

async fn is_registered(chain: &Chain, app: Address) -> Result<bool, Failure> {
    Ok(chain.registration(app).await?.0)
}

async fn list(chain: &Chain) -> Result<Report, Failure> {
    let kms = chain.kms().await?;
    // Only the owner's deregistration takes an app out again, and nothing does at a contract that does not know it.
    let members = chain.members::<AppRegistered, AppDeregistered>(*kms.address(), word).await?;
    let apps: Vec<_> = members.iter().map(|app| (Address::from_word(app.value), app.since_block)).collect();
    let entries = apps.iter().map(|(app, block)| json!({"app_id": app, "since_block": block}));
    let report = Report::new(json!({"apps": entries.collect::<Vec<_>>()}));
    if apps.is_empty() {
        return Ok(report.line("none"));
    }
    Ok(report.lines(apps.iter().map(|(app, block)| format!("{app:#x}  since block {block}"))))
}

async fn show(chain: &Chain, address: Address) -> Result<Report, Failure> {
    let (registered, contract) = chain.registration(address).await?;
    let app = chain.app(contract).await?;
    let asked = |error| call_failed("looking at the app", error);
    let owner = app.owner().call().await.map_err(asked)?;
    // Older contracts do not look at the device, or not at the platform.
    let any_device = if_known(app.allowAnyDevice().call().await.map_err(asked))?.unwrap_or(true);
    let require_tcb = if_known(app.requireTcbUpToDate().call().await.map_err(asked))?.unwrap_or(false);
    let pending = governance::pending(chain, contract).await?;
    let paused = governance::is_paused(chain, contract).await?.unwrap_or(false);
    let compose_hashes = List::ComposeHashes(app.clone()).members(chain).await?;
    let devices = List::Devices(app.clone()).members(chain).await?;
    let code = chain.implementation(contract).await?;
    let values = |members: &[Member]| members.iter().map(|member| member.value).collect::<Vec<_>>();
    let json = json!({
        "app_id": address,
        "registered": registered,
        "contract": contract,
        "owner": owner,
        "pending_owner": (!pending.is_zero()).then_some(pending),
        "paused": paused,
        "implementation": code,
        "allow_any_device": any_device,
        "require_tcb_up_to_date": require_tcb,
        "compose_hashes": values(&compose_hashes),
        "devices": values(&devices),
    });
    let each = |members: &[Member]| members.iter().map(|member| format!("  {}", member.value)).collect::<Vec<_>>();
    let report = Report::new(json)
        .field("app", format_args!("{address:#x}"))
        .field("registered", registered)
        .field("contract", format_args!("{contract:#x}"))
        .field("owner", format_args!("{owner:#x}"));
    Ok(governance::tell_pending(report, pending)
        .field("paused", paused)
        .field("implementation", format_args!("{code:#x}"))
        .field("every device allowed", any_device)
        .field("TCB must be UpToDate", require_tcb)
        .field("compose hashes", compose_hashes.len())
        .lines(each(&compose_hashes))
        .field("devices", devices.len())
        .lines(each(&devices)))
}
