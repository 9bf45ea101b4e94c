//! Plain mutual TLS, in memory: what RA-TLS is compared with.

use std::sync::Arc;

use anyhow::Context as _;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::attested::PIPE;
use super::guest::{ALPN, NAME};
use crate::authority::{Authority, provider};

/// A server and a client with P-256 certificates under one CA, and with the groups, suites and protocol of ours.
pub(super) struct PlainTls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl PlainTls {
    pub(super) fn new() -> anyhow::Result<Self> {
        let authority = Authority::new()?;
        let provider = Arc::new(provider());
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
    let (chain, key) = authority.leaf(NAME, ExtendedKeyUsagePurpose::ServerAuth)?;
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
    let (chain, key) = authority.leaf(NAME, ExtendedKeyUsagePurpose::ClientAuth)?;
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
