use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::event_log::EventLogError;
use postern_attest::{AppIdentity, certificate};
use postern_plumbing::clock::unix_now;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::agent::{AgentError, GuestAgent};
use crate::tls::provider;

/// For how long before its issue a certificate is valid, so that peers whose clocks are slow accept it.
const BACKDATED: Duration = Duration::from_secs(300);

/// A handshake flight beyond this needs another round trip (RFC 6928, initial window of ten segments).
const FIRST_FLIGHT: usize = 14 * 1024;

/// Who we are: a self-signed certificate that carries a quote over its own key.
///
/// The P-256 key is made in this process and never leaves it, unless somebody asks for its PEM form.
pub struct Identity {
    certified: Arc<CertifiedKey>,
    public_key: Vec<u8>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    private_key_pem: Zeroizing<String>,
    end_point: [u8; 32],
    app: AppIdentity,
    not_after: u64,
}

/// Why there is no certificate for us.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The guest agent gave no quote.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The guest's event log does not identify an application.
    #[error("the guest's event log does not identify an application: {0}")]
    EventLog(#[from] EventLogError),
    /// The quote cannot be put into a certificate.
    #[error(transparent)]
    Extensions(#[from] certificate::ExtensionError),
    /// The certificate that was made does not read back.
    #[error("the certificate would be refused by every peer: {0}")]
    Unreadable(#[from] certificate::CertificateError),
    /// The guest agent quoted something else than it was asked to.
    #[error("the quote of the guest agent is not bound to our key")]
    NotBound,
    /// The certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The key cannot be used for TLS.
    #[error("the key cannot be used for TLS: {0}")]
    Key(#[from] rustls::Error),
    /// The validity is not a date.
    #[error("the validity ends at no date: {0}")]
    Validity(#[from] time::error::ComponentRange),
}

impl Identity {
    /// Makes a key, has the guest agent quote it, and signs a certificate for `names` (DNS names or IP addresses, possibly
    /// none) that serves as server and as client for `validity`.
    ///
    /// # Errors
    /// When the guest agent gives no usable quote, or the certificate cannot be made or is too large for TLS.
    pub async fn issue(agent: &GuestAgent, names: &[String], validity: Duration) -> Result<Self, IdentityError> {
        let key = Zeroizing::new(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?);
        let report_data = postern_attest::report_data(&key.subject_public_key_info());
        let evidence = agent.quote(&report_data).await?;
        let app = evidence.event_log.identity()?;
        let now = unix_now();
        let mut params = parameters(names, now, validity)?;
        for extension in certificate::extensions(&evidence.quote, &evidence.event_log, &app.app_id)? {
            params.custom_extensions.push(CustomExtension::from_oid_content(extension.oid, extension.content));
        }
        Self::new(&params.self_signed(&*key)?, &key, app)
    }

    fn new(certificate: &rcgen::Certificate, key: &KeyPair, app: AppIdentity) -> Result<Self, IdentityError> {
        let der = certificate.der().clone();
        let read = certificate::evidence(&der)?;
        if !read.is_bound() {
            return Err(IdentityError::NotBound);
        }
        if der.len() > FIRST_FLIGHT {
            tracing::warn!(
                bytes = der.len(),
                "our certificate does not fit a first flight; handshakes take a round trip more"
            );
        }
        let pkcs8 = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let certified = CertifiedKey::from_der(vec![der.clone()], pkcs8, &provider())?;
        let end_point = Sha256::digest(&der).into();
        Ok(Self {
            certified: Arc::new(certified),
            public_key: key.subject_public_key_info(),
            certificate: der,
            certificate_pem: certificate.pem(),
            private_key_pem: Zeroizing::new(key.serialize_pem()),
            end_point,
            app,
            not_after: read.not_after,
        })
    }

    /// What our own boot measured about us.
    #[must_use]
    pub fn app(&self) -> &AppIdentity {
        &self.app
    }

    /// The key that the quote vouches for, as DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What a proof inside TLS is bound to with `tls-server-end-point` (RFC 5929): the certificate's hash, by SHA-256 as its
    /// signature is.
    #[must_use]
    pub fn end_point(&self) -> &[u8; 32] {
        &self.end_point
    }

    /// The certificate as PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key as PKCS #8 PEM, for programs that do TLS themselves.
    #[must_use]
    pub fn private_key_pem(&self) -> &Zeroizing<String> {
        &self.private_key_pem
    }

    /// The end of the certificate's validity, seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> u64 {
        self.not_after
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("app", &self.app).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

fn parameters(names: &[String], now: u64, validity: Duration) -> Result<CertificateParams, IdentityError> {
    let date = |seconds: u64| OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap_or(i64::MAX));
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "postern");
    params.not_before = date(now.saturating_sub(BACKDATED.as_secs()))?;
    params.not_after = date(now.saturating_add(validity.as_secs()))?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}
