//! What `minisign` does with its secret key, for policies in tests and demonstrations.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest as _};

use crate::SimulatorError;

/// Stands in the trusted comment, as minisign writes the name of the signed file.
const COMMENT: &str = "file:policy.toml";

/// A key that signs policies. It follows from a seed, so that it protects nothing.
pub struct PolicySigner {
    pair: Ed25519KeyPair,
    id: [u8; 8],
}

impl PolicySigner {
    /// The key of a seed.
    ///
    /// # Errors
    /// When the seed gives no key.
    pub fn new(seed: [u8; 32]) -> Result<Self, SimulatorError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| SimulatorError::NoKey)?;
        let [a, b, c, d, e, f, g, h, ..] = seed;
        Ok(Self { pair, id: [a, b, c, d, e, f, g, h] })
    }

    /// The public key, one line of base64, as it stands in a configuration.
    #[must_use]
    pub fn public_key(&self) -> String {
        STANDARD.encode([b"Ed", &self.id[..], self.pair.public_key().as_ref()].concat())
    }

    /// The text of the signature file of a policy.
    #[must_use]
    pub fn sign(&self, policy: &[u8]) -> String {
        let signature = self.pair.sign(&Blake2b512::digest(policy));
        let global = self.pair.sign(&[signature.as_ref(), COMMENT.as_bytes()].concat());
        let signature = STANDARD.encode([b"ED", &self.id[..], signature.as_ref()].concat());
        let global = STANDARD.encode(global.as_ref());
        format!("untrusted comment: a simulated signature\n{signature}\ntrusted comment: {COMMENT}\n{global}\n")
    }
}

impl std::fmt::Debug for PolicySigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicySigner").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use postern_attest::policy::PolicyKey;

    use super::*;

    #[test]
    fn a_signature_is_one_that_verifiers_of_policies_take() {
        let signer = PolicySigner::new([1; 32]).unwrap();
        let key: PolicyKey = signer.public_key().parse().unwrap();
        key.verify(b"version = 1", &signer.sign(b"version = 1")).unwrap();
        key.verify(b"version = 2", &signer.sign(b"version = 1")).unwrap_err();
        PolicySigner::new([2; 32])
            .unwrap()
            .public_key()
            .parse::<PolicyKey>()
            .unwrap()
            .verify(b"", &signer.sign(b""))
            .unwrap_err();
    }
}
