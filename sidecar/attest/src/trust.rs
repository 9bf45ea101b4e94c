use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

/// The certificate authority under which quotes have to be signed.
///
/// There is one that counts, [`TrustRoot::intel`]. Every other root stands for simulated hardware, whose quotes prove
/// nothing about measurements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRoot(Vec<u8>);

/// Why bytes are not a trust root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustRootError {
    /// The text does not hold exactly one PEM certificate.
    #[error("a trust root is one PEM certificate: {0}")]
    Pem(String),
    /// The bytes are not a certificate.
    #[error("the trust root is not an X.509 certificate: {0}")]
    NotX509(String),
}

/// "Intel SGX Root CA", as published at
/// <https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer>.
const INTEL: &[u8] = include_bytes!("intel-root-ca.der");

impl TrustRoot {
    /// Intel's provisioning root.
    #[must_use]
    pub fn intel() -> Self {
        Self(INTEL.to_vec())
    }

    /// A root from its DER form.
    ///
    /// # Errors
    /// When the bytes are not one X.509 certificate.
    pub fn from_der(der: Vec<u8>) -> Result<Self, TrustRootError> {
        webpki::anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
            .map_err(|error| TrustRootError::NotX509(error.to_string()))?;
        Ok(Self(der))
    }

    /// A root from a PEM file that holds this one certificate.
    ///
    /// # Errors
    /// When there is no certificate, more than one, or it is not X.509.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustRootError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| TrustRootError::Pem(error.to_string()))?;
        match certificates.as_slice() {
            [only] => Self::from_der(only.to_vec()),
            others => Err(TrustRootError::Pem(format!("found {}", others.len()))),
        }
    }

    /// Whether this is Intel's root, so that quotes come from real hardware.
    #[must_use]
    pub fn is_intel(&self) -> bool {
        self.0 == INTEL
    }

    /// The DER form.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the DER form, to name the root in logs.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intels_root_is_the_published_one() {
        assert!(TrustRoot::intel().is_intel());
        // The fingerprint under which certificate stores list "Intel SGX Root CA".
        let fingerprint = hex::encode(TrustRoot::intel().fingerprint());
        assert_eq!(fingerprint, "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3");
        assert_eq!(TrustRoot::from_der(INTEL.to_vec()), Ok(TrustRoot::intel()));
    }

    #[test]
    fn what_is_not_exactly_one_certificate_is_refused() {
        assert!(matches!(TrustRoot::from_der(b"no".to_vec()), Err(TrustRootError::NotX509(_))));
        assert!(matches!(TrustRoot::from_pem(b""), Err(TrustRootError::Pem(_))));
        let mut trailing = INTEL.to_vec();
        trailing.push(0);
        assert!(TrustRoot::from_der(trailing).is_err());
    }
}
