//! Plain mutual TLS, in memory: what RA-TLS is compared with.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::attested::PIPE;
use super::guest::{ALPN, NAME};

/// A server and a client with P-256 certificates under one CA, and with the groups, suites and protocol of ours.
pub(super) struct PlainTls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl PlainTls {
    pub(super) fn new() -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let provider = Arc::new(CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        });
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server(&authority, &provider)?)),
            connector: TlsConnector::from(Arc::new(client(&authority, &provider)?)),
            name: ServerName::try_from(NAME)?,
        })
    }

    /// A handshake in which each side verifies the other's certificate.
    pub(super) async fn handshake(&self) -> anyhow::Result<()> {
        let (client, server) = tokio::io::duplex(PIPE);
        let (accepted, connected) =
            tokio::join!(self.acceptor.accept(server), self.connector.connect(self.name.clone(), client));
        connected.context("the client")?;
        accepted.context("the server")?;
        Ok(())
    }
}

fn server(authority: &Authority, provider: &Arc<CryptoProvider>) -> anyhow::Result<ServerConfig> {
    let roots = Arc::new(authority.roots()?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider)).build()?;
    let (chain, key) = authority.leaf(ExtendedKeyUsagePurpose::ServerAuth)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = protocols();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(authority: &Authority, provider: &Arc<CryptoProvider>) -> anyhow::Result<ClientConfig> {
    let roots = Arc::new(authority.roots()?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build()?;
    let (chain, key) = authority.leaf(ExtendedKeyUsagePurpose::ClientAuth)?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = protocols();
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn protocols() -> Vec<Vec<u8>> {
    ALPN.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// A certificate authority of one's own, with nothing between it and the leaves.
struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    fn roots(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(roots)
    }

    fn leaf(
        &self,
        usage: ExtendedKeyUsagePurpose,
    ) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(vec![NAME.to_owned()])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer)?.der().clone();
        Ok((vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
    }
}
