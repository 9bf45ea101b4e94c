use std::io;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::PeerPolicy;
use postern_plumbing::Io;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::version::TLS13;
use rustls_pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::acceptor::Attested;
use super::verifier::{Current, Possession};
use super::{alpn_of, alpn_protocols, peer_certificates, shared_provider, was_resumed};
use crate::attestor::Attestor;
use crate::keeper::IdentityKeeper;
use crate::refusal::PeerRefused;

/// The client's end of mutual RA-TLS.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    attestor: Arc<Attestor>,
}

/// Why there is no session with a server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectRefused {
    /// The name is neither a DNS name nor an IP address.
    #[error("{0:?} is not a name that a server can be asked for")]
    Name(String),
    /// The handshake and the appraisal did not end in time.
    #[error("no TLS session within {0:?}")]
    Deadline(Duration),
    /// The handshake failed, or the server ended it.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// The session was resumed, so that nobody was verified.
    #[error("the TLS session was resumed, which is switched off")]
    Resumed,
    /// The server's evidence is not believed, or it is another server than expected.
    #[error("the server is refused: {0}")]
    Server(#[from] PeerRefused),
}

impl ConnectRefused {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Deadline(_) => "tls_deadline",
            Self::Handshake(_) => "tls_handshake",
            Self::Resumed => "tls_resumed",
            Self::Server(refused) => refused.label(),
        }
    }

    /// A sentence for whoever asked for the connection.
    #[must_use]
    pub fn public(&self) -> &'static str {
        match self {
            Self::Name(_) => "the server's name is not one that TLS can ask for",
            Self::Deadline(_) => "the server did not complete the TLS handshake in time",
            Self::Handshake(_) => "the TLS handshake with the server failed",
            Self::Resumed => "the server resumed a TLS session, which is not allowed",
            Self::Server(refused) => refused.public(),
        }
    }
}

impl Connector {
    /// A connector that shows `keeper`'s identity, if there is one, has servers judged by `attestor` and offers the
    /// protocols `alpn`.
    #[must_use]
    pub fn new(keeper: Option<Arc<IdentityKeeper>>, attestor: Arc<Attestor>, alpn: &[&str]) -> Self {
        Self { tls: TlsConnector::from(Arc::new(client_config(keeper, alpn))), attestor }
    }

    /// Does the handshake, has the server's certificate appraised and compares the server with what is `expected`, all
    /// before any application byte is written, and within `deadline`.
    ///
    /// Our own certificate goes out before the server is judged, as TLS has it. It holds nothing secret.
    ///
    /// In TLS 1.3 a client's handshake is over before the server has looked at its certificate: that the server accepts us
    /// is known only with its first byte.
    ///
    /// # Errors
    /// When there is no session, or one with a server that is not believed or not expected.
    pub async fn connect<S: Io>(
        &self,
        io: S,
        sni: &str,
        expected: &PeerPolicy,
        deadline: Duration,
    ) -> Result<Attested<S>, ConnectRefused> {
        let end = Instant::now() + deadline;
        let late = |_| ConnectRefused::Deadline(deadline);
        let name = ServerName::try_from(sni.to_owned()).map_err(|_| ConnectRefused::Name(sni.to_owned()))?;
        let stream =
            timeout_at(end, self.tls.connect(name, io)).await.map_err(late)?.map_err(ConnectRefused::Handshake)?;
        let connection = stream.get_ref().1;
        if was_resumed(connection) {
            return Err(ConnectRefused::Resumed);
        }
        let appraisal = self.attestor.appraise_chain(peer_certificates(connection));
        let peer = timeout_at(end, appraisal).await.map_err(late)??;
        expected.check(&peer).map_err(PeerRefused::from)?;
        let alpn = alpn_of(connection);
        Ok(Attested { peer: Some(peer), stream: stream.into(), alpn })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

fn client_config(keeper: Option<Arc<IdentityKeeper>>, alpn: &[&str]) -> ClientConfig {
    let provider = shared_provider();
    #[expect(
        clippy::expect_used,
        reason = "fails only for a provider without suites or groups, and ours is a constant"
    )]
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3");
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Possession(provider)));
    let mut config = match keeper {
        Some(keeper) => builder.with_client_cert_resolver(Arc::new(Current(keeper))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn_protocols(alpn);
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}
