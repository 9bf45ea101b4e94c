use sha2::{Digest, Sha256, Sha512};

/// What a quote must carry as its report data to vouch for a TLS key: `SHA-512("ratls-cert:" || SPKI)`.
///
/// `spki_der` is the DER SubjectPublicKeyInfo of the certificate, header included.
#[must_use]
pub fn report_data(spki_der: &[u8]) -> [u8; 64] {
    Sha512::new().chain_update(b"ratls-cert:").chain_update(spki_der).finalize().into()
}

/// What the quotes of old guests carry: `SHA-256(SPKI)`, padded with zeros.
pub(crate) fn legacy_report_data(spki_der: &[u8]) -> [u8; 64] {
    let mut padded = [0; 64];
    padded[..32].copy_from_slice(&Sha256::digest(spki_der));
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_and_the_key_are_hashed_together() {
        assert_eq!(report_data(b"key")[..], Sha512::digest(b"ratls-cert:key")[..]);
        assert_ne!(report_data(b"key"), report_data(b"kez"));
    }

    #[test]
    fn the_legacy_form_is_a_padded_digest_of_the_key_alone() {
        assert_eq!(legacy_report_data(b"key")[..32], Sha256::digest(b"key")[..]);
        assert_eq!(legacy_report_data(b"key")[32..], [0; 32]);
    }
}
