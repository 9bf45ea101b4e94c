//! Revocations and restorations, as they come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use postern_allowlist::{Admission, BootInfo, NotAdmitted, Proven};
use postern_watch::{Change, Clock};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::Chain;
use crate::audit::Audit;
use crate::members::Members;
use crate::metrics;

/// How often everybody is asked about, so that the chain is watched for them.
const ROUND: Duration = Duration::from_secs(60);

/// How many changes are looked at together, so that no revocation waits behind the lines of many restorations.
const TOGETHER: usize = 1_024;

/// The watch has ended, and nobody tells of changes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the watch of the chain has ended")]
pub struct Ended;

/// Makes the members follow the chain, for ever. `clock` is the time by which their evidence is judged.
///
/// # Errors
/// When the watch has ended.
pub async fn follow(chain: Arc<dyn Chain>, members: Members, audit: Audit, clock: Clock) -> Result<Infallible, Ended> {
    let mut changes = chain.changes();
    let follower = Follower { chain, members, audit, clock };
    follower.catch_up().await;
    let mut rounds = tokio::time::interval_at(Instant::now() + ROUND, ROUND);
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            _ = rounds.tick() => {
                follower.look_after().await;
                continue;
            }
        };
        let mut together = vec![change];
        while together.len() < TOGETHER
            && let Some(change) = waiting(&mut changes)
        {
            together.push(change);
        }
        follower.apply(together).await?;
    }
}

/// The next change if it is here already.
fn waiting(changes: &mut Receiver<Change>) -> Option<Result<Change, RecvError>> {
    use tokio::sync::broadcast::error::TryRecvError;
    match changes.try_recv() {
        Ok(change) => Some(Ok(change)),
        Err(TryRecvError::Lagged(missed)) => Some(Err(RecvError::Lagged(missed))),
        Err(TryRecvError::Closed) => Some(Err(RecvError::Closed)),
        Err(TryRecvError::Empty) => None,
    }
}

/// Who follows, and what is done about it.
struct Follower {
    chain: Arc<dyn Chain>,
    members: Members,
    audit: Audit,
    clock: Clock,
}

impl Follower {
    /// Revocations first, at once and in their order; then those who are allowed again.
    async fn apply(&self, changes: Vec<Result<Change, RecvError>>) -> Result<(), Ended> {
        let mut allowed = Vec::new();
        let mut missed_some = false;
        for change in changes {
            match change {
                Ok(Change { boot, verdict: Ok(admission), .. }) => allowed.push((boot, admission)),
                Ok(Change { boot, verdict: Err(not_admitted), seen, .. }) => {
                    self.refuse(&boot, &not_admitted, Some(seen.elapsed()));
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(
                        missed,
                        "changes on chain came faster than they could be followed; asking about everybody"
                    );
                    missed_some = true;
                }
                Err(RecvError::Closed) => return Err(Ended),
            }
        }
        self.allow(allowed).await;
        if missed_some {
            self.catch_up().await;
        }
        Ok(())
    }

    /// Asks about everybody, after changes were missed.
    async fn catch_up(&self) {
        let mut allowed = Vec::new();
        for (boot, until) in self.members.proven() {
            match self.chain.current(Proven { boot: &boot, until }) {
                Ok(admission) => allowed.push((boot, admission)),
                Err(not_admitted) => self.refuse(&boot, &not_admitted, None),
            }
        }
        self.allow(allowed).await;
    }

    /// Asks about everybody, so that nobody is forgotten whose sessions go on without a renewal, and nobody stays shut out
    /// whose restoration could not be written down.
    async fn look_after(&self) {
        let mut allowed = Vec::new();
        for (boot, until) in self.members.proven() {
            let proven = Proven { boot: &boot, until };
            let verdict = match self.chain.current(proven) {
                // It was forgotten all the same, as after a leap of the clock.
                Err(NotAdmitted::NotEvaluated) => self.chain.evaluate(proven, Duration::ZERO).await,
                known => known,
            };
            match verdict {
                Ok(admission) => allowed.push((boot, admission)),
                Err(not_admitted) => self.refuse(&boot, &not_admitted, None),
            }
        }
        self.allow(allowed).await;
    }

    /// Shuts a member out, if it is the chain that says so. `after` is the time since the block was seen.
    fn refuse(&self, boot: &BootInfo, not_admitted: &NotAdmitted, after: Option<Duration>) {
        // Not knowing is no revocation: new connections are refused by the age of the view, and sessions go on.
        if !not_admitted.is_the_chains_word() {
            return;
        }
        let Some(cut) = self.members.refuse(boot) else { return };
        // Sessions end at once; what is measured is the way from the sight of the block to here.
        metrics::cut(cut.sessions, after);
        self.audit.revoked(boot, &cut.fingerprint, not_admitted, cut.sessions, after);
    }

    /// Lets members in again that are shut out, each once its line is in the audit trail.
    async fn allow(&self, allowed: Vec<(Arc<BootInfo>, Admission)>) {
        let restore = allowed.iter().filter_map(|(boot, admission)| {
            let (fingerprint, until) = self.members.shut_out(boot, (self.clock)())?;
            Some(async move {
                let written = self.audit.restore(boot, &fingerprint, &admission.block).await;
                written.is_ok().then_some((boot, until, admission))
            })
        });
        for (boot, until, admission) in join_all(restore).await.into_iter().flatten() {
            // It may have been revoked again meanwhile, and that may have been seen before.
            let admitted = self.chain.current(Proven { boot, until }).is_ok();
            if admitted && self.members.allow(boot, admission.block.number, (self.clock)()) {
                self.audit.restored(boot, &admission.block);
            }
        }
    }
}

#[cfg(test)]
mod tests;
