//! `registrar kms`.

use serde_json::json;

use super::{governance, list};
use crate::chain::{Chain, call_failed};
use crate::cli::{KmsCommand, WordsCommand};
use crate::failure::Failure;
use crate::lists::{KMS_MANAGEMENT, List, changes};
use crate::report::{Report, printable};

pub(crate) async fn run(chain: &Chain, command: &KmsCommand) -> Result<Report, Failure> {
    let contract = chain.kms().await?;
    let kms = *contract.address();
    match command {
        KmsCommand::Show => show(chain).await,
        KmsCommand::Transfer { to } => governance::transfer(chain, kms, *to).await,
        KmsCommand::Accept => governance::accept(chain, kms).await,
        KmsCommand::Pause => governance::pause(chain, kms, true).await,
        KmsCommand::Unpause => governance::pause(chain, kms, false).await,
        KmsCommand::Measurement(command) => {
            servers(chain, &List::KmsMeasurements(contract), "kms_measurements", command).await
        }
        KmsCommand::Device(command) => servers(chain, &List::KmsDevices(contract), "kms_devices", command).await,
    }
}

/// Changes or tells one of the lists of who may be a key management server.
async fn servers(chain: &Chain, values: &List, name: &'static str, command: &WordsCommand) -> Result<Report, Failure> {
    match command {
        WordsCommand::Add { values: wish } => {
            Ok(changes("allowed", "is allowed", &values.change(chain, wish, true).await?))
        }
        WordsCommand::Remove { values: wish } => {
            Ok(changes("removed", "is not allowed", &values.change(chain, wish, false).await?))
        }
        WordsCommand::List => Ok(list(name, json!({"kms": values.contract()}), &values.members(chain).await?)),
    }
}

async fn show(chain: &Chain) -> Result<Report, Failure> {
    let kms = chain.kms().await?;
    let address = *kms.address();
    let asked = |error| call_failed("looking at the KMS contract", error);
    let owner = chain.owner(address).await?;
    let implementation = kms.appImplementation().call().await.map_err(asked)?;
    let gateway = printable(&kms.gatewayAppId().call().await.map_err(asked)?);
    let pending = governance::pending(chain, address).await?;
    let paused = governance::is_paused(chain, address).await?;
    let deregisters = chain.supports(address, KMS_MANAGEMENT).await?;
    let json = json!({
        "kms": address,
        "chain_id": chain.chain_id,
        "owner": owner,
        "pending_owner": (!pending.is_zero()).then_some(pending),
        "app_implementation": implementation,
        "gateway_app_id": gateway,
        "paused": paused,
        "can_pause": paused.is_some(),
        "can_deregister": deregisters,
    });
    let pause = paused.map_or_else(|| "cannot be".to_owned(), |paused| paused.to_string());
    let report = Report::new(json)
        .field("kms", format_args!("{address:#x}"))
        .field("chain_id", chain.chain_id)
        .field("owner", format_args!("{owner:#x}"));
    Ok(governance::tell_pending(report, pending)
        .field("app_implementation", format_args!("{implementation:#x}"))
        .field("gateway app", if gateway.is_empty() { "none" } else { &gateway })
        .field("paused", pause)
        .field("can deregister apps", deregisters))
}
