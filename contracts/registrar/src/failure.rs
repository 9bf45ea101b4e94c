//! Everything that can keep the registrar from doing what it was asked.

use std::io;
use std::path::PathBuf;

use alloy::primitives::{Address, B256};
use postern_plumbing::config::Problems;
use postern_plumbing::exit;
use postern_watch::transport::ConnectError;

/// The chain said no: exit code of a refused `check` and of a reverted transaction.
pub(crate) const REFUSED: u8 = 1;

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration is wrong.
    #[error("the configuration is wrong:\n{0}")]
    Config(Problems),
    /// The endpoint cannot be used.
    #[error("the endpoint cannot be used: {0}")]
    Connect(#[from] ConnectError),
    /// The endpoint did not answer, or not sensibly.
    #[error("{what}: {why}")]
    Endpoint {
        /// What was asked of it.
        what: &'static str,
        /// What went wrong.
        why: String,
    },
    /// The contract refused the call.
    #[error("{what}: the contract refused: {reason}")]
    Reverted {
        /// What was asked of it.
        what: &'static str,
        /// Why, in words.
        reason: String,
    },
    /// The transaction was mined, but did nothing.
    #[error("the transaction {transaction} was mined in block {block} and reverted")]
    Failed {
        /// Its hash.
        transaction: B256,
        /// The block's height.
        block: u64,
    },
    /// The transaction was sent, and it is not known what became of it.
    #[error("the transaction {transaction} was sent, but {why}; look for it before you send another")]
    Unconfirmed {
        /// Its hash.
        transaction: B256,
        /// What is not known.
        why: String,
    },
    /// Nothing is deployed at the address.
    #[error("there is no contract at {0}")]
    NoContract(Address),
    /// A transaction did not leave the trace that it should have.
    #[error("{0}")]
    Unexpected(String),
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any app-compose.json.
    #[error("{} is longer than {limit} bytes", path.display())]
    FileTooLong {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
    },
    /// The runtime cannot start.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl Failure {
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Connect(_) => exit::CONFIG,
            Self::Endpoint { .. } => exit::UNAVAILABLE,
            Self::Reverted { .. } | Self::Failed { .. } => REFUSED,
            Self::Unconfirmed { .. } => exit::TEMPFAIL,
            Self::NoContract(_) | Self::File { .. } | Self::FileTooLong { .. } => exit::USAGE,
            Self::Unexpected(_) | Self::Runtime(_) => exit::SOFTWARE,
        }
    }

    /// The word for scripts.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Connect(_) | Self::Endpoint { .. } => "endpoint",
            Self::Reverted { .. } | Self::Failed { .. } => "reverted",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::NoContract(_) => "no_contract",
            Self::File { .. } | Self::FileTooLong { .. } => "file",
            Self::Unexpected(_) | Self::Runtime(_) => "internal",
        }
    }
}
