//! A compose hash is removed on chain: new connections are refused and the live session is cut, until it is added again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postern_plumbing::tasks::Task;
use postern_world::{ChainClient, Guest, Registrar, Tenant, World};
use serde_json::{Value, json};

use crate::client::Login;
use crate::client::psql::Psql;
use crate::client::python::Python;
use crate::report::{Outcome, seconds, words};

const PATIENCE: Duration = Duration::from_secs(30);

/// Whose compose hash is removed, and by whom.
pub(super) struct Revocation<'a> {
    pub(super) world: &'a World,
    pub(super) registrar: &'a Registrar,
    pub(super) guest: &'a Guest,
}

impl Revocation<'_> {
    /// Removes the compose hash while a session is idle, and measures from the moment at which the block with the removal
    /// could be seen to the moment at which the driver saw its connection end.
    pub(super) async fn cuts_the_live_session(&self, python: &Python, login: &Login) -> Outcome {
        let mut session = python.start("hold", login, json!({"seconds": 60})).await?;
        session.next().await?;
        let blocks = Blocks::watch(self.world.chain());
        let block = self.registrar.remove_compose_hash(self.guest).await.map_err(words)?;
        session.next().await?;
        let cut = Instant::now();
        let answer = session.next().await?;
        if answer.get("cut") != Some(&Value::Bool(true)) {
            return Err(format!("the session went on: {answer}"));
        }
        let seen = blocks.seen(block).ok_or_else(|| format!("block {block} was never seen"))?;
        let error = answer.get("error").and_then(Value::as_str).unwrap_or_default();
        let error = error.lines().next().unwrap_or_default();
        let milliseconds = cut.saturating_duration_since(seen).as_millis();
        Ok(format!("{milliseconds} ms from the block to the cut; the driver saw `{error}`"))
    }

    /// Adds the compose hash again and connects until it works, with nothing restarted.
    pub(super) async fn undone(&self, psql: &Psql, login: &Login) -> Outcome {
        let pids = self.pids();
        self.registrar.add_compose_hash(self.guest).await.map_err(words)?;
        let added = Instant::now();
        loop {
            match psql.run(login, "select 42;\n").await {
                Ok(_) if self.pids() != pids => return Err("a sidecar was restarted".into()),
                Ok(_) => return Ok(format!("{} after it was added, without a restart", seconds(added))),
                Err(error) if added.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The pids of all sidecars.
    fn pids(&self) -> Vec<Option<u32>> {
        let of = |tenant: &Tenant| [tenant.database().sidecar.pid(), tenant.application().sidecar.pid()];
        self.world.tenants().iter().flat_map(of).collect()
    }
}

/// When each new block could be seen first.
struct Blocks {
    seen: Arc<Mutex<BTreeMap<u64, Instant>>>,
    _watch: Task<()>,
}

impl Blocks {
    fn watch(chain: ChainClient) -> Self {
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let record = Arc::clone(&seen);
        let watch = Task::spawn("blocks", async move {
            loop {
                if let Ok(number) = chain.block_number().await {
                    record.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_insert_with(Instant::now);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { seen, _watch: watch }
    }

    /// The first moment at which this block or a later one was the newest.
    fn seen(&self, block: u64) -> Option<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.range(block..).map(|(_, instant)| *instant).min()
    }
}
