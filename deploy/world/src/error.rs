//! Why a world could not be built or changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a world could not be built or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// A file or folder could not be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The state folder belongs to a world that runs.
    #[error("{} is in use by another world", .0.display())]
    FolderInUse(PathBuf),
    /// A folder that was named for the state holds files of somebody else.
    #[error("{} is not empty, and what is in it is not the state of a world", .0.display())]
    NotAWorld(PathBuf),
    /// The state folder belongs to somebody else, or others can write to it.
    #[error("{} is not a folder of this user that nobody else can write to", .0.display())]
    NotOurs(PathBuf),
    /// No block of free ports was found.
    #[error("no free block of ports between 10000 and 32000")]
    NoPorts,
    /// A program could not be started.
    #[error("{program} could not be started: {source}")]
    Start {
        /// Which one.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something that has to be installed is missing.
    #[error("{0}")]
    Missing(String),
    /// A process ended when it should have gone on.
    #[error("{process} ended with {status}; the end of its log:\n{log}")]
    Ended {
        /// Its name.
        process: String,
        /// How it ended.
        status: String,
        /// The last lines of its log.
        log: String,
    },
    /// A process did not become ready.
    #[error("{process} was not ready within {deadline:?}: {reason}; the end of its log:\n{log}")]
    NotReady {
        /// Its name.
        process: String,
        /// How long it had.
        deadline: Duration,
        /// What was still missing.
        reason: String,
        /// The last lines of its log.
        log: String,
    },
    /// A program that should have succeeded failed.
    #[error("{program} failed with {status}: {output}")]
    Failed {
        /// Which program, with its subcommand.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },
    /// The chain did not answer as it should.
    #[error("the chain: {0}")]
    Chain(String),
    /// The simulated platform could not be made.
    #[error("the simulated platform: {0}")]
    Simulator(#[from] postern_simulator::SimulatorError),
}

impl WorldError {
    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}
