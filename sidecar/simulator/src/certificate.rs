//! Certificates as a guest agent hands them out: a fresh key, a leaf with the attestation, and the chain above it.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use zeroize::Zeroizing;

use crate::der::octet_string;
use crate::key::Key;
use crate::pki::{ORGANIZATION, instant};
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
        let (app_ca, above) = self.authorities()?;
        let leaf = params.signed_by(&key, &app_ca)?;
        let chain = [leaf.pem()].into_iter().chain(above).collect();
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
        params.custom_extensions.push(extension(postern_attest::oid::USAGE, b"app:custom"));
        if request.app_info {
            params.custom_extensions.push(extension(postern_attest::oid::APP_INFO, &self.app_info()));
        }
        Ok(params)
    }

    /// The extensions that bind this CVM's quote to a key.
    fn attestation(&self, key: &KeyPair) -> Result<Vec<CustomExtension>, SimulatorError> {
        let quote = self.quote(postern_attest::report_data(&key.subject_public_key_info()));
        let extensions = postern_attest::certificate::extensions(&quote, self.event_log(), &self.app_id())?;
        let custom = |extension: postern_attest::certificate::Extension| {
            CustomExtension::from_oid_content(extension.oid, extension.content)
        };
        Ok(extensions.into_iter().map(custom).collect())
    }

    /// The application's CA, and the certificates above a leaf as PEM.
    fn authorities(&self) -> Result<(Issuer<'static, Key>, [String; 2]), SimulatorError> {
        let seed = self.tee().seed();
        let root_params = authority("Simulated KMS Root CA")?;
        let root_pem = root_params.self_signed(&Key::derive(seed, "kms-root")?)?.pem();
        let root = Issuer::new(root_params, Key::derive(seed, "kms-root")?);
        let app_params = authority("Simulated App CA")?;
        let app_key = Key::derive(seed, &format!("app-ca {}", self.app_id()))?;
        let app_pem = app_params.signed_by(&app_key, &root)?.pem();
        Ok((Issuer::new(app_params, app_key), [app_pem, root_pem]))
    }
}

fn extension(oid: &[u64], content: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(oid, octet_string(content))
}

fn fresh_key() -> Result<KeyPair, SimulatorError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

fn authority(name: &str) -> Result<CertificateParams, SimulatorError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn date(unix_seconds: u64) -> Result<time::OffsetDateTime, SimulatorError> {
    instant(i64::try_from(unix_seconds).map_err(|_| SimulatorError::Time)?)
}
