//! The administrator of the chain: every change goes through the `registrar` program.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use postern_identity::{AppId, OsImageHash};
use serde_json::Value;
use tokio::process::Command;

use crate::chain::ChainClient;
use crate::{Guest, WorldError};

const DEADLINE: Duration = Duration::from_secs(60);

/// Who decides on chain what may run.
#[derive(Debug, Clone)]
pub struct Registrar {
    program: PathBuf,
    rpc: String,
    /// The file with the private key that signs.
    key: PathBuf,
    kms: String,
}

impl Registrar {
    /// Deploys the contracts, owned by a key.
    pub(crate) async fn deploy(program: &Path, chain: ChainClient, key: PathBuf) -> Result<Self, WorldError> {
        let mut registrar = Self { program: program.to_owned(), rpc: chain.url(), key, kms: String::new() };
        let answer = registrar.run(&["init"]).await?;
        registrar.kms = text(&answer, "kms")?;
        Ok(registrar)
    }

    /// The same contracts, signed for with another key.
    pub(crate) fn signing_with(&self, key: PathBuf) -> Self {
        Self { key, ..self.clone() }
    }

    /// The address of the KmsAuth contract.
    #[must_use]
    pub fn kms(&self) -> &str {
        &self.kms
    }

    pub(crate) async fn allow_image(&self, image: OsImageHash) -> Result<(), WorldError> {
        self.run(&["os-image", "add", &image.to_string()]).await.map(drop)
    }

    pub(crate) async fn trust_gateway(&self, app: AppId) -> Result<(), WorldError> {
        self.run(&["gateway-app", "set", &app.to_string()]).await.map(drop)
    }

    /// Creates an application that may run on any device, with a first compose file.
    pub(crate) async fn create_app(&self, compose: &Path) -> Result<AppId, WorldError> {
        let compose = compose.display().to_string();
        let answer = self.run(&["app", "create", "--allow-any-device", "--compose", &compose]).await?;
        text(&answer, "app_id")?.parse().map_err(|error| self.unexpected(&format!("{error}")))
    }

    /// Allows what a CVM runs, and says in which block.
    ///
    /// # Errors
    /// When the registrar fails.
    pub async fn add_compose_hash(&self, guest: &Guest) -> Result<u64, WorldError> {
        self.change("add", guest).await
    }

    /// Forbids what a CVM runs, and says in which block.
    ///
    /// # Errors
    /// When the registrar fails.
    pub async fn remove_compose_hash(&self, guest: &Guest) -> Result<u64, WorldError> {
        self.change("remove", guest).await
    }

    /// The command line of a change, for a human to repeat.
    #[must_use]
    pub fn command(&self, change: &str, guest: &Guest) -> String {
        let words = [
            self.program.display().to_string(),
            "compose-hash".into(),
            change.into(),
            format!("--rpc {} --kms {} --key-file {}", self.rpc, self.kms, self.key.display()),
            guest.cvm().app_id().to_string(),
            guest.compose_file().display().to_string(),
        ];
        words.join(" ")
    }

    async fn change(&self, change: &str, guest: &Guest) -> Result<u64, WorldError> {
        self.change_compose(change, guest.cvm().app_id(), &guest.compose_file()).await
    }

    /// Adds or removes what an app may run, and says in which block.
    pub(crate) async fn change_compose(&self, change: &str, app: AppId, compose: &Path) -> Result<u64, WorldError> {
        let compose = compose.display().to_string();
        let answer = self.run(&["compose-hash", change, &app.to_string(), &compose]).await?;
        let block = answer.pointer("/changes/0/block").and_then(Value::as_u64);
        block.ok_or_else(|| self.unexpected(&answer.to_string()))
    }

    async fn run(&self, arguments: &[&str]) -> Result<Value, WorldError> {
        let mut command = Command::new(&self.program);
        command.args(["--json", "--rpc", &self.rpc]).arg("--key-file").arg(&self.key).args(arguments);
        if !self.kms.is_empty() {
            command.args(["--kms", &self.kms]);
        }
        let program = format!("registrar {}", arguments.join(" "));
        let output = tokio::time::timeout(DEADLINE, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
        let output = output
            .map_err(|_| WorldError::Failed {
                program: program.clone(),
                status: format!("no end within {DEADLINE:?}"),
                output: String::new(),
            })?
            .map_err(|source| WorldError::Start { program: program.clone(), source })?;
        let said = String::from_utf8_lossy(&output.stdout);
        match serde_json::from_str(&said) {
            Ok(answer) if output.status.success() => Ok(answer),
            _ => Err(WorldError::Failed {
                program,
                status: output.status.to_string(),
                output: format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
            }),
        }
    }

    fn unexpected(&self, answer: &str) -> WorldError {
        WorldError::Chain(format!("{} answered {answer}", self.program.display()))
    }
}

fn text(answer: &Value, key: &str) -> Result<String, WorldError> {
    let value = answer.get(key).and_then(Value::as_str);
    value.map(str::to_owned).ok_or_else(|| WorldError::Chain(format!("the registrar's answer has no {key}: {answer}")))
}
