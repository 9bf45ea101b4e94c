//! What operators see of rules, time and collateral.

use std::sync::Arc;
use std::time::Duration;

use postern_attest::Fmspc;
use postern_attest::policy::Policy;
use postern_plumbing::admin::ReadinessCheck;

use crate::attestor::Attestor;
use crate::collateral::CollateralKeeper;
use crate::high_water::HighWater;
use crate::policy::PolicyKeeper;
use crate::state::StateLock;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How far the host's clock may be behind before we are not ready: peers are judged by the mark, but our own certificates and
/// the age of what we know of the chain go by the host's clock.
const FAR_BEHIND: u64 = 300;

/// All that a verdict depends on.
pub(super) struct Watched {
    pub(super) attestor: Arc<Attestor>,
    pub(super) keeper: Arc<CollateralKeeper>,
    pub(super) policy: Option<Arc<PolicyKeeper>>,
    pub(super) high_water: Arc<HighWater>,
}

impl Watched {
    /// Looks for ever. Whatever else has to live as long, the lock of the state folder for one, lives here.
    pub(super) async fn run(self, check: ReadinessCheck, _lock: Option<StateLock>) {
        let mut ended = false;
        loop {
            self.publish();
            match self.trouble() {
                None => check.ready(),
                Some(reason) => check.not_ready(reason),
            }
            let policy_ended = self.policy().is_some_and(|policy| self.attestor.now() >= policy.expires);
            if policy_ended && !ended {
                tracing::error!("the policy has expired: nobody is believed, and live sessions end");
                self.attestor.changed();
            }
            ended = policy_ended;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.as_ref().map(|policy| policy.current())
    }

    fn publish(&self) {
        metrics::gauge!("clock_behind_seconds").set(seconds(self.high_water.behind()));
        for (fmspc, window) in self.attestor.collateral().windows() {
            let until = seconds(window.until);
            metrics::gauge!("collateral_expires_timestamp_seconds", "fmspc" => fmspc.to_string()).set(until);
        }
    }

    /// Why nobody can be believed, or our own word is not worth much.
    fn trouble(&self) -> Option<String> {
        let now = self.attestor.now();
        if let Some(policy) = self.policy().filter(|policy| now >= policy.expires) {
            return Some(format!("the policy of version {} expired at {}", policy.version, policy.expires));
        }
        let behind = self.high_water.behind();
        if behind > FAR_BEHIND {
            return Some(format!("the host's clock is {behind} s behind the time that was seen before"));
        }
        self.no_collateral(now)
    }

    /// One kind of platform that is known is enough. Where services are asked, none need be known before a peer comes.
    fn no_collateral(&self, now: u64) -> Option<String> {
        let known = self.attestor.collateral();
        let current = known.windows().any(|(_, window)| window.from <= now && now < window.until);
        if current || (known.is_empty() && self.keeper.has_sources()) {
            return None;
        }
        let ends: Vec<String> = known.windows().map(|(fmspc, window)| ended(fmspc, window.until)).collect();
        Some(if ends.is_empty() {
            "there is no collateral that can be used, and the log says why".to_owned()
        } else {
            format!("there is no current collateral: {}", ends.join(", "))
        })
    }
}

fn ended(fmspc: Fmspc, until: u64) -> String {
    format!("that for FMSPC {fmspc} ended at {until}")
}

#[expect(clippy::cast_precision_loss, reason = "dates are far below 2^53")]
fn seconds(seconds: u64) -> f64 {
    seconds as f64
}
