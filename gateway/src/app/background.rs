//! What goes on beside the connections, for as long as the gateway runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_allowlist::Freshness;
use postern_attest_io::IdentityKeeper;
use postern_plumbing::admin::{Readiness, ReadinessCheck};
use postern_plumbing::tasks::{Task, maintenance};
use tokio::time::{MissedTickBehavior, interval};

use super::{Ground, clock};
use crate::audit::Audit;
use crate::chain::{self, Chain};
use crate::config::Config;
use crate::connection;
use crate::edge::Edge;
use crate::members::Members;
use crate::reappraisal;
use crate::sessions::Sessions;

/// How often the members' times are looked at, and what `/readyz` shows.
const SECOND: Duration = Duration::from_secs(1);
/// How often the bytes of running sessions are given to the metrics.
const METER: Duration = Duration::from_secs(5);

/// The background work. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Background {
    tasks: Vec<Task<Infallible>>,
}

impl Background {
    pub(super) fn start(
        config: &Config,
        ground: &Ground,
        chain: Arc<dyn Chain>,
        edge: &Edge,
        readiness: &Readiness,
    ) -> Self {
        let tasks = vec![
            changes(Arc::clone(&chain), edge.members.clone(), ground),
            expiry(Arc::clone(&chain), edge.members.clone(), ground),
            left_out(ground.audit.clone()),
            audit_readiness(ground.audit.clone(), readiness.register("audit trail")),
            meter(edge.sessions.clone()),
            chain_readiness(chain, readiness.register("chain"), config.chain.freshness.max_view_age),
            judge_again(edge.members.clone(), ground),
            identity_readiness(Arc::clone(&ground.keeper), readiness.register("identity")),
        ];
        Self { tasks }
    }

    pub(super) fn stop(self) {
        drop(self.tasks);
    }
}

fn changes(chain: Arc<dyn Chain>, members: Members, ground: &Ground) -> Task<Infallible> {
    let (clock, audit) = (clock(&ground.attestor), ground.audit.clone());
    maintenance("chain changes", move || {
        chain::follow(Arc::clone(&chain), members.clone(), audit.clone(), Arc::clone(&clock))
    })
}

fn judge_again(members: Members, ground: &Ground) -> Task<Infallible> {
    let (attestor, audit) = (Arc::clone(&ground.attestor), ground.audit.clone());
    maintenance("members' evidence", move || reappraisal::follow(Arc::clone(&attestor), members.clone(), audit.clone()))
}

fn left_out(audit: Audit) -> Task<Infallible> {
    every(SECOND, "left out of logs", move || {
        audit.tell_left_out(Instant::now());
        connection::tell_left_out(Instant::now());
    })
}

fn audit_readiness(audit: Audit, check: ReadinessCheck) -> Task<Infallible> {
    every(SECOND, "audit readiness", move || {
        // Who is admitted is served all the same.
        if audit.is_broken() { check.ready_but("it cannot be written: nobody new is admitted") } else { check.ready() }
    })
}

/// By the time that evidence is judged by.
fn expiry(chain: Arc<dyn Chain>, members: Members, ground: &Ground) -> Task<Infallible> {
    let (attestor, audit) = (Arc::clone(&ground.attestor), ground.audit.clone());
    every(SECOND, "expiry", move || {
        for (boot, fingerprint) in members.expire(attestor.now()) {
            audit.expired(&boot, &fingerprint);
            chain.forget(&boot);
        }
    })
}

fn meter(sessions: Sessions) -> Task<Infallible> {
    every(METER, "meter", move || sessions.meter())
}

fn chain_readiness(chain: Arc<dyn Chain>, check: ReadinessCheck, max_view_age: u64) -> Task<Infallible> {
    every(SECOND, "chain readiness", move || {
        match chain.freshness() {
        Freshness::Fresh => check.ready(),
        // The view still serves those who are admitted, so taking the gateway out would only do harm.
        Freshness::Grace => check.ready_but(format!(
            "the view of the chain is older than {max_view_age} s: nobody new is admitted, and after its grace nobody at all"
        )),
        Freshness::Stale => {
            check.not_ready(format!("the view of the chain is older than {max_view_age} s and its grace"))
        }
    }
    })
}

fn identity_readiness(keeper: Arc<IdentityKeeper>, check: ReadinessCheck) -> Task<Infallible> {
    every(SECOND, "identity readiness", move || {
        if keeper.is_current() { check.ready() } else { check.not_ready("our certificate has expired") }
    })
}

/// Does something again and again.
fn every(period: Duration, name: &'static str, work: impl Fn() + Clone + Send + 'static) -> Task<Infallible> {
    maintenance(name, move || repeat(period, work.clone()))
}

async fn repeat(period: Duration, work: impl Fn()) -> Result<Infallible, Infallible> {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        work();
    }
}
