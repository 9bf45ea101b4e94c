//! `loadtest run`.

use std::process::ExitCode;

use crate::Failure;

/// The command line of `loadtest run`.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Runs the command.
///
/// # Errors
/// See [`Failure`].
pub fn main(_: &Arguments) -> Result<ExitCode, Failure> {
    Err(Failure::Unavailable("this command does not exist yet".to_owned()))
}
