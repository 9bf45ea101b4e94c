//! P-256 keys that follow from a seed.

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::SimulatorError;

/// A key that is a pure function of a seed and a label, and signs deterministically (RFC 6979), so that two processes with
/// one seed write the same certificates bit for bit.
pub(crate) struct Key {
    signing: SigningKey,
    /// The public point, uncompressed: `04 || x || y`.
    point: Vec<u8>,
}

impl Key {
    pub(crate) fn derive(seed: &[u8; 32], label: &str) -> Result<Self, SimulatorError> {
        let candidate = |attempt: u8| {
            let digest = Sha256::new()
                .chain_update(b"postern simulated tee")
                .chain_update(seed)
                .chain_update(label)
                .chain_update([attempt])
                .finalize();
            SigningKey::from_slice(&digest).ok()
        };
        // One digest in 2^32 is not a valid scalar.
        let signing = (0..=u8::MAX).find_map(candidate).ok_or(SimulatorError::NoKey)?;
        let point = signing.verifying_key().to_sec1_point(false).as_bytes().to_vec();
        Ok(Self { signing, point })
    }

    /// `r || s`, as quotes and TCB info carry it.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let signature: Signature = self.signing.sign(message);
        signature.to_bytes().into()
    }

    /// `x || y`, as quotes carry it.
    pub(crate) fn coordinates(&self) -> &[u8] {
        self.point.get(1..).unwrap_or_default()
    }
}

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.point
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: Signature = self.signing.sign(message);
        Ok(signature.to_der().as_bytes().to_vec())
    }
}
