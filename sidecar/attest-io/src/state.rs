//! The folder in which a program keeps what must survive its restarts.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Where the marks and the collateral lie. It belongs to one program at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFolder(PathBuf);

/// The right to write into a [`StateFolder`], until it is dropped. The system takes it back from a process that crashes.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// There is none. It is not made here: a disk that was not mounted would go unnoticed, and the marks with it.
    #[error("{} is no folder; make it once, on a disk that survives restarts", .0.display())]
    Missing(PathBuf),
    /// Another program writes into it.
    #[error("{} is in use by another program", .0.display())]
    InUse(PathBuf),
    /// It cannot be written to.
    #[error("{}: {source}", path.display())]
    File {
        /// The file that cannot be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateFolder {
    /// The folder at a path, which has to be there when it is used.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The mark of the time and of collateral.
    #[must_use]
    pub fn high_water(&self) -> PathBuf {
        self.0.join("high-water.json")
    }

    /// The mark of the newest signed policy.
    #[must_use]
    pub fn policy_mark(&self) -> PathBuf {
        self.0.join("policy-mark.json")
    }

    /// The folder with collateral, which is made when there is some.
    #[must_use]
    pub fn collateral(&self) -> PathBuf {
        self.0.join("collateral")
    }

    /// Whether it could be used, without taking it.
    ///
    /// # Errors
    /// When it is not there, or nothing can be written into it.
    pub fn look(&self) -> Result<(), StateError> {
        self.open().map(drop)
    }

    /// Takes the folder.
    ///
    /// # Errors
    /// When it is not there, cannot be written to, or another program has it.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        let (path, file) = self.open()?;
        match file.try_lock() {
            Ok(()) => Ok(StateLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(self.0.clone())),
            Err(TryLockError::Error(source)) => Err(StateError::File { path, source }),
        }
    }

    fn open(&self) -> Result<(PathBuf, File), StateError> {
        if !self.0.is_dir() {
            return Err(StateError::Missing(self.0.clone()));
        }
        let path = self.0.join("lock");
        match File::options().create(true).write(true).truncate(false).open(&path) {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(StateError::File { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_user_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::at(folder.path().to_owned());
        let lock = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(StateError::InUse(path)) if path == folder.path()));
        state.look().unwrap();
        drop(lock);
        state.lock().unwrap();
    }

    #[test]
    fn a_folder_that_is_missing_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::at(folder.path().join("not-mounted"));
        assert!(matches!(state.lock(), Err(StateError::Missing(_))));
        assert!(matches!(state.look(), Err(StateError::Missing(_))));
        assert!(!state.path().exists());
    }
}
