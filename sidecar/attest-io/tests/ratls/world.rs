//! Guests on simulated platforms, and peers that break the rules.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use postern_attest::certificate::Extension;
use postern_attest::{Appraiser, Collateral, PeerPolicy, TcbPolicy, TrustRoot, certificate};
use postern_attest_io::agent::AgentEndpoint;
use postern_attest_io::{
    Accepted, Acceptor, Attested, Attestor, ClientRule, ConnectRefused, Connector, GuestAgent, Identity,
    IdentityKeeper, TlsRefused,
};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_simulator::{Cvm, Measurements, Tee};
use rcgen::{CertificateParams, CustomExtension, KeyPair, PublicKeyData as _};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::DuplexStream;

pub(crate) const APP: AppId = AppId([0xa0; 20]);
pub(crate) const OTHER_APP: AppId = AppId([0xb0; 20]);
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const ALPN: &[&str] = &["postgresql"];

/// The platform that everybody trusts here.
pub(crate) static TEE: LazyLock<Arc<Tee>> = LazyLock::new(|| Arc::new(Tee::new([7; 32]).unwrap()));

pub(crate) fn cvm(tee: &Arc<Tee>, app: AppId, measurements: Measurements) -> Arc<Cvm> {
    Arc::new(Cvm::with_measurements(Arc::clone(tee), app, br#"{"name":"db"}"#.to_vec(), "one", measurements))
}

/// A CVM whose guest agent listens.
pub(crate) struct Guest {
    pub(crate) cvm: Arc<Cvm>,
    pub(crate) agent: GuestAgent,
    serving: Task<()>,
    _folder: tempfile::TempDir,
}

impl Guest {
    pub(crate) fn start(cvm: Arc<Cvm>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dstack.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let served = Arc::clone(&cvm);
        let serving = Task::spawn("agent", async move {
            postern_simulator::agent::serve(listener, served, unix_now, std::future::pending()).await.unwrap();
        });
        let agent = GuestAgent::new(AgentEndpoint::Unix(path), Duration::from_secs(10));
        Self { cvm, agent, serving, _folder: folder }
    }

    pub(crate) fn of(app: AppId) -> Self {
        Self::start(cvm(&TEE, app, Measurements::default()))
    }

    pub(crate) async fn stop(self) {
        self.serving.stop().await;
    }

    pub(crate) async fn keeper(&self) -> Arc<IdentityKeeper> {
        let names = ["db.postern.test".to_owned()];
        IdentityKeeper::of(Identity::issue(&self.agent, &names, Duration::from_secs(3600)).await.unwrap())
    }
}

pub(crate) fn collateral(tee: &Tee) -> Collateral {
    Collateral::from_json(tee.collateral_bundle_json(unix_now()).unwrap().as_bytes()).unwrap()
}

pub(crate) fn appraiser(tee: &Tee) -> Appraiser {
    Appraiser::new(TrustRoot::from_pem(tee.root_pem().as_bytes()).unwrap(), TcbPolicy::default())
}

pub(crate) fn attestor() -> Arc<Attestor> {
    Attestor::new(appraiser(&TEE), collateral(&TEE))
}

/// A server of [`APP`] and a client of [`OTHER_APP`], both in order.
pub(crate) struct Pair {
    pub(crate) acceptor: Acceptor,
    pub(crate) connector: Connector,
}

impl Pair {
    pub(crate) async fn new() -> Self {
        Self::judged_by(attestor()).await
    }

    pub(crate) async fn judged_by(attestor: Arc<Attestor>) -> Self {
        let (server, client) = (Guest::of(APP), Guest::of(OTHER_APP));
        let acceptor = Acceptor::new(server.keeper().await, Arc::clone(&attestor), ALPN, ClientRule::Required);
        let connector = Connector::new(Some(client.keeper().await), attestor, ALPN);
        Self { acceptor, connector }
    }

    pub(crate) async fn meet(
        &self,
        expected: &PeerPolicy,
    ) -> (Result<Accepted<DuplexStream>, TlsRefused>, Result<Attested<DuplexStream>, ConnectRefused>) {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::join!(
            self.acceptor.accept(theirs, DEADLINE),
            self.connector.connect(ours, "db.postern.test", expected, DEADLINE)
        )
    }
}

/// A certificate that may be anything, and a key that may not be its own.
pub(crate) struct Credentials {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) signing_key: Option<KeyPair>,
}

impl Credentials {
    /// A certificate without evidence.
    pub(crate) fn ordinary() -> Self {
        let mut params = CertificateParams::new(vec!["db.postern.test".to_owned()]).unwrap();
        let now = i64::try_from(unix_now()).unwrap();
        params.not_before = time::OffsetDateTime::from_unix_timestamp(now - 60).unwrap();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(now + 3600).unwrap();
        Self { params, key: key(), signing_key: None }
    }

    /// A certificate as a sidecar in `cvm` issues it.
    pub(crate) fn of(cvm: &Cvm) -> Self {
        let mut credentials = Self::ordinary();
        let quote = credentials.quote(cvm);
        credentials.carry(certificate::extensions(&quote, cvm.event_log(), &cvm.app_id()).unwrap());
        credentials
    }

    pub(crate) fn quote(&self, cvm: &Cvm) -> Vec<u8> {
        cvm.quote(postern_attest::report_data(&self.key.subject_public_key_info()))
    }

    pub(crate) fn carry(&mut self, extensions: Vec<Extension>) {
        let custom = |extension: Extension| CustomExtension::from_oid_content(extension.oid, extension.content);
        self.params.custom_extensions = extensions.into_iter().map(custom).collect();
    }

    fn certified(&self) -> CertifiedKey {
        let certificate = self.params.self_signed(&self.key).unwrap().der().clone();
        let signing = self.signing_key.as_ref().unwrap_or(&self.key).serialize_der();
        let signing =
            aws_lc_rs::sign::any_supported_type(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing))).unwrap();
        CertifiedKey::new(vec![certificate], signing)
    }

    /// A client that trusts everybody and shows this.
    pub(crate) fn client(&self) -> rustls::ClientConfig {
        trusting().with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(self.certified())))
    }

    /// A server that asks nothing and shows this. It hands out tickets for resumption.
    pub(crate) fn server(&self) -> rustls::ServerConfig {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(self.certified())));
        config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        config
    }
}

pub(crate) fn key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A client that trusts everybody and resumes whenever it can.
pub(crate) fn trusting() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsEverybody))
}

#[derive(Debug)]
struct TrustsEverybody;

impl rustls::client::danger::ServerCertVerifier for TrustsEverybody {
    fn verify_server_cert(
        &self,
        _leaf: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _name: &rustls_pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &rustls_pki_types::CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &rustls_pki_types::CertificateDer<'_>,
        _signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
