//! `registrar compose-hash`.

use alloy::primitives::B256;
use alloy::providers::DynProvider;
use postern_watch::abi::app::AppAuth::{
    AppAuthInstance, ComposeHashAdded, ComposeHashRemoved, addComposeHashCall, removeComposeHashCall,
};
use serde_json::json;

use super::{Change, address, changes, list};
use crate::chain::{Chain, call_failed};
use crate::cli::{Compose, ComposeHashCommand, ComposeHashes};
use crate::failure::Failure;
use crate::logs::{Member, word};
use crate::report::Report;

pub(crate) async fn run(chain: &Chain, command: &ComposeHashCommand) -> Result<Report, Failure> {
    match command {
        ComposeHashCommand::Add(wish) => change(chain, wish, true).await,
        ComposeHashCommand::Remove(wish) => change(chain, wish, false).await,
        ComposeHashCommand::List { app } => {
            let contract = chain.app(address(app)).await?;
            let members = allowed(chain, &contract).await?;
            Ok(list("compose_hashes", json!({"app_id": address(app)}), &members))
        }
    }
}

/// The compose hashes that an app allows: those that its logs tell of, each confirmed by a call.
pub(crate) async fn allowed(chain: &Chain, app: &AppAuthInstance<DynProvider>) -> Result<Vec<Member>, Failure> {
    let mut confirmed = Vec::new();
    for member in chain.members::<ComposeHashAdded, ComposeHashRemoved>(*app.address(), word).await? {
        if is_allowed(app, member.value).await? {
            confirmed.push(member);
        }
    }
    Ok(confirmed)
}

async fn change(chain: &Chain, wish: &ComposeHashes, allow: bool) -> Result<Report, Failure> {
    // All files are read before anything is sent.
    let hashes = wish.compose.iter().map(Compose::hash).collect::<Result<Vec<_>, _>>()?;
    let contract = chain.app(address(&wish.app)).await?;
    let to = *contract.address();
    let mut made = Vec::new();
    for hash in hashes.into_iter().map(|hash| B256::from(hash.0)) {
        let done = if is_allowed(&contract, hash).await? == allow {
            None
        } else if allow {
            Some(chain.call("adding the compose hash", to, addComposeHashCall { composeHash: hash }).await?)
        } else {
            Some(chain.call("removing the compose hash", to, removeComposeHashCall { composeHash: hash }).await?)
        };
        made.push(Change { value: hash.to_string(), done });
    }
    Ok(if allow { changes("allowed", "is allowed", &made) } else { changes("removed", "is not allowed", &made) })
}

async fn is_allowed(app: &AppAuthInstance<DynProvider>, hash: B256) -> Result<bool, Failure> {
    let answer = app.allowedComposeHashes(hash).call().await;
    answer.map_err(|error| call_failed("asking about the compose hash", error))
}
