//! What each command does.

mod app;
mod check;
mod compose_hash;
mod device;
mod gateway_app;
mod governance;
mod hash;
mod init;
mod kms;
mod os_image;
mod pins;
mod timelock;
mod watch;

use std::path::Path;

use alloy::primitives::Address;
use clap::CommandFactory as _;
use postern_identity::AppId;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::chain::Chain;
use crate::cli::{Arguments, Command, Options};
use crate::failure::Failure;
use crate::logs::Member;
use crate::plan;
use crate::report::Report;
use crate::settings::{self, Delivery, Needs};

/// Runs a command.
pub(crate) async fn run(options: &Options, command: &Command) -> Result<Report, Failure> {
    if let Command::Hash(arguments) = command {
        return hash::run(arguments);
    }
    if let Command::Completions { shell } = command {
        return completions(*shell);
    }
    if let Command::Man { folder } = command {
        return man(folder);
    }
    // Whoever types a password has all the time that it takes.
    let settings = settings::load(options, needs(command)).map_err(Failure::Config)?;
    let deadline = settings.command_deadline;
    if let Command::Watch(arguments) = command {
        return watch::run(&Chain::connect(settings).await?, arguments, options.json).await;
    }
    let work = async {
        let chain = Chain::connect(settings).await?;
        let report = change_or_ask(&chain, command).await?;
        tell_plans(&chain, report)
    };
    timeout(deadline, work).await.unwrap_or(Err(Failure::OutOfTime(deadline)))
}

async fn change_or_ask(chain: &Chain, command: &Command) -> Result<Report, Failure> {
    match command {
        Command::Init { owner } => init::run(chain, *owner).await,
        Command::App(command) => app::run(chain, command).await,
        Command::Kms(command) => kms::run(chain, command).await,
        Command::ComposeHash(command) => compose_hash::run(chain, command).await,
        Command::OsImage(command) => os_image::run(chain, command).await,
        Command::Device(command) => device::run(chain, command).await,
        Command::GatewayApp(command) => gateway_app::run(chain, command).await,
        Command::Timelock(command) => timelock::run(chain, command).await,
        Command::Check(arguments) => check::run(chain, arguments).await,
        Command::Pins { apps } => pins::run(chain, apps).await,
        Command::Hash(_) | Command::Watch(_) | Command::Completions { .. } | Command::Man { .. } => {
            Err(Failure::Unexpected("this command has no end to wait for, or needs no chain".to_owned()))
        }
    }
}

/// Tells what would have been sent, or writes it down, where nothing is sent.
fn tell_plans(chain: &Chain, report: Report) -> Result<Report, Failure> {
    let plans = chain.plans.borrow();
    match &chain.settings.delivery {
        Delivery::Send => Ok(report),
        Delivery::Show => Ok(plan::tell(&plans, report)),
        Delivery::Safe(path) => plan::for_safe(&plans, chain.chain_id, path, report),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<Report, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "registrar", &mut script);
    let script = String::from_utf8(script).map_err(|error| Failure::Unexpected(error.to_string()))?;
    Ok(Report::new(json!({"script": script})).line(script.trim_end()))
}

/// Writes a manual page for each command.
fn man(folder: &Path) -> Result<Report, Failure> {
    let written = clap_mangen::generate_to(Arguments::command(), folder);
    written.map_err(|source| Failure::Output { path: folder.to_owned(), source })?;
    let line = format!("the manual pages are in {}", folder.display());
    Ok(Report::new(json!({ "folder": folder })).line(line))
}

fn needs(command: &Command) -> Needs {
    use crate::cli::{
        AppCommand, ComposeHashCommand, DeviceCommand, GatewayAppCommand, KmsCommand, OsImageCommand, TimelockCommand,
        WordsCommand,
    };
    let key = match command {
        Command::Init { .. } => true,
        Command::App(command) => !matches!(command, AppCommand::List | AppCommand::Show { .. }),
        Command::Kms(KmsCommand::Measurement(command) | KmsCommand::Device(command)) => {
            !matches!(command, WordsCommand::List)
        }
        Command::Kms(command) => !matches!(command, KmsCommand::Show),
        Command::ComposeHash(command) => {
            !matches!(command, ComposeHashCommand::List { .. } | ComposeHashCommand::Diff(_))
        }
        Command::OsImage(command) => !matches!(command, OsImageCommand::List),
        Command::Device(command) => !matches!(command, DeviceCommand::List { .. }),
        Command::GatewayApp(command) => matches!(command, GatewayAppCommand::Set { .. }),
        Command::Timelock(command) => !matches!(command, TimelockCommand::List),
        Command::Hash(_)
        | Command::Watch(_)
        | Command::Completions { .. }
        | Command::Man { .. }
        | Command::Pins { .. }
        | Command::Check(_) => false,
    };
    Needs { kms: !matches!(command, Command::Init { .. } | Command::Timelock(_)), key }
}

/// An app's address.
fn address(app: &AppId) -> Address {
    Address::from(app.0)
}

/// Who is to own something new: the one who was named, or else the signer.
fn owner_or_signer(chain: &Chain, owner: Option<Address>) -> Result<Address, Failure> {
    let missing =
        || Failure::Unsupported("whose shall it be? There is no key, so name the owner with --owner".to_owned());
    owner.or_else(|| chain.settings.sender()).ok_or_else(missing)
}

/// A list of values that were confirmed, for people and programs.
fn list(name: &str, json: Value, members: &[Member]) -> Report {
    let entry = |member: &Member| json!({"value": member.value, "since_block": member.since_block});
    let report = Report::new(json).with(name, members.iter().map(entry).collect());
    if members.is_empty() {
        return report.line("none");
    }
    report.lines(members.iter().map(|member| format!("{}  since block {}", member.value, member.since_block)))
}
