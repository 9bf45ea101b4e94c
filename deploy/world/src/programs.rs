//! Where the programs of a world are.

use std::path::{Path, PathBuf};

use crate::WorldError;

/// The programs that a world starts, and the repository that they come from.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The repository: `contracts/node_modules` and `deploy/node_modules` lie in it.
    pub repository: PathBuf,
    /// The edge.
    pub gateway: PathBuf,
    /// The program beside Postgres, and beside an application.
    pub sidecar: PathBuf,
    /// The administrator's tool for the chain.
    pub registrar: PathBuf,
    /// The guest agent of a simulated CVM.
    pub simulator: PathBuf,
    /// The chain.
    pub anvil: PathBuf,
}

impl Programs {
    /// Finds Postern's programs in one folder, and anvil where `ANVIL_BIN` says or among the repository's npm packages.
    ///
    /// # Errors
    /// When one is missing.
    pub fn find(binaries: &Path, repository: &Path) -> Result<Self, WorldError> {
        let repository = std::fs::canonicalize(repository).map_err(|error| WorldError::file(repository, error))?;
        let anvil = std::env::var_os("ANVIL_BIN")
            .map_or_else(|| repository.join("contracts/node_modules/.bin/anvil"), PathBuf::from);
        Ok(Self {
            gateway: existing(binaries.join("gateway"), "cargo build")?,
            sidecar: existing(binaries.join("sidecar"), "cargo build")?,
            registrar: existing(binaries.join("registrar"), "cargo build")?,
            simulator: existing(binaries.join("simulator"), "cargo build")?,
            anvil: existing(anvil, "npm ci in contracts/, or set ANVIL_BIN")?,
            repository,
        })
    }

    /// Finds Postern's programs beside the one that runs, which is where cargo puts them.
    ///
    /// # Errors
    /// When one is missing.
    pub fn beside_this_one(repository: &Path) -> Result<Self, WorldError> {
        let this = std::env::current_exe().map_err(|error| WorldError::file(Path::new("/proc/self/exe"), error))?;
        Self::find(this.parent().unwrap_or(Path::new(".")), repository)
    }
}

fn existing(path: PathBuf, remedy: &str) -> Result<PathBuf, WorldError> {
    if path.is_file() {
        return Ok(path);
    }
    Err(WorldError::Missing(format!("{} is missing: run {remedy}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let error = Programs::find(folder.path(), folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("/gateway is missing: run cargo build"), "{error}");
    }
}
