//! The keys of an application, and the signatures by which dstack vouches for them.
//!
//! A KMS has one secp256k1 root key. It derives a key for each application and signs that key's public half; the application
//! key derives a key for each path and signs its public half. The seed of the platform takes the place of the root key.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use hkdf::Hkdf;
use k256::ecdsa::signature::hazmat::{PrehashSigner as _, PrehashVerifier as _};
use k256::ecdsa::{Signature, SigningKey, VerifyingKey};
use postern_identity::AppId;
use sha2::{Digest as _, Sha256};
use sha3::Keccak256;
use zeroize::Zeroizing;

use crate::{Cvm, SimulatorError};

/// dstack's salt for every key that it derives.
const KEY_SALT: &[u8] = b"RATLS";

/// The path and the purpose of the key that signs for the application.
const SIGNING_PATH: &str = "vms";
const SIGNING_PURPOSE: &str = "signing";

/// What the 32 secret bytes of a path are used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on secp256k1, over the SHA-256 of the data.
    Secp256k1,
}

/// A signature of the application, and who vouches for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Over the data: 64 bytes.
    pub signature: Vec<u8>,
    /// The key that signed: 32 bytes of Ed25519, or 33 of secp256k1.
    pub public_key: Vec<u8>,
    /// As [`Cvm::signature_chain`] gives it.
    pub chain: [Vec<u8>; 2],
}

impl Cvm {
    /// The key of a path, as dstack's `GetKey` derives it: all instances of one application share it.
    #[must_use]
    pub fn derive_key(&self, path: &str) -> Zeroizing<[u8; 32]> {
        derive(self.application_key().as_ref(), &[path.as_bytes()])
    }

    /// The public half of the key that vouches for every application, compressed.
    ///
    /// # Errors
    /// When the seed is no secp256k1 key.
    pub fn kms_root_public_key(&self) -> Result<Vec<u8>, SimulatorError> {
        Algorithm::Secp256k1.public_key(self.tee().seed())
    }

    /// Who vouches for the key of a path: the signature of the application key over its purpose and public half, and that of
    /// the root key over the application key. Each is `r || s || v`.
    ///
    /// # Errors
    /// When the seed, or a key that follows from it, is no secp256k1 key.
    pub fn signature_chain(
        &self,
        path: &str,
        purpose: &str,
        algorithm: Algorithm,
    ) -> Result<[Vec<u8>; 2], SimulatorError> {
        let application_key = self.application_key();
        let public_key = hex::encode(algorithm.public_key(&self.derive_key(path))?);
        let by_application = recoverable(&application_key, &[purpose.as_bytes(), b":", public_key.as_bytes()])?;
        let application = Algorithm::Secp256k1.public_key(&application_key)?;
        let by_root = recoverable(self.tee().seed(), &[b"dstack-kms-issued:", self.app_id().as_bytes(), &application])?;
        Ok([by_application, by_root])
    }

    /// Signs with the application's signing key.
    ///
    /// # Errors
    /// As [`Cvm::signature_chain`].
    pub fn sign(&self, algorithm: Algorithm, data: &[u8]) -> Result<Signed, SimulatorError> {
        let signature = match algorithm {
            Algorithm::Ed25519 => ed25519(&self.derive_key(SIGNING_PATH))?.sign(data).as_ref().to_vec(),
            Algorithm::Secp256k1 => return self.sign_digest(&Sha256::digest(data).into()),
        };
        self.signed(algorithm, signature)
    }

    /// Signs a digest with the application's signing key on secp256k1.
    ///
    /// # Errors
    /// As [`Cvm::signature_chain`].
    pub fn sign_digest(&self, digest: &[u8; 32]) -> Result<Signed, SimulatorError> {
        let signature: Signature = secp256k1(&self.derive_key(SIGNING_PATH))?.sign_prehash(digest).map_err(no_key)?;
        self.signed(Algorithm::Secp256k1, signature.to_bytes().to_vec())
    }

    fn signed(&self, algorithm: Algorithm, signature: Vec<u8>) -> Result<Signed, SimulatorError> {
        let public_key = algorithm.public_key(&self.derive_key(SIGNING_PATH))?;
        let chain = self.signature_chain(SIGNING_PATH, SIGNING_PURPOSE, algorithm)?;
        Ok(Signed { signature, public_key, chain })
    }

    fn application_key(&self) -> Zeroizing<[u8; 32]> {
        application_key(self.tee().seed(), &self.app_id())
    }
}

impl Algorithm {
    fn public_key(self, secret: &[u8; 32]) -> Result<Vec<u8>, SimulatorError> {
        Ok(match self {
            Self::Ed25519 => ed25519(secret)?.public_key().as_ref().to_vec(),
            Self::Secp256k1 => secp256k1(secret)?.verifying_key().to_encoded_point(true).as_bytes().to_vec(),
        })
    }
}

/// Whether a signature is good. `None` when it or the key is malformed.
pub(crate) fn verifies(algorithm: Algorithm, data: &[u8], signature: &[u8], public_key: &[u8]) -> Option<bool> {
    match algorithm {
        Algorithm::Ed25519 if (signature.len(), public_key.len()) != (64, 32) => None,
        Algorithm::Ed25519 => Some(UnparsedPublicKey::new(&ED25519, public_key).verify(data, signature).is_ok()),
        Algorithm::Secp256k1 => verifies_digest(&Sha256::digest(data).into(), signature, public_key),
    }
}

/// Whether a signature on secp256k1 over a digest is good. The greater of the two values of `s` never is.
pub(crate) fn verifies_digest(digest: &[u8; 32], signature: &[u8], public_key: &[u8]) -> Option<bool> {
    let public_key = VerifyingKey::from_sec1_bytes(public_key).ok()?;
    let signature = Signature::from_slice(signature).ok()?;
    Some(public_key.verify_prehash(digest, &signature).is_ok())
}

fn application_key(root: &[u8; 32], app_id: &AppId) -> Zeroizing<[u8; 32]> {
    derive(root, &[app_id.as_bytes(), b"app-key"])
}

/// HKDF-SHA256 with dstack's salt; the context is concatenated without separators.
fn derive(key: &[u8], context: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut derived = Zeroizing::new([0; 32]);
    let expanded = Hkdf::<Sha256>::new(Some(KEY_SALT), key).expand_multi_info(context, derived.as_mut());
    debug_assert!(expanded.is_ok(), "32 bytes are far below the limit of HKDF-SHA256");
    derived
}

/// Signs the Keccak-256 of a message, so that the public key can be recovered.
fn recoverable(secret: &[u8; 32], message: &[&[u8]]) -> Result<Vec<u8>, SimulatorError> {
    let digest = message.iter().fold(Keccak256::default(), |digest, part| digest.chain_update(part)).finalize();
    let (signature, recovery) = secp256k1(secret)?.sign_prehash_recoverable(&digest).map_err(no_key)?;
    Ok([signature.to_bytes().as_slice(), &[recovery.to_byte()]].concat())
}

fn secp256k1(secret: &[u8; 32]) -> Result<SigningKey, SimulatorError> {
    SigningKey::from_slice(secret).map_err(no_key)
}

fn ed25519(secret: &[u8; 32]) -> Result<Ed25519KeyPair, SimulatorError> {
    Ed25519KeyPair::from_seed_unchecked(secret).map_err(|_| SimulatorError::NoKey)
}

fn no_key(_: k256::ecdsa::Error) -> SimulatorError {
    SimulatorError::NoKey
}

#[cfg(test)]
mod tests;
