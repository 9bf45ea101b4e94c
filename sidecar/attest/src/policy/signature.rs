use std::fmt;
use std::str::FromStr;

use minisign_verify::{PublicKey, Signature};

use super::MAX_SIGNATURE_BYTES;

/// The ed25519 key that signs policies, in minisign's form.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyKey {
    key: PublicKey,
    text: String,
}

/// Why a policy's signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The text is not a public key.
    #[error("expected a minisign public key, one line of base64 that starts with RW")]
    NotAKey,
    /// The text is not a signature.
    #[error("the policy's signature is not minisign's: {0}")]
    Malformed(String),
    /// The signature is by another key, or of another text.
    #[error("the policy is not signed by the expected key: {0}")]
    Wrong(String),
}

impl PolicyKey {
    /// Checks the text of a signature file against what it is said to sign. Both of minisign's forms count, the one over a
    /// BLAKE2b digest and the older one over the text itself.
    ///
    /// # Errors
    /// When it is malformed, by another key, or of another text.
    pub fn verify(&self, text: &[u8], signature: &str) -> Result<(), SignatureError> {
        if signature.len() > MAX_SIGNATURE_BYTES {
            return Err(SignatureError::Malformed("it is too long".to_owned()));
        }
        let signature = Signature::decode(signature).map_err(|error| SignatureError::Malformed(error.to_string()))?;
        self.key.verify(text, &signature, true).map_err(|error| SignatureError::Wrong(error.to_string()))
    }
}

impl FromStr for PolicyKey {
    type Err = SignatureError;

    /// Reads the base64 line, or the whole of minisign's public key file.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().ok_or(SignatureError::NotAKey)?;
        let line = if first.starts_with("untrusted comment:") { lines.next() } else { Some(first) };
        let line = line.filter(|_| lines.next().is_none()).ok_or(SignatureError::NotAKey)?;
        let key = PublicKey::from_base64(line).map_err(|_| SignatureError::NotAKey)?;
        Ok(Self { key, text: line.to_owned() })
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyKey({self})")
    }
}
