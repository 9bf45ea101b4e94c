//! Why a command gave no result.

use std::path::{Path, PathBuf};

use postern_plumbing::exit;
use postern_world::WorldError;

/// Why a command gave no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not a result.
    #[error("{path}: not a result of loadtest: {why}", path = .path.display())]
    NotAResult {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A scenario is wrong, or cannot work on this machine. Every mistake is listed.
    #[error("{0}")]
    Scenario(String),
    /// The cluster could not be built or changed.
    #[error(transparent)]
    World(#[from] WorldError),
    /// Something that is needed is not there.
    #[error("{0}")]
    Unavailable(String),
    /// The command line asks for something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The load could not be driven.
    #[error("{0}")]
    Drive(String),
    /// Nobody reads what is told.
    #[error("cannot write to the standard output: {0}")]
    Output(std::io::Error),
}

impl Failure {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Output(_) | Self::World(_) | Self::Unavailable(_) => exit::UNAVAILABLE,
            Self::NotAResult { .. } => exit::DATA,
            Self::Scenario(_) => exit::CONFIG,
            Self::Usage(_) => exit::USAGE,
            Self::Drive(_) => exit::SOFTWARE,
        }
    }

    pub(crate) fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}
