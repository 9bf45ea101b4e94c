//! `registrar compose-hash`.

use alloy::primitives::B256;
use serde_json::json;

use super::{address, list};
use crate::chain::Chain;
use crate::cli::{Compose, ComposeHashCommand, ComposeHashes};
use crate::failure::Failure;
use crate::lists::{List, changes};
use crate::report::Report;

pub(crate) async fn run(chain: &Chain, command: &ComposeHashCommand) -> Result<Report, Failure> {
    match command {
        ComposeHashCommand::Add(wish) => change(chain, wish, true).await,
        ComposeHashCommand::Remove(wish) => change(chain, wish, false).await,
        ComposeHashCommand::List { app } => {
            let members = List::ComposeHashes(chain.app(address(app)).await?).members(chain).await?;
            Ok(list("compose_hashes", json!({"app_id": address(app)}), &members))
        }
        ComposeHashCommand::Diff(wish) => diff(chain, wish).await,
    }
}

/// All files are read before anything is sent.
fn hashes(wish: &ComposeHashes) -> Result<Vec<B256>, Failure> {
    wish.compose.iter().map(|compose| Ok(B256::from(compose.hash()?.0))).collect()
}

async fn change(chain: &Chain, wish: &ComposeHashes, allow: bool) -> Result<Report, Failure> {
    let hashes = hashes(wish)?;
    let list = List::ComposeHashes(chain.app(address(&wish.app)).await?);
    let made = list.change(chain, &hashes, allow).await?;
    Ok(if allow { changes("allowed", "is allowed", &made) } else { changes("removed", "is not allowed", &made) })
}

async fn diff(chain: &Chain, wish: &ComposeHashes) -> Result<Report, Failure> {
    let hashes = hashes(wish)?;
    let on_chain = List::ComposeHashes(chain.app(address(&wish.app)).await?).members(chain).await?;
    let missing: Vec<usize> =
        (0..hashes.len()).filter(|at| !on_chain.iter().any(|member| hashes.get(*at) == Some(&member.value))).collect();
    let extra: Vec<B256> = on_chain.iter().map(|member| member.value).filter(|value| !hashes.contains(value)).collect();
    let named = |at: &usize| match (wish.compose.get(*at), hashes.get(*at)) {
        (Some(Compose::File(path)), Some(hash)) => format!("+ {hash}  {}", path.display()),
        (_, hash) => format!("+ {}", hash.copied().unwrap_or_default()),
    };
    let to_add: Vec<_> = missing.iter().filter_map(|at| hashes.get(*at)).collect();
    let report = Report::new(json!({"app_id": address(&wish.app), "to_add": to_add, "to_remove": extra}));
    if missing.is_empty() && extra.is_empty() {
        return Ok(report.line("no difference"));
    }
    Ok(report.lines(missing.iter().map(named)).lines(extra.iter().map(|hash| format!("- {hash}"))).refusal(true))
}
