//! `registrar pins`.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256};
use postern_identity::AppId;
use serde_json::json;

use super::address;
use crate::chain::{Chain, call_failed};
use crate::failure::Failure;
use crate::report::Report;

/// Tells the code of the KMS contract, of new apps, and of these ones, in the form in which gateways and sidecars pin it.
pub(crate) async fn run(chain: &Chain, apps: &[AppId]) -> Result<Report, Failure> {
    let kms = chain.kms().await?;
    let new = kms.appImplementation().call().await;
    let new = new.map_err(|error| call_failed("asking for the code of new apps", error))?;
    let mut proxies = BTreeSet::from([chain.code_hash(*kms.address()).await?]);
    let registry = pin(chain, behind(chain, *kms.address()).await?).await?;
    let mut pinned = BTreeSet::new();
    if !new.is_zero() {
        pinned.insert(pin(chain, new).await?);
    }
    for app in apps {
        proxies.insert(chain.code_hash(address(app)).await?);
        pinned.insert(pin(chain, behind(chain, address(app)).await?).await?);
    }
    let proxies: Vec<String> = proxies.iter().map(B256::to_string).collect();
    let pinned: Vec<String> = pinned.into_iter().collect();
    let json = json!({ "pinned_proxies": proxies, "pinned_kms": [registry], "pinned_apps": pinned });
    let line = |key: &str, values: &[String]| {
        let values: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
        format!("{key} = [{}]", values.join(", "))
    };
    Ok(Report::new(json)
        .line(line("pinned_proxies", &proxies))
        .line(line("pinned_kms", &[registry]))
        .line(line("pinned_apps", &pinned)))
}

/// The code behind a proxy.
async fn behind(chain: &Chain, proxy: Address) -> Result<Address, Failure> {
    let code = chain.implementation(proxy).await?;
    if code.is_zero() {
        return Err(Failure::Unsupported(format!(
            "the contract at {proxy:#x} is no proxy, so that its code cannot be pinned"
        )));
    }
    Ok(code)
}

async fn pin(chain: &Chain, implementation: Address) -> Result<String, Failure> {
    Ok(format!("{implementation:#x}:{}", chain.code_hash(implementation).await?))
}
