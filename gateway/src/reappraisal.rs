//! Members that are judged again by the evidence that they registered with, whether their connection still stands or not.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use postern_attest_io::{Attestor, PeerRefused};
use postern_gateway_core::registration::Link;
use postern_identity::InstanceId;
use tokio::time::{Instant, sleep, timeout_at};

use crate::audit::Audit;
use crate::members::{Evidence, Members};
use crate::metrics;

/// How long after an appraisal that came to no verdict the next one is tried.
const RETRY: Duration = Duration::from_secs(1);

/// Judges every member again when collateral or policy change, and when evidence has reached its greatest age.
///
/// # Errors
/// None: it goes on as long as the gateway does.
pub async fn follow(attestor: Arc<Attestor>, members: Members, audit: Audit) -> Result<Infallible, Infallible> {
    let mut changes = attestor.changes();
    // Started again after a panic, it may have missed a change.
    let mut due = Instant::now();
    loop {
        // Too late is as good a reason as a change.
        drop(timeout_at(due, changes.changed()).await);
        changes.mark_unchanged();
        due = Instant::now() + attestor.max_evidence_age();
        for (instance, link, evidence) in members.evidence() {
            if let Err(refused) = judge(&attestor, &evidence).await {
                disbelieve(&members, &audit, &instance, link, &refused);
            }
        }
    }
}

/// Shuts out the member that came by this connection, unless the refusal says nothing about its evidence.
pub fn disbelieve(members: &Members, audit: &Audit, instance: &InstanceId, link: Link, refused: &PeerRefused) {
    if !refused.is_temporary()
        && let Some((boot, cut)) = members.disbelieve(instance, link)
    {
        metrics::disbelieved(refused.label());
        metrics::cut(cut.sessions, None);
        audit.disbelieved(&boot, &cut.fingerprint, refused.label(), cut.sessions);
    }
}

/// The verdict on a member, whatever its certificate's own end: that is the register's to watch.
async fn judge(attestor: &Arc<Attestor>, evidence: &Evidence) -> Result<(), PeerRefused> {
    let leaf = evidence.first().ok_or(PeerRefused::NoCertificate)?;
    loop {
        match attestor.reappraise(leaf).await {
            Err(refused) if refused.is_temporary() => sleep(RETRY).await,
            verdict => return verdict.map(drop),
        }
    }
}
