//! Who signed a certificate. A quote vouches for a key; the signature vouches for all else that the certificate says.

use postern_identity::AppId;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use serde::Deserialize;
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificate::{self, Evidence, Usage};
use crate::event_log::AppIdentity;
use crate::trust::{TrustRoot, TrustRootError};

/// A dstack KMS issues a leaf, the application's authority and its own root. More than twice as many are not looked at.
const MAX_ABOVE: usize = 4;

/// The one kind of key that peers quote, and what authorities and ordinary certificates use besides.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::ED25519,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
];

/// What is asked of a certificate beside the evidence in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRules {
    /// The dstack KMS whose certificates are accepted beside those that their own key signed. Default: none.
    ///
    /// A KMS never takes the place of a quote: what it issued is judged like every other certificate, and in addition the
    /// chain has to lead to this root and to agree with what was measured.
    pub kms_root: Option<KmsRoot>,
    /// Believe a quote whose report data is SHA-256 of the key alone, padded with zeros. Nothing says that such a digest was
    /// meant for TLS, so that a quote made for another purpose may pass. Default: false.
    pub insecure_legacy_binding: bool,
}

/// The root certificate of a dstack KMS, which the operator pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsRoot(TrustRoot);

/// Why nobody who counts vouches for a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// It claims to be signed with its own key, and is not, or not for TLS.
    #[error("the certificate is not soundly signed with its own key: {0}")]
    OwnSignature(String),
    /// Somebody else signed it, and no KMS is pinned.
    #[error("the certificate was issued by an authority, and none is pinned")]
    NotPinned,
    /// It does not lead to the pinned root, or not for TLS.
    #[error("the certificate does not lead to the pinned KMS root: {0}")]
    Chain(String),
    /// The KMS signed it, but not as the leaf of an application under that application's authority.
    #[error("the pinned KMS did not issue the certificate to an application: {0}")]
    NotOfAnApp(&'static str),
    /// The application's authority is that of another application than the one that was measured.
    #[error("the certificate was issued by the authority of app {0}, which is not the one that was measured")]
    OtherApp(AppId),
    /// The guest measured that it has its keys from somebody else.
    #[error("the guest did not measure the pinned KMS as the provider of its keys")]
    OtherKeyProvider,
}

impl KmsRoot {
    /// A root from its DER form.
    ///
    /// # Errors
    /// When the bytes are not one X.509 certificate.
    pub fn from_der(der: Vec<u8>) -> Result<Self, TrustRootError> {
        TrustRoot::from_der(der).map(Self)
    }

    /// A root from a PEM file that holds this one certificate.
    ///
    /// # Errors
    /// When there is no certificate, more than one, or it is not X.509.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TrustRootError> {
        TrustRoot::from_pem(pem).map(Self)
    }

    /// SHA-256 of the DER form, to name the root in logs.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint()
    }

    /// Whether the guest measured this KMS as its key provider: `{"name":"kms","id":...}`, with the root's
    /// SubjectPublicKeyInfo in hex.
    fn provided(&self, key_provider: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct KeyProvider {
            name: String,
            id: String,
        }
        let Ok((_, root)) = X509Certificate::from_der(self.0.as_der()) else { return false };
        let spki = hex::encode(root.tbs_certificate.subject_pki.raw);
        serde_json::from_slice(key_provider)
            .is_ok_and(|measured: KeyProvider| measured.name == "kms" && measured.id.eq_ignore_ascii_case(&spki))
    }
}

impl CertificateRules {
    /// Whether somebody who counts signed the certificate: its own key, or the pinned KMS for the application that was
    /// measured. Gives the end of the authorities' validity, seconds since 1970.
    pub(crate) fn check_issuer(
        &self,
        evidence: &Evidence,
        measured: &AppIdentity,
        now: u64,
    ) -> Result<u64, IssuerError> {
        let Some(shown) = &evidence.shown else { return Ok(u64::MAX) };
        let own = |error: webpki::Error| IssuerError::OwnSignature(error.to_string());
        let leaf = EndEntityCert::try_from(&shown.leaf).map_err(own)?;
        if leaf.issuer() == leaf.subject() {
            let anchor = webpki::anchor_from_trusted_cert(&shown.leaf).map_err(own)?;
            return path(&leaf, &anchor, &[], now).map(|_| u64::MAX).map_err(own);
        }
        let root = self.kms_root.as_ref().ok_or(IssuerError::NotPinned)?;
        let chain = |error: webpki::Error| IssuerError::Chain(error.to_string());
        if shown.above.len() > MAX_ABOVE {
            return Err(IssuerError::Chain(format!("{} certificates are above it", shown.above.len())));
        }
        let root_der = CertificateDer::from(root.0.as_der());
        let anchor = webpki::anchor_from_trusted_cert(&root_der).map_err(chain)?;
        let authorities = path(&leaf, &anchor, &shown.above, now).map_err(chain)?;
        check_authorities(evidence.usage.as_ref(), &authorities, measured)?;
        if !root.provided(&measured.key_provider) {
            return Err(IssuerError::OtherKeyProvider);
        }
        // X.509 leaves it to whoever pins a root whether that ever ends.
        match earliest_end(authorities.iter().chain([&root_der])) {
            Some(end) if now <= end => Ok(end),
            _ => Err(IssuerError::Chain("the root has ended".to_owned())),
        }
    }
}

/// The authorities between a leaf and `anchor`, the leaf's issuer first, if X.509 allows the path for TLS at either end.
fn path(
    leaf: &EndEntityCert<'_>,
    anchor: &TrustAnchor<'_>,
    above: &[CertificateDer<'_>],
    now: u64,
) -> Result<Vec<CertificateDer<'static>>, webpki::Error> {
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    let for_usage = |usage| {
        let anchors = std::slice::from_ref(anchor);
        let path = leaf.verify_for_usage(ALGORITHMS, anchors, above, time, usage, None, None)?;
        Ok(path.intermediate_certificates().map(|authority| authority.der().into_owned()).collect())
    };
    for_usage(KeyUsage::client_auth()).or_else(|error| {
        let for_another = matches!(error, webpki::Error::RequiredEkuNotFoundContext(_));
        if for_another { for_usage(KeyUsage::server_auth()) } else { Err(error) }
    })
}

/// A KMS also signs its own endpoint, and gives each application an authority of its own.
fn check_authorities(
    usage: Option<&Usage>,
    authorities: &[CertificateDer<'_>],
    measured: &AppIdentity,
) -> Result<(), IssuerError> {
    let [authority, ..] = authorities else {
        return Err(IssuerError::NotOfAnApp("no authority of an application stands between"));
    };
    if usage != Some(&Usage::App) {
        return Err(IssuerError::NotOfAnApp("its extension .4 does not say app:custom"));
    }
    let (usage, app_id) = certificate::marks(authority).map_err(|error| IssuerError::Chain(error.to_string()))?;
    if usage != Some(Usage::AppCa) {
        return Err(IssuerError::NotOfAnApp("its issuer's extension .4 does not say app:ca"));
    }
    match app_id {
        Some(app_id) if app_id == measured.app_id => Ok(()),
        Some(other) => Err(IssuerError::OtherApp(other)),
        None => Err(IssuerError::NotOfAnApp("its issuer's extension .3 names no application")),
    }
}

fn earliest_end<'a>(mut authorities: impl Iterator<Item = &'a CertificateDer<'a>>) -> Option<u64> {
    let end = |der: &CertificateDer<'_>| {
        let (_, authority) = X509Certificate::from_der(der).ok()?;
        u64::try_from(authority.validity.not_after.timestamp()).ok()
    };
    authorities.try_fold(u64::MAX, |earliest, authority| Some(earliest.min(end(authority)?)))
}

impl IssuerError {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::OwnSignature(_) => "certificate_signature",
            Self::NotPinned => "issuer_not_pinned",
            Self::Chain(_) => "kms_chain",
            Self::NotOfAnApp(_) => "kms_not_of_an_app",
            Self::OtherApp(_) => "kms_other_app",
            Self::OtherKeyProvider => "kms_other_key_provider",
        }
    }

    /// A sentence that the peer may read.
    #[must_use]
    pub fn public(&self) -> &'static str {
        match self {
            Self::OwnSignature(_) => "the certificate is not soundly signed with its own key",
            Self::NotPinned => "the certificate was issued by an authority, and none is accepted here",
            Self::Chain(_) => "the certificate does not lead to the KMS that is accepted here",
            Self::NotOfAnApp(_) => "the KMS did not issue the certificate to an application",
            Self::OtherApp(_) => "the certificate was issued to another application than the one measured",
            Self::OtherKeyProvider => "the guest does not have its keys from the KMS that issued the certificate",
        }
    }
}
