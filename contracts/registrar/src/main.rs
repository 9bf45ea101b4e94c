//! The owner's command: deploy the contracts, register apps, add and remove what may run.

mod abi;
mod chain;
mod cli;
mod commands;
mod failure;
mod flight;
mod key;
mod lists;
mod logs;
mod plan;
mod progress;
mod report;
mod revert;
mod settings;
mod timelock;
mod transact;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use postern_plumbing::telemetry::{self, LogFormat};
use postern_plumbing::{exit, memory};

use cli::{Arguments, Command};
use failure::Failure;
use report::Report;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let code = if message.use_stderr() { exit::USAGE } else { exit::OK };
            return if message.print().is_ok() { code.into() } else { exit::SOFTWARE.into() };
        }
    };
    if arguments.print_config {
        return finish(report::write_out(settings::DEFAULT), exit::OK);
    }
    let Some(command) = &arguments.command else {
        let failure = Arguments::command().error(ErrorKind::MissingSubcommand, "what should be done? See --help");
        return finish(failure.print(), exit::USAGE);
    };
    telemetry::init(LogFormat::Auto, "warn");
    match run(&arguments, command) {
        Ok(report) => {
            let code = if report.is_refusal { failure::REFUSED } else { exit::OK };
            finish(report.print(arguments.options.json), code)
        }
        Err(failure) => finish(report::complain(&failure, arguments.options.json), failure.exit_code()),
    }
}

fn run(arguments: &Arguments, command: &Command) -> Result<Report, Failure> {
    memory::protect().map_err(Failure::Runtime)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(commands::run(&arguments.options, command))
}

fn finish(written: std::io::Result<()>, code: u8) -> ExitCode {
    match written {
        Ok(()) => code.into(),
        Err(_) => exit::SOFTWARE.into(),
    }
}
