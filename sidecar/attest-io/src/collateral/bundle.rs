use std::io;
use std::path::{Path, PathBuf};

use postern_attest::{Collateral, CollateralError, MAX_BUNDLE_BYTES, TrustRoot};

use crate::durable;

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

/// Reads a file that [`export`] wrote, provided that all of it verifies under `root` and is in force at `now`.
///
/// # Errors
/// When the file cannot be read or holds anything else.
pub fn import(path: &Path, root: &TrustRoot, now: u64) -> Result<Collateral, BundleError> {
    let file = |source| BundleError::File { path: path.to_owned(), source };
    let wrong = |source| BundleError::Collateral { path: path.to_owned(), source };
    let bytes = durable::read(path, MAX_BUNDLE_BYTES).map_err(file)?;
    let bytes = bytes.ok_or_else(|| file(io::ErrorKind::NotFound.into()))?;
    let collateral = Collateral::from_json(&bytes).map_err(wrong)?;
    collateral.verify(root, now).map_err(wrong)?;
    Ok(collateral)
}
