//! The folder in which collateral survives restarts: one bundle for each kind of platform, under its name.

use std::io;
use std::path::Path;

use postern_attest::{Collateral, Fmspc, MAX_BUNDLE_BYTES};

use crate::durable;

const SUFFIX: &str = ".json";
/// Nobody sees more kinds of platform than this.
const MAX_FILES: usize = 256;

/// Reads what can be read. What cannot is told and left where it is.
pub(super) fn read(folder: &Path) -> Vec<Collateral> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // It is made when there is something to keep.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "the folder with collateral cannot be read");
            return Vec::new();
        }
    };
    let named =
        |entry: &std::fs::DirEntry| -> Option<Fmspc> { entry.file_name().to_str()?.strip_suffix(SUFFIX)?.parse().ok() };
    let mut all = Vec::new();
    for entry in entries.flatten().take(MAX_FILES) {
        let Some(fmspc) = named(&entry) else { continue };
        match read_one(&entry.path(), fmspc) {
            Ok(collateral) => all.push(collateral),
            Err(error) => tracing::warn!(%fmspc, %error, "kept collateral cannot be read"),
        }
    }
    all
}

fn read_one(path: &Path, fmspc: Fmspc) -> io::Result<Collateral> {
    let bytes = durable::read(path, MAX_BUNDLE_BYTES)?.ok_or(io::ErrorKind::NotFound)?;
    let collateral = Collateral::from_json(&bytes).map_err(io::Error::other)?;
    collateral.only(fmspc).ok_or_else(|| io::Error::other("it is about another kind of platform"))
}

/// Writes each kind of platform into its file.
pub(super) fn write(folder: &Path, collateral: &Collateral) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (fmspc, _) in collateral.windows() {
        let Some(only) = collateral.only(fmspc) else { continue };
        durable::replace(&folder.join(format!("{fmspc}{SUFFIX}")), &only.to_json().map_err(io::Error::other)?)?;
    }
    Ok(())
}
