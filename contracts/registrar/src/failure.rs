//! Everything that can keep the registrar from doing what it was asked.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use postern_plumbing::config::Problems;
use postern_plumbing::exit;
use postern_watch::transport::ConnectError;

/// The chain said no: exit code of a refused `check` and of a reverted transaction.
pub(crate) const REFUSED: u8 = 1;

/// Something was sent or asked, and it is not known what came of it.
pub(crate) const UNKNOWN: u8 = 2;

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
    /// A contract answered with something else than what was asked for, so it is another contract.
    #[error("{what}: the contract does not answer as expected: {why}")]
    Unreadable {
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
    /// Somebody else governs the contract. Nothing was sent.
    #[error("{account:#x} is not the owner of {contract:#x}: {owner:#x} is{hint}")]
    NotOwner {
        /// Who wanted to change something.
        account: Address,
        /// The contract.
        contract: Address,
        /// Who could.
        owner: Address,
        /// How the owner could, or nothing.
        hint: &'static str,
    },
    /// The contract is offered to somebody else. Nothing was sent.
    #[error("{contract:#x} is not offered to {account:#x}, but to {}", offered(pending))]
    NotHeir {
        /// Who wanted to accept it.
        account: Address,
        /// The contract.
        contract: Address,
        /// Who could, or zero.
        pending: Address,
    },
    /// The timelock does not let this account do this. Nothing was sent.
    #[error("{account:#x} may not {act} at the timelock {timelock:#x}")]
    NoOfficer {
        /// Who wanted to.
        account: Address,
        /// The timelock.
        timelock: Address,
        /// What, as a verb.
        act: &'static str,
    },
    /// The timelock has this change already. Nothing was sent.
    #[error("this is proposed already, as {id}; it can be executed from {ready_at} (Unix time) on")]
    Pending {
        /// The proposal.
        id: B256,
        /// Unix seconds.
        ready_at: u64,
    },
    /// The node did not take the transaction.
    #[error("{what}: the node does not take the transaction: {why}")]
    Rejected {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// Another transaction with the same nonce was mined instead.
    #[error(
        "the transaction {transaction} was overtaken by another of this key (nonce {nonce}); look what that one did"
    )]
    Overtaken {
        /// Its hash.
        transaction: B256,
        /// Its nonce.
        nonce: u64,
    },
    /// The transaction was mined, but did nothing.
    #[error("the transaction {transaction} was mined in block {block} and reverted{}", because(reason.as_deref()))]
    Failed {
        /// Its hash.
        transaction: B256,
        /// The block's height.
        block: u64,
        /// Why, if the node could tell.
        reason: Option<String>,
    },
    /// The time for the whole command is up.
    #[error("not done within {} s (deadlines.command); what was sent may still be mined", .0.as_secs())]
    OutOfTime(Duration),
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
    /// This cannot be done, or not in this way.
    #[error("{0}")]
    Unsupported(String),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Output {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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
    /// The file is no text.
    #[error("{} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// The runtime cannot start.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

impl Failure {
    /// What an error of the node means when it was given a transaction: not that it is away, but that it does not want it.
    pub(crate) fn of_sending(self) -> Self {
        if let Self::Endpoint { what, why } = self { Self::Rejected { what, why } } else { self }
    }

    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Connect(_) => exit::CONFIG,
            Self::Endpoint { .. } => exit::UNAVAILABLE,
            Self::Reverted { .. }
            | Self::Failed { .. }
            | Self::NotOwner { .. }
            | Self::NotHeir { .. }
            | Self::NoOfficer { .. }
            | Self::Pending { .. }
            | Self::Rejected { .. } => REFUSED,
            Self::Unconfirmed { .. } | Self::Overtaken { .. } | Self::OutOfTime(_) => UNKNOWN,
            Self::NoContract(_)
            | Self::Unreadable { .. }
            | Self::File { .. }
            | Self::FileTooLong { .. }
            | Self::NotText(_)
            | Self::Output { .. }
            | Self::Unsupported(_) => exit::USAGE,
            Self::Unexpected(_) | Self::Runtime(_) => exit::SOFTWARE,
        }
    }

    /// The word for scripts.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Connect(_) | Self::Endpoint { .. } => "endpoint",
            Self::Reverted { .. } | Self::Failed { .. } => "reverted",
            Self::NotOwner { .. } | Self::NotHeir { .. } | Self::NoOfficer { .. } => "not_owner",
            Self::Pending { .. } => "pending",
            Self::Rejected { .. } => "rejected",
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::Overtaken { .. } => "overtaken",
            Self::OutOfTime(_) => "out_of_time",
            Self::NoContract(_) | Self::Unreadable { .. } => "no_contract",
            Self::Unsupported(_) => "unsupported",
            Self::File { .. } | Self::FileTooLong { .. } | Self::NotText(_) | Self::Output { .. } => "file",
            Self::Unexpected(_) | Self::Runtime(_) => "internal",
        }
    }
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(": {reason}")).unwrap_or_default()
}

fn offered(pending: &Address) -> String {
    if pending.is_zero() { "nobody".to_owned() } else { format!("{pending:#x}") }
}
