//! The binary `sidecar`.

use std::fmt::Display;
use std::future::Future;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser as _;
use postern_plumbing::config::Problems;
use postern_plumbing::{exit, memory, telemetry};
use postern_sidecar::cli::{Arguments, Command, Mode};
use postern_sidecar::collateral::{self, CollateralFailed};
use postern_sidecar::config::{Common, ConnectConfig, DEFAULT, ServeConfig};
use postern_sidecar::policy::{self, PolicyFailed};
use postern_sidecar::start::{self, StartError};
use postern_sidecar::tools::ToolError;
use postern_sidecar::verify::{self, Verify};
use postern_sidecar::{connect, serve, tools};
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    if let Err(error) = memory::protect() {
        return complain(&error, exit::SOFTWARE).into();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let code = if message.use_stderr() { exit::USAGE } else { exit::OK };
            return if message.print().is_ok() { code.into() } else { exit::SOFTWARE.into() };
        }
    };
    let code = match arguments.command {
        Command::Serve(mode) => serve_mode(&mode),
        Command::Connect(mode) => connect_mode(&mode),
        Command::Certificate(arguments) => once(tools::certificate(&arguments)),
        Command::Password(arguments) => once(tools::password(&arguments)),
        Command::Verify(arguments) => verdict(&arguments),
        Command::Collateral(command) => said(
            runtime(NonZeroUsize::MIN).map(|at| at.block_on(collateral::run(&command))),
            CollateralFailed::exit_code,
        ),
        Command::Policy(command) => said(Ok(policy::run(&command)), PolicyFailed::exit_code),
    };
    code.err().unwrap_or(exit::OK).into()
}

fn serve_mode(mode: &Mode) -> Result<(), u8> {
    let Some(config) = load(mode, |mode| ServeConfig::load(mode.config.as_deref()), |config| &config.common)? else {
        return Ok(());
    };
    let metrics = telemetry::init(config.common.log.format, config.common.log.filter.as_str());
    start::describe_metrics();
    in_operation(config.common.threads, serve::run::run(config, metrics))
}

fn connect_mode(mode: &Mode) -> Result<(), u8> {
    let Some(config) = load(mode, |mode| ConnectConfig::load(mode.config.as_deref()), |config| &config.common)? else {
        return Ok(());
    };
    let metrics = telemetry::init(config.common.log.format, config.common.log.filter.as_str());
    start::describe_metrics();
    in_operation(config.common.threads, connect::run::run(config, metrics))
}

/// The configuration; `None` when the mode was asked for something else and has done it.
fn load<T>(
    mode: &Mode,
    read: impl Fn(&Mode) -> Result<T, Problems>,
    common: impl Fn(&T) -> &Common,
) -> Result<Option<T>, u8> {
    if mode.print_config {
        print(DEFAULT);
        return Ok(None);
    }
    let config = read(mode).map_err(|problems| complain(&problems, exit::CONFIG))?;
    if !mode.check {
        return Ok(Some(config));
    }
    let mistakes = common(&config).attestation.check();
    if mistakes.is_empty() {
        print("the configuration is in order\n");
        return Ok(None);
    }
    Err(mistakes.iter().map(|mistake| complain(mistake, exit::CONFIG)).max().unwrap_or(exit::CONFIG))
}

fn in_operation(threads: NonZeroUsize, work: impl Future<Output = Result<(), StartError>>) -> Result<(), u8> {
    runtime(threads)?.block_on(work).map_err(|error| {
        tracing::error!(%error, "the sidecar has ended");
        error.exit_code()
    })
}

fn once(work: impl Future<Output = Result<(), ToolError>>) -> Result<(), u8> {
    runtime(NonZeroUsize::MIN)?.block_on(work).map_err(|error| complain(&error, error.exit_code()))
}

/// Prints what was asked for.
fn said<E: Display>(outcome: Result<Result<String, E>, u8>, exit_code: impl Fn(&E) -> u8) -> Result<(), u8> {
    match outcome? {
        Ok(text) => {
            print(&text);
            Ok(())
        }
        Err(error) => Err(complain(&error, exit_code(&error))),
    }
}

fn verdict(arguments: &Verify) -> Result<(), u8> {
    let runtime = runtime(NonZeroUsize::MIN)?;
    let report = runtime.block_on(verify::verify(arguments));
    print(&verify::render(&report, arguments.json));
    // A resolver that does not answer would be waited for.
    runtime.shutdown_background();
    match report.verdict.exit_code() {
        exit::OK => Ok(()),
        code => Err(code),
    }
}

fn runtime(threads: NonZeroUsize) -> Result<Runtime, u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads.get()).enable_all().build();
    runtime.map_err(|error| complain(&error, exit::SOFTWARE))
}

/// Standard output may be a pipe that was closed; there is nobody left to tell then.
fn print(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

fn complain(error: &dyn Display, code: u8) -> u8 {
    drop(writeln!(std::io::stderr(), "sidecar: {error}"));
    code
}
