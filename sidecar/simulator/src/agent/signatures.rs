//! The application's keys, and what is signed with them.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Agent;
use super::methods::Answer;
use super::parameters::{HexBytes, Parameters, Refusal};
use crate::application_key::{verifies, verifies_digest};
use crate::{Algorithm, Signed, SimulatorError};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct KeyRequest {
    path: String,
    purpose: String,
    algorithm: String,
}

#[derive(Serialize)]
pub(super) struct Key {
    key: String,
    signature_chain: Vec<String>,
}

/// The key of a path. `purpose` and `algorithm` change only the signature chain, never the key.
pub(super) async fn key(State(agent): State<Agent>, Parameters(request): Parameters<KeyRequest>) -> Answer<Key> {
    let algorithm = match request.algorithm.as_str() {
        "" | "secp256k1" | "k256" => Algorithm::Secp256k1,
        "ed25519" => Algorithm::Ed25519,
        _ => return Err(unsupported()),
    };
    let chain = agent.cvm.signature_chain(&request.path, &request.purpose, algorithm).map_err(refused)?;
    let key = hex::encode(*agent.cvm.derive_key(&request.path));
    Ok(Json(Key { key, signature_chain: chain.map(hex::encode).into() }))
}

/// How data is signed.
enum Scheme<'a> {
    Data(Algorithm, &'a [u8]),
    Digest([u8; 32]),
}

impl<'a> Scheme<'a> {
    fn of(algorithm: &str, data: &'a [u8]) -> Result<Self, Refusal> {
        match algorithm {
            "ed25519" => Ok(Self::Data(Algorithm::Ed25519, data)),
            "secp256k1" | "k256" => Ok(Self::Data(Algorithm::Secp256k1, data)),
            "secp256k1_prehashed" => data.try_into().map(Self::Digest).map_err(|_| {
                let found = data.len();
                Refusal::new(&format_args!("a pre-hashed signature is over a digest of 32 bytes, and not of {found}"))
            }),
            _ => Err(unsupported()),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct SignRequest {
    algorithm: String,
    data: HexBytes,
}

#[derive(Serialize)]
pub(super) struct Signature {
    signature: String,
    signature_chain: Vec<String>,
    public_key: String,
}

/// A signature by the application, with the signatures of those who vouch for its key.
pub(super) async fn sign(
    State(agent): State<Agent>,
    Parameters(request): Parameters<SignRequest>,
) -> Answer<Signature> {
    let signed = match Scheme::of(&request.algorithm, &request.data.0)? {
        Scheme::Data(algorithm, data) => agent.cvm.sign(algorithm, data),
        Scheme::Digest(digest) => agent.cvm.sign_digest(&digest),
    };
    let Signed { signature, public_key, chain: [by_application, by_root] } = signed.map_err(refused)?;
    Ok(Json(Signature {
        signature: hex::encode(&signature),
        signature_chain: [signature, by_application, by_root].map(hex::encode).into(),
        public_key: hex::encode(public_key),
    }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct VerifyRequest {
    algorithm: String,
    data: HexBytes,
    signature: HexBytes,
    public_key: HexBytes,
}

#[derive(Serialize)]
pub(super) struct Verdict {
    valid: bool,
}

/// Whether a signature is good. A malformed one is an error.
pub(super) async fn verify(Parameters(request): Parameters<VerifyRequest>) -> Answer<Verdict> {
    let (signature, public_key) = (&request.signature.0, &request.public_key.0);
    let valid = match Scheme::of(&request.algorithm, &request.data.0)? {
        Scheme::Data(algorithm, data) => verifies(algorithm, data, signature, public_key),
        Scheme::Digest(digest) => verifies_digest(&digest, signature, public_key),
    };
    valid.map(|valid| Json(Verdict { valid })).ok_or_else(|| Refusal::new(&"malformed signature or public key"))
}

fn unsupported() -> Refusal {
    Refusal::new(&"Unsupported algorithm")
}

fn refused(error: SimulatorError) -> Refusal {
    Refusal::new(&error)
}
