//! What each command does.

mod app;
mod check;
mod compose_hash;
mod device;
mod gateway_app;
mod init;
mod os_image;

use alloy::primitives::{Address, B256};
use postern_identity::AppId;
use serde_json::{Value, json};

use crate::chain::Chain;
use crate::cli::{Command, Options, hash_file};
use crate::failure::Failure;
use crate::logs::Member;
use crate::report::Report;
use crate::settings::{self, Needs};
use crate::transact::Done;

/// Runs a command.
pub(crate) async fn run(options: &Options, command: &Command) -> Result<Report, Failure> {
    if let Command::Hash { file } = command {
        let hash = B256::from(hash_file(file)?.0);
        return Ok(Report::new(json!({"compose_hash": hash})).line(hash.to_string()));
    }
    let settings = settings::load(options, needs(command)).map_err(Failure::Config)?;
    let chain = Chain::connect(settings).await?;
    match command {
        Command::Init { owner } => init::run(&chain, *owner).await,
        Command::App(command) => app::run(&chain, command).await,
        Command::ComposeHash(command) => compose_hash::run(&chain, command).await,
        Command::OsImage(command) => os_image::run(&chain, command).await,
        Command::Device(command) => device::run(&chain, command).await,
        Command::GatewayApp(command) => gateway_app::run(&chain, command).await,
        Command::Check(arguments) => check::run(&chain, arguments).await,
        Command::Hash { .. } => Err(Failure::Unexpected("`hash` needs no chain".to_owned())),
    }
}

fn needs(command: &Command) -> Needs {
    use crate::cli::{AppCommand, ComposeHashCommand, DeviceCommand, GatewayAppCommand, OsImageCommand};
    let key = match command {
        Command::Init { .. } => true,
        Command::App(command) => matches!(command, AppCommand::Create(_)),
        Command::ComposeHash(command) => !matches!(command, ComposeHashCommand::List { .. }),
        Command::OsImage(command) => !matches!(command, OsImageCommand::List),
        Command::Device(command) => !matches!(command, DeviceCommand::List { .. }),
        Command::GatewayApp(command) => matches!(command, GatewayAppCommand::Set { .. }),
        Command::Hash { .. } | Command::Check(_) => false,
    };
    Needs { kms: !matches!(command, Command::Init { .. } | Command::Hash { .. }), key }
}

/// An app's address.
fn address(app: &AppId) -> Address {
    Address::from(app.0)
}

/// One change of what is allowed: the value, and the transaction that made it if one was needed.
struct Change {
    value: String,
    done: Option<Done>,
}

/// Tells what was changed and in which block, one line for each value.
fn changes(made: &str, already: &str, changes: &[Change]) -> Report {
    let line = |change: &Change| match &change.done {
        Some(done) => format!("{} {made} in block {} {}", change.value, done.block, done.block_hash),
        None => format!("{} {already}: nothing to do", change.value),
    };
    let entry = |change: &Change| {
        let done = change.done.as_ref();
        json!({
            "value": change.value,
            "changed": done.is_some(),
            "transaction": done.map(Done::transaction),
            "block": done.map(|done| done.block),
            "block_hash": done.map(|done| done.block_hash),
            "block_timestamp": done.map(|done| done.timestamp),
        })
    };
    Report::new(json!({"changes": changes.iter().map(entry).collect::<Vec<_>>()})).lines(changes.iter().map(line))
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
