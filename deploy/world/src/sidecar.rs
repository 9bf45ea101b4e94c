//! A sidecar, in serve or connect mode.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::{Admin, Process, Recipe, State, WorldError};

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
    /// The password of Postgres' superuser, which follows from the keys of the CVM.
    pub(crate) async fn superuser_password(&self) -> Result<String, WorldError> {
        run(&self.program, &["password", "--config", &self.config.display().to_string()]).await
    }

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

/// Runs one of the program's short commands and gives what it printed.
pub(crate) async fn run(program: &Path, arguments: &[&str]) -> Result<String, WorldError> {
    let words = format!("sidecar {}", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(READY, command.output()).await;
    let failed = |status: String, output: String| WorldError::Failed { program: words.clone(), status, output };
    let output = output
        .map_err(|_| failed(format!("no end within {READY:?}"), String::new()))?
        .map_err(|source| WorldError::Start { program: words.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(failed(output.status.to_string(), String::from_utf8_lossy(&output.stderr).into_owned()))
}
