//! Revocations and restorations, as they come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use postern_allowlist::{Admission, Block, BootInfo, NotAdmitted};
use postern_plumbing::clock::unix_now;
use postern_watch::Change;
use tokio::sync::broadcast::error::RecvError;

use super::Chain;
use crate::audit;
use crate::members::Members;
use crate::metrics;

/// How often everybody is asked about, so that the chain is watched for them.
const ROUND: Duration = Duration::from_secs(60);

/// The watch has ended, and nobody tells of changes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the watch of the chain has ended")]
pub struct Ended;

/// Makes the members follow the chain, for ever.
///
/// # Errors
/// When the watch has ended.
pub async fn follow(chain: Arc<dyn Chain>, members: Members) -> Result<Infallible, Ended> {
    let mut changes = chain.changes();
    catch_up(chain.as_ref(), &members);
    let mut rounds = tokio::time::interval(ROUND);
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            _ = rounds.tick() => {
                look_after(chain.as_ref(), &members).await;
                continue;
            }
        };
        match change {
            Ok(change) => apply(&members, &change),
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(
                    missed,
                    "changes on chain came faster than they could be followed; asking about everybody"
                );
                catch_up(chain.as_ref(), &members);
            }
            Err(RecvError::Closed) => return Err(Ended),
        }
    }
}

fn apply(members: &Members, change: &Change) {
    match &change.verdict {
        Ok(admission) => allow(members, &change.boot, admission),
        Err(not_admitted) if not_admitted.is_the_chains_word() => {
            let Some(cut) = members.refuse(&change.boot) else { return };
            // Sessions end at once; what is measured is the way from the sight of the block to here.
            let after = change.seen.elapsed();
            metrics::cut(cut, Some(after));
            audit::revoked(&change.boot, Some(&change.block), not_admitted, cut, Some(after));
        }
        // Not knowing is no revocation: new connections are refused by the age of the view, and sessions go on.
        Err(_) => {}
    }
}

/// Asks about everybody, after changes were missed.
fn catch_up(chain: &dyn Chain, members: &Members) {
    let boots: Vec<Arc<BootInfo>> = members.snapshot().boots().cloned().collect();
    for boot in boots {
        match chain.current(&boot) {
            Ok(admission) => allow(members, &boot, &admission),
            Err(not_admitted) => refuse(members, &boot, &not_admitted),
        }
    }
}

/// Asks about everybody, so that nobody is forgotten whose sessions go on without a renewal.
async fn look_after(chain: &dyn Chain, members: &Members) {
    let boots: Vec<Arc<BootInfo>> = members.snapshot().boots().cloned().collect();
    for boot in boots {
        let verdict = match chain.current(&boot) {
            // It was forgotten all the same, as after a leap of the clock.
            Err(NotAdmitted::NotEvaluated) => chain.evaluate(boot.as_ref().clone(), Duration::ZERO).await,
            known => known,
        };
        if let Err(not_admitted) = verdict {
            refuse(members, &boot, &not_admitted);
        }
    }
}

/// Follows a refusal of which no change has told.
fn refuse(members: &Members, boot: &BootInfo, not_admitted: &NotAdmitted) {
    // Not knowing is no revocation.
    if !not_admitted.is_the_chains_word() {
        return;
    }
    let Some(cut) = members.refuse(boot) else { return };
    metrics::cut(cut, None);
    audit::revoked(boot, block(not_admitted), not_admitted, cut, None);
}

fn allow(members: &Members, boot: &BootInfo, admission: &Admission) {
    if members.allow(boot, admission.block.number, unix_now()) {
        audit::restored(boot, &admission.block);
    }
}

fn block(not_admitted: &NotAdmitted) -> Option<&Block> {
    match not_admitted {
        NotAdmitted::Refused { block, .. } | NotAdmitted::Unconfirmed { block } => Some(block),
        NotAdmitted::NotEvaluated
        | NotAdmitted::AwaitingAnswer
        | NotAdmitted::NoView
        | NotAdmitted::ViewTooOld { .. }
        | NotAdmitted::TooManyWorkloads => None,
    }
}

#[cfg(test)]
mod tests;
