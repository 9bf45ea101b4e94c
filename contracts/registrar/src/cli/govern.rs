//! The commands that create and govern contracts.

use alloy::primitives::{Address, B256};
use clap::{Args, Subcommand};
use postern_identity::{AppId, DeviceId};

use super::Compose;
use crate::timelock::parse_span;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AppCommand {
    /// Create an app and register it. Prints its id.
    #[command(after_help = "Example:\n  registrar app create --compose app-compose.json --allow-any-device")]
    Create(CreateArguments),
    /// List all registered apps.
    List,
    /// Show what an app allows and who governs it.
    Show {
        /// The app.
        app: AppId,
    },
    /// Offer an app to another owner, who has to accept it.
    Transfer {
        /// The app.
        app: AppId,
        /// The heir.
        to: Address,
    },
    /// Accept an app that is offered to the signer, or to the timelock.
    Accept {
        /// The app.
        app: AppId,
    },
    /// Refuse all CVMs of an app until `unpause`. Live sessions are cut.
    Pause {
        /// The app.
        app: AppId,
    },
    /// End a pause. What the rules allow is allowed again.
    Unpause {
        /// The app.
        app: AppId,
    },
    /// Refuse platforms whose TCB status is not UpToDate, or stop doing so.
    #[command(after_help = "Example:\n  registrar app require-tcb 0x1c5b... true")]
    RequireTcb {
        /// The app.
        app: AppId,
        /// Whether the status must be UpToDate.
        #[arg(value_name = "true|false", action = clap::ArgAction::Set)]
        require: bool,
    },
    /// Register an app whose contract is there already. Only the owner of the KMS contract can after `deregister`.
    Register {
        /// The app.
        app: AppId,
    },
    /// Refuse an app whatever its own contract says, and let nobody else register it again. For the owner of the KMS
    /// contract. Live sessions are cut; CVMs that run keep the keys that they were given.
    Deregister {
        /// The app.
        app: AppId,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum KmsCommand {
    /// Show who governs the contract, and what it can do.
    Show,
    /// Offer the contract to another owner, who has to accept it.
    Transfer {
        /// The heir.
        to: Address,
    },
    /// Accept the contract, if it is offered to the signer or to the timelock.
    Accept,
    /// Which measurements key management servers may have.
    #[command(subcommand)]
    Measurement(WordsCommand),
    /// Which machines may host key management servers. Apps have their own: see `device`.
    #[command(subcommand)]
    Device(WordsCommand),
    /// Refuse everybody until `unpause`. Live sessions of all apps are cut.
    Pause,
    /// End a pause. What the rules allow is allowed again.
    Unpause,
}

/// What can be done with a list of 32-byte values.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum WordsCommand {
    /// Allow values, in one transaction where the contract can.
    Add {
        /// 32 bytes each, in hex.
        #[arg(required = true, value_name = "HEX", value_parser = word)]
        values: Vec<B256>,
    },
    /// Stop allowing values.
    Remove {
        /// 32 bytes each, in hex.
        #[arg(required = true, value_name = "HEX", value_parser = word)]
        values: Vec<B256>,
    },
    /// List the values that are allowed.
    List,
}

/// Reads 32 bytes in hex, with or without 0x, as other identifiers are read.
fn word(text: &str) -> Result<B256, String> {
    let expected = |_| "expected 64 hex digits, with or without 0x".to_owned();
    text.parse().map(|DeviceId(word)| B256::from(word)).map_err(expected)
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TimelockCommand {
    /// Deploy a timelock. Then transfer contracts to it, and accept them with --timelock.
    #[command(after_help = "Example:\n  registrar timelock create --delay 2d")]
    Create {
        /// How long a change must be visible, such as 12h or 2d.
        #[arg(long, value_name = "TIME", value_parser = parse_span)]
        delay: u64,
        /// Who may propose, cancel, and tighten at once. The signer, if left out.
        #[arg(long, value_name = "ADDRESS")]
        proposer: Vec<Address>,
        /// Who may execute what has waited long enough. Everybody, if left out.
        #[arg(long, value_name = "ADDRESS")]
        executor: Vec<Address>,
    },
    /// List what waits, and from when on it can be executed. Any change with --timelock proposes.
    List,
    /// Execute a proposal that has waited long enough.
    Execute {
        /// Its id.
        id: B256,
    },
    /// Drop a proposal.
    Cancel {
        /// Its id.
        id: B256,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CreateArguments {
    /// Who may govern the app. The signer, if left out.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) owner: Option<Address>,
    /// A first compose hash to allow: the hash, or an app-compose.json.
    #[arg(long, value_name = "HASH|FILE")]
    pub(crate) compose: Option<Compose>,
    /// A first device to allow.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<DeviceId>,
    /// Allow every device.
    #[arg(long)]
    pub(crate) allow_any_device: bool,
    /// Refuse platforms whose TCB status is not UpToDate.
    #[arg(long)]
    pub(crate) require_tcb_up_to_date: bool,
    /// Make the contract final: nobody can ever replace its code.
    #[arg(long)]
    pub(crate) disable_upgrades: bool,
}
