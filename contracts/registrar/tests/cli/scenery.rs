//! A node, a folder with a key, and the command.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use postern_devnet::{Anvil, FIRST_KEY};
use serde_json::Value;
use tempfile::TempDir;

/// An OS image, a device, and two compose hashes.
pub(crate) const IMAGE: &str = "0505050505050505050505050505050505050505050505050505050505050505";
pub(crate) const DEVICE: &str = "0202020202020202020202020202020202020202020202020202020202020202";
pub(crate) const FIRST: &str = "0x0707070707070707070707070707070707070707070707070707070707070707";
pub(crate) const SECOND: &str = "0x0808080808080808080808080808080808080808080808080808080808080808";

/// Somebody who governs nothing.
pub(crate) struct Account {
    pub(crate) key: &'static str,
    pub(crate) address: &'static str,
}

/// Anvil's second account.
pub(crate) const STRANGER: Account = Account {
    key: "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    address: "0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
};

/// A chain on which the contracts may have been deployed.
pub(crate) struct Chain {
    pub(crate) anvil: Anvil,
    folder: TempDir,
    pub(crate) kms: Option<String>,
}

impl Chain {
    /// An empty chain.
    pub(crate) fn empty(arguments: &[&str]) -> Self {
        let chain = Self { anvil: Anvil::start(arguments).unwrap(), folder: TempDir::new().unwrap(), kms: None };
        chain.file("key", FIRST_KEY);
        chain.file("stranger", STRANGER.key);
        chain
    }

    /// A chain with the contracts on it.
    pub(crate) fn deployed() -> Self {
        let mut chain = Self::empty(&[]);
        chain.kms = Some(text(&chain.done(&["init"])["kms"]));
        chain
    }

    /// A chain with the contracts, an image and an app that any device may host.
    pub(crate) fn with_app() -> (Self, String) {
        let chain = Self::deployed();
        chain.done(&["os-image", "add", IMAGE]);
        let app = text(&chain.done(&["app", "create", "--allow-any-device"])["app_id"]);
        (chain, app)
    }

    /// A file that only its owner can read.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the command with the key of `who`.
    pub(crate) fn run_as(&self, who: &str, arguments: &[&str]) -> Output {
        let key = self.folder.path().join(who);
        self.run_without_key(&[&["--key-file", key.to_str().unwrap()], arguments].concat())
    }

    pub(crate) fn run_without_key(&self, arguments: &[&str]) -> Output {
        let mut command = registrar();
        command.args(["--rpc", self.anvil.url().as_str()]);
        if let Some(kms) = &self.kms {
            command.args(["--kms", kms]);
        }
        command.args(arguments).output().unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.run_as("key", arguments)
    }

    /// Runs the command, which must work, and reads what it says.
    pub(crate) fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs `check` and reads the verdict.
    pub(crate) fn check(&self, app: &str, compose: &str, more: &[&str]) -> (bool, String) {
        let output = self.run(&[&["--json", "check", app, compose], more].concat());
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        let allowed = verdict["allowed"].as_bool().expect("it is a verdict");
        assert_eq!(output.status.code(), Some(if allowed { 0 } else { 1 }));
        (allowed, text(&verdict["reason"]))
    }
}

/// The command, without anything that this machine's environment may say to it.
pub(crate) fn registrar() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registrar"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("POSTERN_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the command at a terminal of its own, which `script` makes, and types a password when asked for it.
pub(crate) fn at_a_terminal(chain: &Chain, arguments: &[&str], password: Option<&str>) -> (String, Option<i32>) {
    let program = env!("CARGO_BIN_EXE_registrar");
    let key = chain.folder().join("key");
    let (url, kms) = (chain.anvil.url(), chain.kms.as_deref().unwrap());
    let line = format!("{program} --rpc {url} --kms {kms} --key-file {} {}", key.display(), arguments.join(" "));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut said = Vec::new();
    let mut piece = [0; 256];
    let mut typed = password.is_none();
    while let Ok(length @ 1..) = output.read(&mut piece) {
        said.extend_from_slice(&piece[..length]);
        if !typed && String::from_utf8_lossy(&said).contains("Password for ") {
            writeln!(input, "{}", password.unwrap()).unwrap();
            typed = true;
        }
    }
    (String::from_utf8_lossy(&said).into_owned(), child.wait().unwrap().code())
}

/// A JSON text.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// What was said on standard error.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
