//! The key that signs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use alloy::signers::local::PrivateKeySigner;
use postern_plumbing::secret::{Secret, SecretError};

/// Why a key file cannot be used. Never holds any of the key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("cannot look at the key file {path}: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{0} is not a file")]
    NotAFile(String),
    #[error("the key file {path} can be read by others (mode {mode:03o}): run `chmod 600 {path}`")]
    Exposed { path: String, mode: u32 },
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the key file {0} does not hold a key: 64 hex digits are expected, with or without 0x")]
    NotAKey(String),
}

/// Reads a key from a file that only its owner can read.
pub(crate) fn read(path: &Path) -> Result<PrivateKeySigner, KeyError> {
    let name = || path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(|source| KeyError::Unreadable { path: name(), source })?;
    if !metadata.is_file() {
        return Err(KeyError::NotAFile(name()));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: name(), mode });
    }
    let secret = Secret::from_file(path)?;
    secret.expose().trim().parse().map_err(|_| KeyError::NotAKey(name()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::path::PathBuf;

    use super::*;

    const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

    fn file(folder: &tempfile::TempDir, content: &str, mode: u32) -> PathBuf {
        let path = folder.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_key_is_read_in_either_form() {
        let folder = tempfile::tempdir().unwrap();
        for content in [KEY.to_owned(), format!("0x{KEY}\n")] {
            let signer = read(&file(&folder, &content, 0o600)).unwrap();
            assert_eq!(signer.address(), postern_devnet::FIRST_ACCOUNT);
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let error = read(&file(&folder, KEY, mode)).unwrap_err();
            assert!(matches!(error, KeyError::Exposed { mode: found, .. } if found == mode));
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_repeated() {
        let folder = tempfile::tempdir().unwrap();
        for content in ["correct horse battery staple", &KEY[1..], &"0".repeat(64)] {
            let error = read(&file(&folder, content, 0o600)).unwrap_err();
            assert!(matches!(error, KeyError::NotAKey(_)));
            assert!(!format!("{error} {error:?}").contains(content));
        }
        assert!(matches!(read(folder.path()).unwrap_err(), KeyError::NotAFile(_)));
    }
}
