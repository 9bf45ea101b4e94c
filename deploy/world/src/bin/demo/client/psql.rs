//! Stock psql.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::Login;
use postern_world::report::words;

/// How long one run may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The psql that is first on PATH, cut off from the user's own settings.
#[derive(Debug, Clone)]
pub(crate) struct Psql {
    /// Takes the place of the home folder, whose certificates and settings would change what is shown.
    pub(crate) home: PathBuf,
}

impl Psql {
    /// Runs a script and gives what it printed, unaligned and without headers; or what psql said when it failed.
    pub(crate) async fn run(&self, login: &Login, script: &str) -> Result<String, String> {
        let mut child = self.start(login)?;
        let mut input = child.stdin.take().ok_or("psql has no input")?;
        let script = script.to_owned();
        let exchange = async move {
            // When psql cannot connect, it ends without reading; its own message says more than the broken pipe.
            drop(input.write_all(script.as_bytes()).await);
            drop(input);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(DEADLINE, exchange).await.map_err(|_| "psql did not end")?.map_err(words)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    /// Starts psql with its three streams open, to be driven while it runs.
    pub(crate) fn start(&self, login: &Login) -> Result<Child, String> {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1", "--file=-"]);
        command.arg(format!("--dbname={}", login.conninfo()));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        command.env("HOME", &self.home).env("PGPASSWORD", &login.password);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().map_err(|error| format!("psql could not be started: {error}"))
    }
}
