//! Arguments that can be written in more than one way.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use postern_identity::{AppId, ComposeHash, ParseIdError};
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

/// The longest app-compose.json, in bytes.
const MAX_COMPOSE: u64 = 16 * 1024 * 1024;

/// A compose hash, or the file that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compose {
    Hash(ComposeHash),
    File(PathBuf),
}

impl FromStr for Compose {
    type Err = ParseIdError;

    /// What looks like hex must be a hash: a mistyped one should not be taken for the name of a file.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let is_hex = text.starts_with("0x") || (text.len() > 8 && text.chars().all(|c| c.is_ascii_hexdigit()));
        if is_hex { text.parse().map(Self::Hash) } else { Ok(Self::File(text.into())) }
    }
}

impl Compose {
    /// The hash.
    pub(crate) fn hash(&self) -> Result<ComposeHash, Failure> {
        match self {
            Self::Hash(hash) => Ok(*hash),
            Self::File(path) => hash_file(path),
        }
    }
}

/// The SHA-256 of the raw bytes of a file.
pub(crate) fn hash_file(path: &Path) -> Result<ComposeHash, Failure> {
    Ok(ComposeHash(Sha256::digest(read_file(path)?).into()))
}

/// The raw bytes of a file that is, or becomes part of, an app-compose.json.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::File { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(failed)?.take(MAX_COMPOSE + 1);
    let mut bytes = Vec::new();
    let length = file.read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(length).is_ok_and(|length| length > MAX_COMPOSE) {
        return Err(Failure::FileTooLong { path: path.to_path_buf(), limit: MAX_COMPOSE });
    }
    Ok(bytes)
}

/// The trusted gateway, in the form that guests compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GatewayApp {
    App(AppId),
    Any,
}

impl FromStr for GatewayApp {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text == "any" { Ok(Self::Any) } else { text.parse().map(Self::App) }
    }
}

impl fmt::Display for GatewayApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(app) => app.fmt(f),
            Self::Any => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_hash_is_not_taken_for_a_file() {
        let hash = "ab".repeat(32);
        assert!(matches!(hash.parse(), Ok(Compose::Hash(_))));
        assert!(matches!(format!("0x{hash}").parse(), Ok(Compose::Hash(_))));
        for wrong in [&hash[1..], "0xzz", "0xapp-compose.json"] {
            assert!(wrong.parse::<Compose>().is_err(), "{wrong}");
        }
        assert_eq!("cafe.json".parse(), Ok(Compose::File("cafe.json".into())));
    }

    #[test]
    fn the_raw_bytes_are_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let hash = |content: &[u8]| {
            let path = folder.path().join("app-compose.json");
            std::fs::write(&path, content).unwrap();
            hash_file(&path).unwrap().to_string()
        };
        assert_eq!(hash(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_ne!(hash(b"{\"a\": 1}"), hash(b"{\"a\":1}"), "white space counts");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = hash_file(Path::new("/nonexistent/app-compose.json")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/app-compose.json"));
    }
}
