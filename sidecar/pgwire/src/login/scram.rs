//! The client's side of SCRAM-SHA-256, towards Postgres.

use std::num::NonZeroU32;

use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::scram::{self, NONCE, Password};

/// The most iterations that are computed. The server chooses their number, and 4,096 is what it chooses.
const MAX_ITERATIONS: u32 = 100_000;

/// An exchange that has begun.
pub(super) struct Start {
    password: Password,
    nonce: String,
}

/// An exchange in which the server has to show that it knows the password's verifier.
pub(super) struct Proved {
    signature: scram::Key,
}

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExchangeError {
    /// Bytes that are no message of SCRAM, or an error in its words.
    #[error("malformed message")]
    Malformed,
    /// The server answers another client.
    #[error("the nonce is not ours")]
    Nonce,
    /// So many iterations that the server can only mean to keep us busy.
    #[error("{0} iterations, which is more than {MAX_ITERATIONS}")]
    Iterations(u32),
    /// The server does not know the password's verifier.
    #[error("the server's signature is wrong")]
    Signature,
}

impl Start {
    pub(super) fn new(password: Password, nonce: &[u8; NONCE]) -> Self {
        Self { password, nonce: scram::encode(nonce) }
    }

    /// The client's first message. The user's name stands in the startup packet, and channels are not bound.
    pub(super) fn message(&self) -> String {
        format!("n,,{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes the challenge; gives the client's last message.
    pub(super) fn prove(self, challenge: &[u8]) -> Result<(Proved, String), ExchangeError> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| ExchangeError::Malformed)?;
        let mut attributes = challenge.split(',');
        let mut named = |name: &str| attributes.next().and_then(|attribute| attribute.strip_prefix(name));
        let (nonce, salt, iterations) = (named("r="), named("s="), named("i="));
        let nonce = nonce.ok_or(ExchangeError::Malformed)?;
        let salt = salt.and_then(|salt| scram::decode(salt.as_bytes())).ok_or(ExchangeError::Malformed)?;
        let iterations = iterations.and_then(|number| number.parse::<u32>().ok()).and_then(NonZeroU32::new);
        let iterations = iterations.ok_or(ExchangeError::Malformed)?;
        if !nonce.starts_with(&self.nonce) {
            return Err(ExchangeError::Nonce);
        }
        if iterations.get() > MAX_ITERATIONS {
            return Err(ExchangeError::Iterations(iterations.get()));
        }
        let keys = self.password.keys(&salt, iterations);
        let unproven = format!("c=biws,r={nonce}");
        let signed = format!("{},{challenge},{unproven}", self.bare());
        let proof = scram::xor(&keys.client, &scram::sign(&keys.stored(), signed.as_bytes()));
        let signature = scram::sign(&keys.server, signed.as_bytes());
        Ok((Proved { signature }, format!("{unproven},p={}", scram::encode(proof.as_slice()))))
    }
}

impl Proved {
    /// Takes the server's last message.
    pub(super) fn check(&self, conclusion: &[u8]) -> Result<(), ExchangeError> {
        let signature = conclusion.strip_prefix(b"v=").and_then(scram::decode_key).ok_or(ExchangeError::Malformed)?;
        if bool::from(signature.as_slice().ct_eq(self.signature.as_slice())) {
            Ok(())
        } else {
            Err(ExchangeError::Signature)
        }
    }
}
