//! Stock psycopg, whose wheel brings a libpq that is newer than Debian's.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::Login;
use postern_world::report::words;

const DEADLINE: Duration = Duration::from_secs(60);
const DRIVER: &str = include_str!("driver.py");
const ATTESTATION: &str = include_str!("attestation.py");

/// A Python with psycopg.
#[derive(Debug, Clone)]
pub(crate) struct Python {
    pub(crate) program: PathBuf,
    /// Takes the place of the home folder, whose certificates would change what is shown.
    pub(crate) home: PathBuf,
}

impl Python {
    /// Performs one action of the driver and gives its first answer; what psycopg refused with is the error.
    pub(crate) async fn run(&self, action: &str, login: &Login, more: Value) -> Result<Value, String> {
        self.start(action, login, more).await?.next().await
    }

    /// Reads an attestation as TeeSQL's clients do, and gives what it says once the formulas have been recomputed.
    pub(crate) async fn attestation(&self, url: &str) -> Result<Value, String> {
        let mut command = Command::new(&self.program);
        command.args(["-c", ATTESTATION, url]).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, command.output()).await;
        let output = output.map_err(|_| "the client did not end")?.map_err(words)?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).map_err(words);
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// Starts an action that answers more than once.
    pub(crate) async fn start(&self, action: &str, login: &Login, more: Value) -> Result<Session, String> {
        let mut command = Command::new(&self.program);
        command.args(["-c", DRIVER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        command.env("HOME", &self.home).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.program.display()))?;

        let mut request = json!({"action": action, "conninfo": login.conninfo(), "password": login.password});
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        let mut input = child.stdin.take().ok_or("the driver has no input")?;
        input.write_all(format!("{request}\n").as_bytes()).await.map_err(words)?;
        let output = child.stdout.take().ok_or("the driver has no output")?;
        Ok(Session { child, answers: BufReader::new(output).lines() })
    }
}

/// A driver at work; it is killed when the value is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Session {
    /// Waits for the next answer.
    pub(crate) async fn next(&mut self) -> Result<Value, String> {
        let line = tokio::time::timeout(DEADLINE, self.answers.next_line()).await;
        let Some(line) = line.map_err(|_| "the driver did not answer")?.map_err(words)? else {
            return Err(self.last_words().await);
        };
        let answer: Value = serde_json::from_str(&line).map_err(words)?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) if answer.get("cut").is_none() => Err(error.to_owned()),
            _ => Ok(answer),
        }
    }

    async fn last_words(&mut self) -> String {
        use tokio::io::AsyncReadExt as _;
        let mut said = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            drop(errors.read_to_string(&mut said).await);
        }
        format!("the driver ended: {}", said.trim())
    }
}
