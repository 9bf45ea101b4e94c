//! The options that stand behind any command.

use std::path::PathBuf;

use alloy::primitives::Address;
use clap::Args;
use postern_plumbing::secret::Secret;
use postern_watch::Url;

use crate::settings::Delivery;

/// What every command understands.
#[derive(Debug, Default, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Options {
    /// The configuration file.
    #[arg(short, long, global = true, value_name = "FILE", env = "POSTERN_REGISTRAR_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// Write one JSON document to standard output instead of text, also when it fails.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The JSON-RPC endpoint (key rpc_url).
    #[arg(long = "rpc", visible_alias = "rpc-url", global = true, value_name = "URL")]
    pub(crate) rpc_url: Option<Url>,

    /// The number that the chain must have (key chain_id).
    #[arg(long, global = true, value_name = "NUMBER")]
    pub(crate) chain_id: Option<u64>,

    /// The KMS contract (key kms_contract).
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) kms: Option<Address>,

    /// The file with the key that signs: a keystore or hex digits (key key_file).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// The file with the keystore's password, which is asked for otherwise (key password_file).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,

    /// The key itself, for test networks: everybody on this machine can read it (key insecure_key).
    #[arg(long, global = true, value_name = "HEX", conflicts_with = "key_file", value_parser = secret)]
    pub(crate) insecure_key: Option<Secret>,

    /// The timelock that owns the contract: changes are proposed to it (key timelock).
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) timelock: Option<Address>,

    /// Show calls with their calldata and gas, and send nothing.
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,

    /// Write calls to a file for Safe's transaction builder, and send nothing. Needs no key.
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["dry_run", "timelock"])]
    pub(crate) safe: Option<PathBuf>,

    /// How many blocks deep a transaction must be, its own included (key confirmations).
    #[arg(long, global = true, value_name = "BLOCKS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) wait: Option<u64>,

    /// The block from which logs are read (key logs.from_block).
    #[arg(long, global = true, value_name = "NUMBER")]
    pub(crate) from_block: Option<u64>,
}

impl Options {
    pub(crate) fn delivery(&self) -> Delivery {
        match &self.safe {
            Some(path) => Delivery::Safe(path.clone()),
            None if self.dry_run => Delivery::Show,
            None => Delivery::Send,
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "clap calls it and expects that a value can be refused")]
fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text.to_owned()))
}
