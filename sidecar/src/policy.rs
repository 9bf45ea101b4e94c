//! `sidecar policy`: what a signed policy allows, and whether it would be put in force.

mod arguments;
mod words;

use std::sync::Arc;

use postern_attest::Policy;
use postern_attest::policy::{MAX_POLICY_BYTES, MAX_SIGNATURE_BYTES, PolicyError};
use postern_attest_io::{HighWater, HighWaterError, PolicyFiles, PolicyKeeper, PolicyLoadError, StateFolder};
use postern_plumbing::clock::unix_now;
use postern_plumbing::exit;
use thiserror::Error;

pub use self::arguments::{Action, Check, PolicyCommand, Show};
use crate::verify::files;
use crate::verify::not_accepted::NotAccepted;

/// Ends the help.
pub const HELP: &str = "\
Signing, with minisign (https://jedisct1.github.io/minisign/) and on a machine that is not on the network:
  minisign -G -p policy.pub -s policy.key          once; the second line of policy.pub is the policy_key
  minisign -Sm policy.toml -s policy.key           writes policy.toml.minisig
  sidecar policy check policy.toml --key RW...

Put the new signature in place first and the policy second; programs take it over within seconds, and keep the last good
policy when the new one is not good.

Exit codes: 0 good, 1 not good, 64 wrong usage, 69 a file cannot be read.";

/// What was asked for was done, and the answer is no.
const NOT_GOOD: u8 = 1;

/// Why a policy is not good, or could not be looked at.
#[derive(Debug, Error)]
pub enum PolicyFailed {
    /// A file cannot be read.
    #[error("{0}")]
    File(String),
    /// It is no policy, or would not be put in force.
    #[error(transparent)]
    NotGood(#[from] PolicyError),
    /// It would not be put in force, or could not be looked at.
    #[error(transparent)]
    NotLoaded(#[from] PolicyLoadError),
    /// The mark of the time cannot be read.
    #[error(transparent)]
    Time(#[from] HighWaterError),
}

impl From<NotAccepted> for PolicyFailed {
    fn from(error: NotAccepted) -> Self {
        Self::File(error.reason.text)
    }
}

impl PolicyFailed {
    /// The code to exit with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotGood(_) | Self::NotLoaded(PolicyLoadError::Policy(_)) => NOT_GOOD,
            Self::NotLoaded(_) | Self::File(_) | Self::Time(_) => exit::UNAVAILABLE,
        }
    }
}

/// Does what was asked for, and gives what is to be printed.
///
/// # Errors
/// See [`PolicyFailed`].
pub fn run(command: &PolicyCommand) -> Result<String, PolicyFailed> {
    match &command.action {
        Action::Check(arguments) => check(arguments),
        Action::Show(arguments) => show(arguments),
    }
}

fn check(arguments: &Check) -> Result<String, PolicyFailed> {
    let (policy, now, compared) = match arguments.state_dir.clone().map(StateFolder::at) {
        Some(state) => {
            let now = HighWater::look(&state.high_water(), Arc::new(unix_now))?.now();
            (
                PolicyKeeper::check(&files_in(arguments, &state), now)?,
                now,
                ", and no older than what was in force before",
            )
        }
        None => (verified(arguments, unix_now())?, unix_now(), ""),
    };
    Ok(format!("good: signed by {}{compared}\n\n{}", arguments.key, words::words(&policy, now)))
}

fn files_in(arguments: &Check, state: &StateFolder) -> PolicyFiles {
    PolicyFiles {
        policy: arguments.policy.clone(),
        signature: arguments.signature(),
        key: arguments.key.clone(),
        mark: state.policy_mark(),
    }
}

fn verified(arguments: &Check, now: u64) -> Result<Policy, PolicyFailed> {
    let text = files::read(&arguments.policy, MAX_POLICY_BYTES)?;
    let signature = files::read(&arguments.signature(), MAX_SIGNATURE_BYTES)?;
    Ok(Policy::verify(&text, &String::from_utf8_lossy(&signature), &arguments.key, None, now)?)
}

fn show(arguments: &Show) -> Result<String, PolicyFailed> {
    let policy = Policy::parse(&files::read(&arguments.policy, MAX_POLICY_BYTES)?)?;
    Ok(format!("not checked: signature and age\n\n{}", words::words(&policy, unix_now())))
}
