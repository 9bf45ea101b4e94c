use std::io;
use std::path::{Path, PathBuf};

use postern_attest::{Collateral, CollateralError, MAX_BUNDLE_BYTES, TrustRoot};

use super::folder;
use crate::attestor::Clock;
use crate::durable;
use crate::high_water::{CollateralRolledBack, HighWater, HighWaterError};
use crate::state::{StateError, StateFolder};

/// Why a bundle could not be written or taken over.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds no collateral that counts.
    #[error("{path}: {source}")]
    Collateral {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: CollateralError,
    },
    /// The state folder cannot be used.
    #[error("the state folder: {0}")]
    State(#[from] StateError),
    /// The mark below which no collateral is accepted cannot be read or raised.
    #[error("the mark of accepted collateral: {0}")]
    HighWater(#[from] HighWaterError),
    /// It is older than what was accepted before.
    #[error(transparent)]
    RolledBack(#[from] CollateralRolledBack),
}

/// Writes collateral to a file that can be carried into a network without a way to Intel. The file is there in full or not
/// at all.
///
/// # Errors
/// When the file cannot be written.
pub fn export(collateral: &Collateral, path: &Path) -> Result<(), BundleError> {
    let bytes = collateral.to_json().map_err(|source| BundleError::Collateral { path: path.to_owned(), source })?;
    durable::replace(path, &bytes).map_err(|source| BundleError::File { path: path.to_owned(), source })
}

/// Reads a file that [`export`] wrote, whatever it is worth.
///
/// # Errors
/// When the file cannot be read or holds no collateral.
pub fn read(path: &Path) -> Result<Collateral, BundleError> {
    let file = |source| BundleError::File { path: path.to_owned(), source };
    let bytes = durable::read(path, MAX_BUNDLE_BYTES).map_err(file)?;
    let bytes = bytes.ok_or_else(|| file(io::ErrorKind::NotFound.into()))?;
    Collateral::from_json(&bytes).map_err(|source| BundleError::Collateral { path: path.to_owned(), source })
}

/// Reads a file that [`export`] wrote, provided that all of it verifies under `root` and is in force at `now`.
///
/// # Errors
/// When the file cannot be read or holds anything else.
pub fn import(path: &Path, root: &TrustRoot, now: u64) -> Result<Collateral, BundleError> {
    let collateral = read(path)?;
    let verified = collateral.verify(root, now);
    verified.map_err(|source| BundleError::Collateral { path: path.to_owned(), source })?;
    Ok(collateral)
}

/// Takes the bundle in a file over into a state folder that no program uses at the moment, as a program would that fetched it:
/// all of it verifies under `root`, is in force, and is no step back. `clock` is the host's.
///
/// # Errors
/// When the folder or the file cannot be used, or the bundle is not good. Nothing was taken over then.
pub fn store(path: &Path, root: &TrustRoot, state: &StateFolder, clock: Clock) -> Result<Collateral, BundleError> {
    let _lock = state.lock()?;
    let high_water = HighWater::open(state.high_water(), clock)?;
    let collateral = import(path, root, high_water.now())?;
    high_water.check(&collateral)?;
    // The mark first: a crash in between loses what can be carried in again, and not the memory of how new it was.
    high_water.record(&collateral)?;
    let folder = state.collateral();
    folder::write(&folder, &collateral).map_err(|source| BundleError::File { path: folder.clone(), source })?;
    Ok(collateral)
}

/// What a state folder holds, whatever it is worth. A program may use the folder meanwhile.
///
/// # Errors
/// When there is no such folder.
pub fn stored(state: &StateFolder) -> Result<Collateral, StateError> {
    if !state.path().is_dir() {
        return Err(StateError::Missing(state.path().to_owned()));
    }
    let mut all = Collateral::default();
    folder::read(&state.collateral()).into_iter().for_each(|set| all.merge(set));
    Ok(all)
}
