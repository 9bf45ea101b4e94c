//! What both contracts can do: change hands, and pause.

use alloy::primitives::Address;
use postern_watch::abi::app::AppAuth::{self, acceptOwnershipCall, pauseCall, transferOwnershipCall, unpauseCall};
use serde_json::json;

use crate::chain::{Chain, call_failed};
use crate::failure::Failure;
use crate::lists::{Change, changes};
use crate::report::Report;

/// Offers a contract to an heir.
pub(crate) async fn transfer(chain: &Chain, contract: Address, heir: Address) -> Result<Report, Failure> {
    let pending = pending(chain, contract).await?;
    let outcome = if pending == heir {
        None
    } else {
        Some(chain.govern("offering the ownership", contract, transferOwnershipCall { newOwner: heir }).await?)
    };
    let change = Change { value: format!("{heir:#x}"), outcome };
    let report = changes("is offered the ownership", "is offered the ownership", &[change]);
    Ok(report.with("contract", json!(contract)).with("pending_owner", json!(heir)))
}

/// Accepts a contract that is offered.
pub(crate) async fn accept(chain: &Chain, contract: Address) -> Result<Report, Failure> {
    let pending = pending(chain, contract).await?;
    let heir = chain.settings.timelock.or_else(|| chain.settings.sender()).unwrap_or(pending);
    let owner = chain.owner(contract).await?;
    let outcome = if owner == heir {
        None
    } else if pending != heir {
        return Err(Failure::NotHeir { account: heir, contract, pending });
    } else if let Some(timelock) = chain.settings.timelock {
        Some(chain.accept_through(timelock, contract).await?)
    } else {
        Some(chain.call("accepting the ownership", heir, contract, acceptOwnershipCall {}).await?)
    };
    let report = changes("is the owner", "is the owner", &[Change { value: format!("{heir:#x}"), outcome }]);
    Ok(report.with("contract", json!(contract)).with("owner", json!(heir)))
}

/// Pauses a contract, or ends its pause.
pub(crate) async fn pause(chain: &Chain, contract: Address, pause: bool) -> Result<Report, Failure> {
    let Some(paused) = is_paused(chain, contract).await? else {
        return Err(Failure::Unsupported(format!("the contract at {contract:#x} knows no pause, as dstack's do not")));
    };
    let outcome = if paused == pause {
        None
    } else if pause {
        Some(chain.govern("pausing", contract, pauseCall {}).await?)
    } else {
        Some(chain.govern("ending the pause", contract, unpauseCall {}).await?)
    };
    let value = format!("{contract:#x}");
    let (made, already) = if pause { ("paused", "is paused") } else { ("no longer paused", "is not paused") };
    Ok(changes(made, already, &[Change { value, outcome }]))
}

/// Whether a contract is paused; `None` if it cannot be.
pub(crate) async fn is_paused(chain: &Chain, contract: Address) -> Result<Option<bool>, Failure> {
    let app = AppAuth::new(contract, chain.provider.clone());
    match app.paused().call().await.map_err(|error| call_failed("asking about the pause", error)) {
        Ok(paused) => Ok(Some(paused)),
        // A contract without the function reverts, or answers with nothing.
        Err(Failure::Reverted { .. } | Failure::Unreadable { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Who is offered a contract; zero for nobody. The first of dstack's change hands in one step, and offer nothing.
pub(crate) async fn pending(chain: &Chain, contract: Address) -> Result<Address, Failure> {
    let pending = AppAuth::new(contract, chain.provider.clone()).pendingOwner().call().await;
    match pending.map_err(|error| call_failed("asking for the heir", error)) {
        Err(Failure::Reverted { .. } | Failure::Unreadable { .. }) => Ok(Address::ZERO),
        answer => answer,
    }
}

/// Adds to a report who is offered a contract, if anybody is.
pub(crate) fn tell_pending(report: Report, pending: Address) -> Report {
    if pending.is_zero() { report } else { report.field("offered to", format_args!("{pending:#x}")) }
}
