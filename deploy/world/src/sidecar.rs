//! A sidecar, in serve or connect mode.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::tenant::Database;
use crate::{Admin, Guest, Platform, Process, Recipe, State, WorldError};

const READY: Duration = Duration::from_secs(60);

/// A sidecar.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    admin: Admin,
    config: PathBuf,
}

/// A sidecar that has its configuration and does not run yet.
pub(crate) struct Prepared {
    program: PathBuf,
    name: String,
    mode: &'static str,
    config: PathBuf,
    admin: Admin,
}

impl Prepared {
    /// Starts it. It is not ready yet.
    pub(crate) fn start(self, state: &State) -> Result<Sidecar, WorldError> {
        let arguments = [self.mode.to_owned(), "--config".to_owned(), self.config.display().to_string()];
        let process = Recipe::new(self.name, self.program).arguments(arguments).start(state)?;
        Ok(Sidecar { process, admin: self.admin, config: self.config })
    }
}

impl Sidecar {
    /// Writes the configuration, in which `admin` is the admin port.
    pub(crate) fn prepare(
        state: &State,
        program: &Path,
        name: &str,
        mode: &'static str,
        config: &str,
        admin: Admin,
    ) -> Result<Prepared, WorldError> {
        let config = state.write(format!("config/{name}.toml"), config)?;
        Ok(Prepared { program: program.to_owned(), name: name.to_owned(), mode, config, admin })
    }

    /// Where it tells operators how it is.
    #[must_use]
    pub fn admin(&self) -> Admin {
        self.admin
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its pid while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Kills it as a crash would and starts it again; returns as soon as the program runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn crash(&mut self) -> Result<(), WorldError> {
        self.process.kill().await;
        self.process.start()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ready(&mut self) -> Result<(), WorldError> {
        let admin = self.admin;
        self.process.ready(READY, async || admin.ready().await).await
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Has the program derive the password that a role has in Postgres from the keys of a CVM, whose disk and guest agent are
/// given, and gives the file with it.
pub(crate) async fn password(program: &Path, folder: &Path, agent: &Path, role: &str) -> Result<PathBuf, WorldError> {
    let file = folder.join(format!("password-of-{role}"));
    run(program, &["password", "--role", role, "--out", &file.display().to_string()], agent).await?;
    Ok(file)
}

/// Has the program write a client certificate that carries the quote of a CVM. Gives the files with it and with its key.
pub(crate) async fn certificate(program: &Path, guest: &Guest) -> Result<(PathBuf, PathBuf), WorldError> {
    let folder = guest.folder();
    run(program, &["certificate", "--out-dir", &folder.display().to_string()], guest.socket()).await?;
    Ok((folder.join("client.crt"), folder.join("client.key")))
}

/// Has the program judge the attestation of a database, outside of any CVM. Gives its report as JSON.
pub(crate) async fn judge_attestation(
    program: &Path,
    platform: &Platform,
    database: &Database,
) -> Result<String, WorldError> {
    let cvm = database.guest.cvm();
    let arguments = [
        "verify".to_owned(),
        format!("http://{}/attestation", database.public),
        "--json".to_owned(),
        format!("--root={}", platform.root().display()),
        format!("--collateral={}", platform.collateral().display()),
        format!("--app-id={}", cvm.app_id()),
        format!("--compose-hash={}", cvm.compose_hash()),
    ];
    run_anywhere(program, &arguments).await
}

/// Runs one of the program's short commands inside a CVM.
async fn run(program: &Path, arguments: &[&str], agent: &Path) -> Result<(), WorldError> {
    let agent = format!("--agent=unix:{}", agent.display());
    let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).chain([agent]).collect();
    run_anywhere(program, &arguments).await.map(drop)
}

/// Runs one of the program's short commands, and gives what it prints.
async fn run_anywhere(program: &Path, arguments: &[String]) -> Result<String, WorldError> {
    let words = format!("sidecar {}", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments);
    let output = tokio::time::timeout(READY, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let failed = |status: String, output: String| WorldError::Failed { program: words.clone(), status, output };
    let output = output
        .map_err(|_| failed(format!("no end within {READY:?}"), String::new()))?
        .map_err(|source| WorldError::Start { program: words.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(failed(output.status.to_string(), String::from_utf8_lossy(&said).into_owned()))
}
