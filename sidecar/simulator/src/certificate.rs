//! Certificates as a guest agent hands them out: a fresh key, a leaf with the attestation, and the chain above it.

use postern_attest::certificate::{Usage, extensions};
use postern_attest::oid;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PublicKeyData as _,
};
use zeroize::Zeroizing;

use crate::kms::{extension, usage};
use crate::pki::instant;
use crate::{Cvm, SimulatorError};

/// What a leaf certificate says about the machine that holds its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Attestation {
    /// Nothing.
    None,
    /// A quote that is bound to the certificate's key.
    #[default]
    Bound,
    /// A good quote that is bound to another key, as a thief of certificates would present it.
    OtherKey,
}

/// What to put into a certificate.
#[derive(Debug, Clone, Default)]
pub struct CertificateRequest {
    /// The common name.
    pub subject: String,
    /// DNS names and IP addresses.
    pub alt_names: Vec<String>,
    /// The attestation to carry.
    pub attestation: Attestation,
    /// Whether it carries what the KMS says about the application.
    pub app_info: bool,
    /// Whether it may be used by a server.
    pub server_auth: bool,
    /// Whether it may be used by a client.
    pub client_auth: bool,
    /// Start of validity in unix seconds; one minute before the issue when absent.
    pub not_before: Option<u64>,
    /// End of validity in unix seconds; ten years after the issue when absent, as dstack's guest agent does.
    pub not_after: Option<u64>,
}

/// A key and the certificates that belong to it.
pub struct Certificate {
    /// The private key, PKCS #8 as PEM.
    pub key: Zeroizing<String>,
    /// The leaf, the application's CA and the simulated KMS root, each as PEM.
    pub chain: Vec<String>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.chain).finish_non_exhaustive()
    }
}

const TEN_YEARS: u64 = 10 * 365 * 86_400;

impl Cvm {
    /// Makes a key and a certificate chain for it. `now` is unix seconds.
    ///
    /// # Errors
    /// When a name or date cannot be put into a certificate.
    pub fn certificate(&self, request: &CertificateRequest, now: u64) -> Result<Certificate, SimulatorError> {
        let key = fresh_key()?;
        let mut params = self.leaf(request, now)?;
        match request.attestation {
            Attestation::None => {}
            Attestation::Bound => params.custom_extensions.extend(self.attestation(&key)?),
            Attestation::OtherKey => params.custom_extensions.extend(self.attestation(&fresh_key()?)?),
        }
        let kms = self.tee().kms();
        let app_ca = kms.app_ca(&self.app_id())?;
        let leaf = params.signed_by(&key, &app_ca.issuer)?;
        let chain = vec![leaf.pem(), app_ca.pem, kms.root_pem.clone()];
        Ok(Certificate { key: Zeroizing::new(key.serialize_pem()), chain })
    }

    fn leaf(&self, request: &CertificateRequest, now: u64) -> Result<CertificateParams, SimulatorError> {
        let mut params = CertificateParams::new(request.alt_names.clone())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, request.subject.as_str());
        params.not_before = date(request.not_before.unwrap_or(now.saturating_sub(60)))?;
        params.not_after = date(request.not_after.unwrap_or(now.saturating_add(TEN_YEARS)))?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let usages = [
            (request.server_auth, ExtendedKeyUsagePurpose::ServerAuth),
            (request.client_auth, ExtendedKeyUsagePurpose::ClientAuth),
        ];
        params.extended_key_usages = usages.into_iter().filter_map(|(wanted, usage)| wanted.then_some(usage)).collect();
        params.custom_extensions = vec![extension(oid::APP_ID, self.app_id().as_bytes()), usage(&Usage::App)];
        if request.app_info {
            params.custom_extensions.push(extension(oid::APP_INFO, &self.app_info()));
        }
        Ok(params)
    }

    /// The extension that binds this CVM's quote to a key.
    fn attestation(&self, key: &KeyPair) -> Result<Option<CustomExtension>, SimulatorError> {
        let quote = self.quote(postern_attest::report_data(&key.subject_public_key_info()));
        let all = extensions(&quote, self.event_log(), &self.app_id())?;
        let versioned = all.into_iter().find(|extension| extension.oid == oid::ATTESTATION);
        Ok(versioned.map(|extension| CustomExtension::from_oid_content(extension.oid, extension.content)))
    }
}

fn fresh_key() -> Result<KeyPair, SimulatorError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

fn date(unix_seconds: u64) -> Result<time::OffsetDateTime, SimulatorError> {
    instant(i64::try_from(unix_seconds).map_err(|_| SimulatorError::Time)?)
}
