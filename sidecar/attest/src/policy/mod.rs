//! The signed policy: which root, platforms, images, applications and compositions are believed, in one document that an
//! auditor can read. `policy.toml` beside this crate is an example with every key explained.

mod cohort;
mod document;
mod signature;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Appraisal, Appraiser, PeerPolicy, PolicyRefusal, TcbPolicy, TrustRoot};

pub use cohort::{Cohorts, Image};
pub use signature::{PolicyKey, SignatureError};

/// A document of more bytes than this is refused unread.
pub const MAX_POLICY_BYTES: usize = 1024 * 1024;
/// A signature file of more bytes than this is refused unread.
pub const MAX_SIGNATURE_BYTES: usize = 4 * 1024;

/// What is believed, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// Grows with every change. An older policy than the last good one is refused.
    pub version: u64,
    /// From this second on, since 1970, nobody is welcome under this policy.
    pub expires: u64,
    /// The root that quotes have to be signed under.
    pub root: TrustRoot,
    /// Which platforms are good enough.
    pub tcb: TcbPolicy,
    /// Which applications and compositions are welcome.
    pub peers: PeerPolicy,
    /// Which images are welcome. `None` means any, which the document has to say in so many words.
    pub cohorts: Option<Cohorts>,
    digest: [u8; 32],
}

/// What is remembered of the last good policy, so that an older one is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyMark {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its text.
    #[serde(with = "hex")]
    pub digest: [u8; 32],
}

/// Why a policy is not put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is larger than any policy.
    #[error("the policy has {0} bytes, of at most {MAX_POLICY_BYTES}")]
    TooLarge(usize),
    /// Its signature is not one of the key.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is not a policy.
    #[error("the policy cannot be read: {0}")]
    Document(String),
    /// It has ended.
    #[error("the policy expired at {expires}, and it is {now}")]
    Expired {
        /// Its end, seconds since 1970.
        expires: u64,
        /// The time of the verification.
        now: u64,
    },
    /// A newer one has been in force.
    #[error("the policy has version {found}, and version {last} has been in force")]
    Rollback {
        /// Its version.
        found: u64,
        /// The newest version that was in force.
        last: u64,
    },
    /// Another one of the same version has been in force.
    #[error("another policy of version {0} has been in force; a change needs a new version")]
    SameVersion(u64),
}

impl Policy {
    /// Reads a policy whose origin and age are of no concern, for example to check it before it is signed.
    ///
    /// # Errors
    /// When it is too large or not a policy.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLarge(text.len()));
        }
        let text_utf8 = std::str::from_utf8(text).map_err(|error| PolicyError::Document(error.to_string()))?;
        document::read(text_utf8, Sha256::digest(text).into())
    }

    /// Reads a policy that is to be put in force at `now`. `signature` is the text of minisign's signature file; `last` is
    /// the mark of the last good policy.
    ///
    /// # Errors
    /// When it is not signed by `key`, not a policy, expired, older than `last` or of its version with another text.
    pub fn verify(
        text: &[u8],
        signature: &str,
        key: &PolicyKey,
        last: Option<PolicyMark>,
        now: u64,
    ) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(PolicyError::TooLarge(text.len()));
        }
        // Nothing is made of a text before it is known who wrote it.
        key.verify(text, signature)?;
        let policy = Self::parse(text)?;
        if now >= policy.expires {
            return Err(PolicyError::Expired { expires: policy.expires, now });
        }
        match last {
            Some(last) if policy.version < last.version => {
                Err(PolicyError::Rollback { found: policy.version, last: last.version })
            }
            Some(last) if policy.version == last.version && policy.digest != last.digest => {
                Err(PolicyError::SameVersion(policy.version))
            }
            _ => Ok(policy),
        }
    }

    /// What has to be remembered once this policy was in force.
    #[must_use]
    pub fn mark(&self) -> PolicyMark {
        PolicyMark { version: self.version, digest: self.digest }
    }

    /// The judge that this policy asks for.
    #[must_use]
    pub fn appraiser(&self) -> Appraiser {
        Appraiser::new(self.root.clone(), self.tcb.clone())
    }

    /// Whether a verified peer is welcome at `now`.
    ///
    /// # Errors
    /// When it is not, with the first thing that is wrong.
    pub fn check(&self, peer: &Appraisal, now: u64) -> Result<(), PolicyRefusal> {
        if now >= self.expires {
            return Err(PolicyRefusal::PolicyExpired { expires: self.expires });
        }
        if let Some(cohorts) = &self.cohorts {
            cohorts.check(&Image::of(peer))?;
        }
        self.peers.check(peer)
    }
}

impl PolicyError {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too_large",
            Self::Signature(_) => "signature",
            Self::Document(_) => "malformed",
            Self::Expired { .. } => "expired",
            Self::Rollback { .. } | Self::SameVersion(_) => "rollback",
        }
    }
}
