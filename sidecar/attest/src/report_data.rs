use sha2::{Digest, Sha512};

/// What a quote must carry as its report data to vouch for a TLS key: `SHA-512("ratls-cert:" || SPKI)`.
///
/// `spki_der` is the DER SubjectPublicKeyInfo of the certificate, header included.
#[must_use]
pub fn report_data(spki_der: &[u8]) -> [u8; 64] {
    Sha512::new().chain_update(b"ratls-cert:").chain_update(spki_der).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_and_the_key_are_hashed_together() {
        assert_eq!(report_data(b"key")[..], Sha512::digest(b"ratls-cert:key")[..]);
        assert_ne!(report_data(b"key"), report_data(b"kez"));
    }
}
