use std::path::PathBuf;

use clap::{Args, Subcommand};
use postern_attest::policy::PolicyKey;
use postern_attest_io::signature_of;

/// Options of `policy`.
#[derive(Debug, Args)]
pub struct PolicyCommand {
    /// What to do with it.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with a policy.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Say whether a policy would be put in force, and what it allows.
    ///
    /// Its signature has to be one of the key, it must not have expired, and with --state-dir it must not be older than the
    /// newest one that was in force there.
    Check(Check),
    /// Say what a policy allows, whoever wrote it and however old it is.
    Show(Show),
}

/// Options of `policy check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The policy.
    #[arg(value_name = "FILE")]
    pub policy: PathBuf,

    /// The public key of whoever signs policies: the second line of minisign's public key file.
    #[arg(long, value_name = "KEY")]
    pub key: PolicyKey,

    /// The signature. Default: the policy's path and ".minisig".
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,

    /// A program's `attestation.state_dir`, which may be in use.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Options of `policy show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The policy.
    #[arg(value_name = "FILE")]
    pub policy: PathBuf,
}

impl Check {
    pub(super) fn signature(&self) -> PathBuf {
        self.signature.clone().unwrap_or_else(|| signature_of(&self.policy))
    }
}
