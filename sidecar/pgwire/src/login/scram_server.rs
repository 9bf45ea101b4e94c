//! The server's side of SCRAM-SHA-256 (RFC 5802), for tests that play Postgres.

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// One exchange against a stored verifier, `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
pub(crate) struct ScramServer {
    iterations: String,
    salt: String,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
    transcript: String,
    nonce: String,
}

impl ScramServer {
    pub(crate) fn new(verifier: &str) -> Self {
        let mut parts = verifier.split('$').skip(1);
        let (iterations, salt) = parts.next().unwrap().split_once(':').unwrap();
        let (stored, server) = parts.next().unwrap().split_once(':').unwrap();
        Self {
            iterations: iterations.to_owned(),
            salt: salt.to_owned(),
            stored_key: STANDARD.decode(stored).unwrap(),
            server_key: STANDARD.decode(server).unwrap(),
            transcript: String::new(),
            nonce: String::new(),
        }
    }

    /// client-first-message in, server-first-message out.
    pub(crate) fn challenge(&mut self, client_first: &str) -> String {
        let bare = client_first.strip_prefix("n,,").unwrap();
        let client_nonce = bare.split_once("r=").unwrap().1;
        self.nonce = format!("{client_nonce}fromTheServer");
        let first = format!("r={},s={},i={}", self.nonce, self.salt, self.iterations);
        self.transcript = format!("{bare},{first}");
        first
    }

    /// client-final-message in; server-final-message out when the proof is right.
    pub(crate) fn conclude(&self, client_final: &str) -> Option<String> {
        let (without_proof, proof) = client_final.split_once(",p=")?;
        assert_eq!(without_proof, format!("c=biws,r={}", self.nonce));
        let transcript = format!("{},{without_proof}", self.transcript);
        let sign = |key: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), transcript.as_bytes());
        let signature = sign(&self.stored_key);
        let proof = STANDARD.decode(proof).ok()?;
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let matches = digest::digest(&digest::SHA256, &client_key).as_ref() == self.stored_key;
        matches.then(|| format!("v={}", STANDARD.encode(sign(&self.server_key))))
    }
}
