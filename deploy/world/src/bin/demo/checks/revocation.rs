//! A compose hash is removed on chain: new connections are refused and the live session is cut, until it is added again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postern_plumbing::tasks::Task;
use postern_world::{Admin, ChainClient, Guest, Registrar, Tenant, World};
use serde_json::{Value, json};

use crate::client::Login;
use crate::client::psql::Psql;
use crate::client::python::Python;
use postern_world::report::{Outcome, seconds, words};

const PATIENCE: Duration = Duration::from_secs(30);
/// How soon after the block a live session is cut.
const PROMISE: Duration = Duration::from_secs(1);
/// What the check tolerates: every part runs on this one machine, which may be busy.
const TOLERATED: Duration = Duration::from_secs(2);

/// Whose compose hash is removed, by whom, and who has to notice.
pub(super) struct Revocation<'a> {
    pub(super) world: &'a World,
    pub(super) registrar: &'a Registrar,
    pub(super) guest: &'a Guest,
    pub(super) cutter: Cutter,
}

/// The program that has to cut the session, the counter with which it says that it did, and the words with which it tells the
/// driver; a gateway has none, as it is not in the session.
pub(super) struct Cutter {
    pub(super) admin: Admin,
    pub(super) counter: &'static str,
    pub(super) words: &'static str,
}

impl Cutter {
    /// The first line of what the driver says about the end of its session, which has to be what it was told.
    pub(super) fn told(&self, answer: &Value) -> Outcome {
        if answer.get("cut") != Some(&Value::Bool(true)) {
            return Err(format!("the session went on: {answer}"));
        }
        let error = answer.get("error").and_then(Value::as_str).unwrap_or_default();
        let error = error.lines().next().unwrap_or_default();
        if error.contains(self.words) { Ok(error.to_owned()) } else { Err(format!("the driver was told: {answer}")) }
    }

    pub(super) async fn cuts(&self) -> Result<f64, String> {
        self.admin.metric(self.counter, "").await
    }

    /// Waits until it says that it has cut exactly one session more than `before`.
    pub(super) async fn cut_one(&self, before: f64) -> Result<(), String> {
        let told = Instant::now();
        loop {
            let grown = self.cuts().await? - before;
            if (grown - 1.0).abs() < f64::EPSILON {
                return Ok(());
            }
            if grown > 1.0 || told.elapsed() > TOLERATED {
                return Err(format!("the session ended for another reason: {} grew by {grown}, not 1", self.counter));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Revocation<'_> {
    /// Removes the compose hash while a session is idle, and measures from the moment at which the block with the removal
    /// could be seen to the moment at which the driver saw its connection end.
    pub(super) async fn cuts_the_live_session(&self, python: &Python, login: &Login) -> Outcome {
        let mut session = python.start("hold", login, json!({"seconds": 60})).await?;
        session.next().await?;
        let before = self.cutter.cuts().await?;
        let blocks = Blocks::watch(self.world.chain());
        let block = self.registrar.remove_compose_hash(self.guest).await.map_err(words)?;
        session.next().await?;
        let cut = Instant::now();
        let answer = session.next().await?;
        let error = self.cutter.told(&answer)?;
        let seen = blocks.seen(block).ok_or_else(|| format!("block {block} was never seen"))?;
        self.cutter.cut_one(before).await?;
        let figure = in_time(cut.saturating_duration_since(seen))?;
        Ok(format!("{figure}; {} grew by 1; the driver saw `{error}`", self.cutter.counter))
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

/// Puts the time from the block to the cut into words, and fails when it was too long.
fn in_time(took: Duration) -> Outcome {
    let figure = format!("{} ms from the block to the cut (promised: {} ms", took.as_millis(), PROMISE.as_millis());
    if took <= TOLERATED {
        Ok(format!("{figure})"))
    } else {
        Err(format!("{figure}, tolerated on a busy machine: {} ms)", TOLERATED.as_millis()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[test]
    fn a_late_cut_fails() {
        assert_eq!(
            in_time(Duration::from_millis(300)).unwrap(),
            "300 ms from the block to the cut (promised: 1000 ms)"
        );
        in_time(TOLERATED).unwrap();
        in_time(TOLERATED + Duration::from_millis(1)).unwrap_err();
    }

    /// A program that has cut so many sessions.
    async fn cutter(cuts: u32) -> (Cutter, Task<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = Admin(listener.local_addr().unwrap());
        let body = format!("cut_total {cuts}\n");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let serve = Task::spawn("metrics", async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (Cutter { admin, counter: "cut_total", words: "terminating connection: " }, serve)
    }

    #[tokio::test]
    async fn a_driver_has_to_be_told_why() {
        let (cutter, _serve) = cutter(3).await;
        let error = "terminating connection: because\nserver closed the connection unexpectedly";
        assert_eq!(
            cutter.told(&json!({"cut": true, "error": error})).as_deref(),
            Ok("terminating connection: because")
        );
        cutter.told(&json!({"cut": true, "error": "server closed the connection unexpectedly"})).unwrap_err();
        cutter.told(&json!({"cut": false})).unwrap_err();
    }

    #[tokio::test]
    async fn a_session_that_ended_for_another_reason_fails() {
        let (cutter, _serve) = cutter(3).await;
        cutter.cut_one(2.0).await.unwrap();
        cutter.cut_one(1.0).await.unwrap_err();
        cutter.cut_one(3.0).await.unwrap_err();
    }
}
