//! A query that its driver cancels ends early.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::client::Login;
use crate::client::psql::Psql;
use crate::client::python::Python;
use postern_world::report::{Outcome, seconds, words};

/// How long the query would take.
const QUERY: &str = "select pg_sleep(30);\n";
/// When the cancel is sent after the start, and what counts as early after that.
const WAIT: Duration = Duration::from_millis(1500);
const EARLY: Duration = Duration::from_secs(8);

/// psql sends a cancel request when it is interrupted; Debian's does so in the clear, over a connection of its own.
pub(crate) async fn psql(psql: &Psql, login: &Login) -> Outcome {
    let mut child = psql.start(login)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw).ok_or("psql has ended")?;
    let mut input = child.stdin.take().ok_or("psql has no input")?;
    input.write_all(QUERY.as_bytes()).await.map_err(words)?;
    drop(input);
    tokio::time::sleep(WAIT).await;
    let cancelled = Instant::now();
    kill_process(pid, Signal::INT).map_err(words)?;
    let output = tokio::time::timeout(EARLY, child.wait_with_output()).await;
    let output = output.map_err(|_| format!("the query still ran {EARLY:?} after the cancel"))?.map_err(words)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("canceling statement due to user request") {
        Ok(format!("a query of 30 s ended {} after the cancel", seconds(cancelled)))
    } else {
        Err(format!("psql said: {said}"))
    }
}

/// psycopg cancels over a connection as encrypted as the session's own.
pub(crate) async fn psycopg(python: &Python, login: &Login) -> Outcome {
    let answer = python.run("cancel", login, json!({})).await?;
    let elapsed = answer.get("seconds").and_then(Value::as_f64).ok_or("no time")?;
    let is = |key: &str| answer.get(key) == Some(&Value::Bool(true));
    if is("cancelled") && is("alive") && elapsed < EARLY.as_secs_f64() {
        Ok(format!("a query of 30 s ended after {elapsed:.2} s, and the session goes on"))
    } else {
        Err(format!("the driver said {answer}"))
    }
}
