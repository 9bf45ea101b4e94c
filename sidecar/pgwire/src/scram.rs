//! What both sides of SCRAM-SHA-256 compute (RFC 5802, RFC 7677). Passwords here are ASCII, so that SASLprep would change
//! nothing about them.

mod password;

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub use self::password::Password;

/// Bytes of every key, signature and proof.
pub const KEY: usize = 32;
/// Bytes of a salt, as PostgreSQL's `SCRAM_DEFAULT_SALT_LEN`.
pub const SALT: usize = 16;
/// Random bytes in a nonce, as PostgreSQL's `SCRAM_RAW_NONCE_LEN`.
pub const NONCE: usize = 18;
/// The mechanism without channel binding.
pub const MECHANISM: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The one kind of channel binding that PostgreSQL knows (RFC 5929).
pub(crate) const END_POINT: &str = "tls-server-end-point";

/// As PostgreSQL's default, and the least that RFC 7677 allows. The passwords here are drawn from 2^256: stretching them
/// further would cost and protect nothing.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4_096).unwrap();

/// A key, wiped when it is dropped.
pub(crate) type Key = Zeroizing<[u8; KEY]>;

/// What a password, a salt and a number of iterations lead to.
pub(crate) struct Keys {
    /// Signs for the client.
    pub(crate) client: Key,
    /// Signs for the server.
    pub(crate) server: Key,
}

impl Keys {
    /// With our own number of iterations.
    pub(crate) fn of(password: &[u8], salt: &[u8]) -> Self {
        Self::derive(password, salt, ITERATIONS)
    }

    pub(crate) fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = Key::default();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, salted.as_mut_slice());
        Self { client: sign(&salted, b"Client Key"), server: sign(&salted, b"Server Key") }
    }

    /// What the server keeps of the client's key.
    pub(crate) fn stored(&self) -> Key {
        hash(&self.client)
    }
}

/// The verifier to store in Postgres for `password`, so that the server never sees the password. `salt` has to be fresh.
#[must_use]
pub fn verifier(password: &[u8], salt: &[u8; SALT]) -> String {
    let keys = Keys::of(password, salt);
    let [salt, stored, server] = [salt, keys.stored().as_slice(), keys.server.as_slice()].map(encode);
    format!("{MECHANISM}${ITERATIONS}:{salt}${stored}:{server}")
}

/// The server's first message: the whole nonce, the salt and the iterations.
pub(crate) fn challenge(nonce: &str, salt: &[u8; SALT]) -> String {
    format!("r={nonce},s={},i={ITERATIONS}", encode(salt))
}

/// HMAC-SHA-256.
pub(crate) fn sign(key: &[u8; KEY], message: &[u8]) -> Key {
    filled(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref())
}

/// SHA-256.
pub(crate) fn hash(bytes: &[u8; KEY]) -> Key {
    filled(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// A proof from a key and a signature, or the key from a proof and a signature.
pub(crate) fn xor(one: &[u8; KEY], other: &[u8; KEY]) -> Key {
    let mut both = Key::default();
    for (byte, (a, b)) in both.iter_mut().zip(one.iter().zip(other)) {
        *byte = a ^ b;
    }
    both
}

/// Base64 with padding, as all of SCRAM has it.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The reverse of [`encode`].
pub(crate) fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    STANDARD.decode(text).ok().map(Zeroizing::new)
}

/// 32 bytes in base64.
pub(crate) fn decode_key(text: &[u8]) -> Option<Key> {
    let bytes = decode(text)?;
    (bytes.len() == KEY).then(|| filled(&bytes))
}

/// Whether these bytes may stand in a nonce: printable ASCII without a comma.
pub(crate) fn is_nonce(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',')
}

fn filled(bytes: &[u8]) -> Key {
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = *from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::{Keys, SALT, decode_key, encode, is_nonce, sign, verifier, xor};

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_rfc_is_reproduced() {
        let salt = super::decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let keys = Keys::of(b"pencil", &salt);
        let signed = b"n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = xor(&keys.client, &sign(&keys.stored(), signed));
        assert_eq!(encode(proof.as_slice()), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        let signature = sign(&keys.server, signed);
        assert_eq!(encode(signature.as_slice()), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn the_verifier_is_what_postgres_stores() {
        let text = verifier(b"secret", &[7; SALT]);
        let salted = postgres_protocol::password::scram_sha_256(b"secret");
        let shape = |text: &str| text.split(['$', ':']).map(str::len).collect::<Vec<_>>();
        assert_eq!(shape(&text), shape(&salted));
        assert!(text.starts_with("SCRAM-SHA-256$4096:BwcHBwcHBwcHBwcHBwcHBw==$"), "{text}");
        assert_ne!(text, verifier(b"secret", &[8; SALT]));
        assert!(!text.contains("secret"));
    }

    #[test]
    fn only_32_bytes_are_a_key_and_only_printable_ones_a_nonce() {
        assert!(decode_key(encode(&[1; 32]).as_bytes()).is_some());
        for text in [encode(&[1; 31]), encode(&[1; 33]), String::new(), "*".repeat(44)] {
            assert!(decode_key(text.as_bytes()).is_none(), "{text}");
        }
        assert!(is_nonce(b"!~"));
        for bytes in [&b""[..], b"a,b", b"a b", b"a\x7f", b"\xc3\xa4"] {
            assert!(!is_nonce(bytes), "{bytes:?}");
        }
    }
}
