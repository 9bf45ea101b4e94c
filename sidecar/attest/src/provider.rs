//! What dcap-qvl asks of a crypto library, answered by aws-lc, which TLS uses too: no second library is linked.

use aws_lc_rs::digest;
use dcap_qvl::config::{Config, CryptoProvider};
use rustls_pki_types::SignatureVerificationAlgorithm;

/// Quote verification on aws-lc.
pub(crate) enum AwsLcConfig {}

impl Config for AwsLcConfig {
    type X509 = dcap_qvl::x509::X509CertBackend;
    type SigEncoder = dcap_qvl::signature::DerSigEncoder;
    type Crypto = AwsLc;
}

pub(crate) enum AwsLc {}

impl CryptoProvider for AwsLc {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        digest_of(&digest::SHA256, data)
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        digest_of(&digest::SHA384, data)
    }
}

fn digest_of<const N: usize>(algorithm: &'static digest::Algorithm, data: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(digest::digest(algorithm, data).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256, Sha384};

    #[test]
    fn the_digests_are_those_of_another_library() {
        for length in [0, 1, 63, 64, 65, 1000] {
            let data = vec![0xa5; length];
            assert_eq!(AwsLc::sha256(&data)[..], Sha256::digest(&data)[..]);
            assert_eq!(AwsLc::sha384(&data)[..], Sha384::digest(&data)[..]);
        }
    }
}
