//! The key that signs: as hex digits, or in an encrypted keystore.

use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use alloy::signers::local::{LocalSignerError, PrivateKeySigner};
use postern_plumbing::secret::{Secret, SecretError};
use serde_json::Value;

/// The most memory that a keystore may demand for its password, in bytes. Wallets ask for up to 256 MiB.
const MOST_MEMORY: u64 = 1 << 30;

/// Why a key cannot be used. Never holds any of the key.
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
    #[error("the key file {0} does not hold a key: 64 hex digits are expected, with or without 0x, or a keystore")]
    NotAKey(String),
    #[error("not a key: 64 hex digits are expected, with or without 0x")]
    NotHex,
    #[error("the keystore {path} cannot be used: {why}")]
    Keystore { path: String, why: &'static str },
    #[error("wrong password for the keystore {0}")]
    WrongPassword(String),
    #[error("the keystore {0} needs a password: name a file with --password-file, as there is no terminal to ask on")]
    NoPassword(String),
    #[error("cannot ask for the password: {0}")]
    Prompt(std::io::Error),
}

/// Reads a key from a file: hex digits that only the file's owner can read, or a keystore (Web3 secret storage), whose
/// password is in another file or asked for.
pub(crate) fn read(path: &Path, password_file: Option<&Path>) -> Result<PrivateKeySigner, KeyError> {
    let name = || path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(|source| KeyError::Unreadable { path: name(), source })?;
    if !metadata.is_file() {
        return Err(KeyError::NotAFile(name()));
    }
    let secret = Secret::from_file(path)?;
    if secret.expose().trim_start().starts_with('{') {
        return unlock(path, secret.expose(), password_file);
    }
    private(path)?;
    secret.expose().trim().parse().map_err(|_| KeyError::NotAKey(name()))
}

/// Reads a key that was given as it is.
pub(crate) fn parse(secret: &Secret) -> Result<PrivateKeySigner, KeyError> {
    secret.expose().trim().parse().map_err(|_| KeyError::NotHex)
}

/// Whether only its owner can read a file.
fn private(path: &Path) -> Result<(), KeyError> {
    let name = || path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(|source| KeyError::Unreadable { path: name(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(KeyError::Exposed { path: name(), mode }) }
}

fn unlock(path: &Path, keystore: &str, password_file: Option<&Path>) -> Result<PrivateKeySigner, KeyError> {
    let name = path.display().to_string();
    if let Some(why) = fault(keystore) {
        return Err(KeyError::Keystore { path: name, why });
    }
    let password = match password_file {
        Some(file) => {
            private(file)?;
            Secret::from_file(file)?
        }
        None => ask(&name)?,
    };
    match PrivateKeySigner::decrypt_keystore(path, password.expose()) {
        Ok(signer) => Ok(signer),
        Err(LocalSignerError::EthKeystoreError(error)) if error.to_string().contains("Mac Mismatch") => {
            Err(KeyError::WrongPassword(name))
        }
        Err(_) => Err(KeyError::Keystore { path: name, why: "it cannot be decrypted" }),
    }
}

fn ask(keystore: &str) -> Result<Secret, KeyError> {
    if !std::io::stdin().is_terminal() {
        return Err(KeyError::NoPassword(keystore.to_owned()));
    }
    rpassword::prompt_password(format!("Password for {keystore}: ")).map(Secret::new).map_err(KeyError::Prompt)
}

/// What is wrong with a keystore. The library that decrypts it takes all of this for granted.
fn fault(keystore: &str) -> Option<&'static str> {
    let Ok(keystore) = serde_json::from_str::<Value>(keystore) else { return Some("it is not JSON") };
    // Wallets have written both spellings.
    let Some(crypto) = keystore.get("crypto").or_else(|| keystore.get("Crypto")) else {
        return Some("it has no `crypto`");
    };
    let number = |name: &str| crypto.pointer(&format!("/kdfparams/{name}")).and_then(Value::as_u64);
    if number("dklen") != Some(32) {
        return Some("`dklen` is not 32");
    }
    let iv = crypto.pointer("/cipherparams/iv").and_then(Value::as_str).unwrap_or_default();
    if iv.trim_start_matches("0x").len() != 32 {
        return Some("`iv` is not 16 bytes");
    }
    if crypto.get("cipher").and_then(Value::as_str) != Some("aes-128-ctr") {
        return Some("`cipher` is not aes-128-ctr");
    }
    let memory = number("n").unwrap_or(0).saturating_mul(number("r").unwrap_or(0)).saturating_mul(128);
    (memory > MOST_MEMORY).then_some("its password function demands more than 1 GiB of memory")
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
            let signer = read(&file(&folder, &content, 0o600), None).unwrap();
            assert_eq!(signer.address(), postern_devnet::FIRST_ACCOUNT);
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620] {
            let error = read(&file(&folder, KEY, mode), None).unwrap_err();
            assert!(matches!(error, KeyError::Exposed { mode: found, .. } if found == mode));
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_repeated() {
        let folder = tempfile::tempdir().unwrap();
        for content in ["correct horse battery staple", &KEY[1..], &"0".repeat(64)] {
            let error = read(&file(&folder, content, 0o600), None).unwrap_err();
            assert!(matches!(error, KeyError::NotAKey(_)));
            assert!(!format!("{error} {error:?}").contains(content));
        }
        assert!(matches!(read(folder.path(), None).unwrap_err(), KeyError::NotAFile(_)));
    }

    /// The test vector of the Web3 secret storage definition (PBKDF2, password "testpassword").
    const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
        "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256",
        "salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    fn with_password(folder: &tempfile::TempDir, password: &str) -> PathBuf {
        let path = folder.path().join("password");
        fs::write(&path, format!("{password}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn a_keystore_is_opened_with_its_password_whoever_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let password = with_password(&folder, "testpassword");
        let signer = read(&file(&folder, KEYSTORE, 0o644), Some(&password)).unwrap();
        let key = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
        assert_eq!(signer, key.parse::<PrivateKeySigner>().unwrap());
    }

    #[test]
    fn a_wrong_password_is_told_apart_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let password = with_password(&folder, "guess");
        let error = read(&file(&folder, KEYSTORE, 0o600), Some(&password)).unwrap_err();
        assert!(matches!(error, KeyError::WrongPassword(_)) && !format!("{error} {error:?}").contains("guess"));
        fs::set_permissions(&password, Permissions::from_mode(0o644)).unwrap();
        let error = read(&file(&folder, KEYSTORE, 0o600), Some(&password)).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { .. }));
    }

    #[test]
    fn a_keystore_that_would_bring_the_reader_down_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let password = with_password(&folder, "testpassword");
        for (from, to) in [
            ("\"dklen\":32", "\"dklen\":16"),
            ("6087dab2f9fdbbfaddc31a909735c1e6", "6087"),
            ("aes-128-ctr", "aes-256-cbc"),
            ("\"c\":262144", "\"n\":4294967296,\"r\":8"),
            ("\"crypto\"", "\"cryptic\""),
            ("{\"crypto\"", "{crypto"),
        ] {
            let broken = KEYSTORE.replacen(from, to, 1);
            assert_ne!(broken, KEYSTORE, "{from}");
            let error = read(&file(&folder, &broken, 0o600), Some(&password)).unwrap_err();
            assert!(matches!(error, KeyError::Keystore { .. }), "{from}: {error}");
        }
    }
}
