//! The certificates of dstack's KMS: its root, and the authority that it gives each application.

use postern_attest::certificate::Usage;
use postern_attest::oid;
use postern_identity::AppId;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyUsagePurpose,
    PublicKeyData as _,
};

use crate::SimulatorError;
use crate::der::octet_string;
use crate::key::Key;
use crate::pki::ORGANIZATION;

/// A KMS, all of which follows from a seed.
pub(crate) struct Kms {
    seed: [u8; 32],
    root: Issuer<'static, Key>,
    pub(crate) root_pem: String,
    /// The root's SubjectPublicKeyInfo, by which guests measure who provided their keys.
    pub(crate) root_spki: Vec<u8>,
}

/// The authority of one application.
pub(crate) struct AppCa {
    pub(crate) issuer: Issuer<'static, Key>,
    pub(crate) pem: String,
}

impl Kms {
    pub(crate) fn new(seed: &[u8; 32]) -> Result<Self, SimulatorError> {
        let params = authority("Simulated KMS Root CA", 1)?;
        let key = Key::derive(seed, "kms-root")?;
        let (root_pem, root_spki) = (params.self_signed(&key)?.pem(), key.subject_public_key_info());
        Ok(Self { seed: *seed, root: Issuer::new(params, key), root_pem, root_spki })
    }

    pub(crate) fn app_ca(&self, app_id: &AppId) -> Result<AppCa, SimulatorError> {
        let mut params = authority("Simulated App CA", 0)?;
        params.custom_extensions = vec![extension(oid::APP_ID, app_id.as_bytes()), usage(&Usage::AppCa)];
        let key = Key::derive(&self.seed, &format!("app-ca {app_id}"))?;
        let pem = params.signed_by(&key, &self.root)?.pem();
        Ok(AppCa { issuer: Issuer::new(params, key), pem })
    }
}

/// An extension with its content in one OCTET STRING, as dstack wraps it.
pub(crate) fn extension(oid: &[u64], content: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(oid, octet_string(content))
}

/// What a certificate is for.
pub(crate) fn usage(usage: &Usage) -> CustomExtension {
    extension(oid::USAGE, usage.as_str().as_bytes())
}

fn authority(name: &str, below: u8) -> Result<CertificateParams, SimulatorError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}
