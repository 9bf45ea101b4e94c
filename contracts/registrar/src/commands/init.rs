//! `registrar init`.

use alloy::primitives::{Address, Bytes};
use alloy::sol_types::{SolCall as _, SolConstructor as _};
use postern_watch::abi::app::AppAuth;
use postern_watch::abi::kms::KmsAuth;
use postern_watch::abi::proxy::ERC1967Proxy;
use serde_json::json;

use super::owner_or_signer;
use crate::chain::{Chain, call_failed};
use crate::failure::Failure;
use crate::report::Report;

/// Deploys both contracts, and sees that the deployment is what it should be.
pub(crate) async fn run(chain: &Chain, owner: Option<Address>) -> Result<Report, Failure> {
    let owner = owner_or_signer(chain, owner)?;
    let (app_code, first) = chain.deploy("deploying AppAuth", AppAuth::BYTECODE.clone()).await?;
    let (kms_code, _) = chain.deploy("deploying KmsAuth", KmsAuth::BYTECODE.clone()).await?;
    let initialize = KmsAuth::initializeCall { initialOwner: owner, implementation: app_code };
    let arguments = ERC1967Proxy::constructorCall { implementation: kms_code, _data: initialize.abi_encode().into() };
    let proxy = Bytes::from([ERC1967Proxy::BYTECODE.as_ref(), &arguments.abi_encode()].concat());
    let (kms, done) = chain.deploy("deploying the proxy", proxy).await?;
    let done = match (first, done) {
        (Some(first), Some(done)) => {
            confirm(chain, kms, owner, app_code).await?;
            Some((first.block, done))
        }
        _ => None,
    };
    let json = json!({
        "kms": kms,
        "kms_implementation": kms_code,
        "app_implementation": app_code,
        "owner": owner,
        "chain_id": chain.chain_id,
        "from_block": done.as_ref().map(|(block, _)| block),
    });
    let report = Report::new(json)
        .field("kms", format_args!("{kms:#x}"))
        .field("owner", format_args!("{owner:#x}"))
        .field("chain_id", chain.chain_id)
        .field("kms_implementation", format_args!("{kms_code:#x}"))
        .field("app_implementation", format_args!("{app_code:#x}"));
    Ok(match done {
        Some((block, done)) => done.tell(report.field("from_block", block)),
        None => report,
    })
}

async fn confirm(chain: &Chain, kms: Address, owner: Address, app_code: Address) -> Result<(), Failure> {
    let kms = KmsAuth::new(kms, chain.provider.clone());
    let what = "looking at the deployment";
    let found_owner = kms.owner().call().await.map_err(|error| call_failed(what, error))?;
    let found_code = kms.appImplementation().call().await.map_err(|error| call_failed(what, error))?;
    if (found_owner, found_code) == (owner, app_code) {
        Ok(())
    } else {
        Err(Failure::Unexpected("the contracts were deployed, but are not set up as they should be".to_owned()))
    }
}
