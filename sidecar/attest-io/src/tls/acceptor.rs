use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::Appraisal;
use postern_plumbing::Io;
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::verifier::{Current, Possession};
use super::{alpn_of, alpn_protocols, peer_certificates, shared_provider, was_resumed};
use crate::attestor::Attestor;
use crate::keeper::IdentityKeeper;
use crate::refusal::PeerRefused;

/// What is asked of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRule {
    /// A certificate whose evidence is believed.
    Required,
    /// Nothing. A client's evidence is looked at, and a client without any is let in all the same: whoever has the network
    /// path gets as far as the password.
    Optional,
}

/// The server's end of mutual RA-TLS.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    attestor: Arc<Attestor>,
    clients: ClientRule,
}

/// A session whose handshake is over, and what became of the client's evidence. Whoever holds one has to look at the
/// verdict; [`Accepted::admit`] is the short way to a session with a verified client.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The session.
    pub stream: TlsStream<S>,
    /// The client's appraisal; `None` for a client without believable evidence where none is required.
    pub verdict: Result<Option<Arc<Appraisal>>, PeerRefused>,
    /// The application protocol that was agreed on; `None` when the client offered none.
    pub alpn: Option<Vec<u8>>,
}

/// A session that exists because the other side's evidence was believed, or not asked for.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attested<S> {
    /// The other side; `None` for a client of which nothing was required.
    pub peer: Option<Arc<Appraisal>>,
    /// The session.
    pub stream: TlsStream<S>,
    /// The application protocol that was agreed on.
    pub alpn: Option<Vec<u8>>,
}

/// Why there is no TLS session at all.
#[derive(Debug, thiserror::Error)]
pub enum TlsRefused {
    /// The handshake and the appraisal did not end in time.
    #[error("no TLS session within {0:?}")]
    Deadline(Duration),
    /// The handshake failed; where TLS has an alert for it, the other side was told.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// The session was resumed, so that nobody was verified.
    #[error("the TLS session was resumed, which is switched off")]
    Resumed,
}

impl TlsRefused {
    /// A short, stable name for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Deadline(_) => "tls_deadline",
            Self::Handshake(_) => "tls_handshake",
            Self::Resumed => "tls_resumed",
        }
    }
}

impl Acceptor {
    /// An acceptor that shows `keeper`'s identity, has clients judged by `attestor` and speaks the protocols `alpn`.
    ///
    /// A client that offers other protocols is refused by TLS; one that offers none is accepted, and the caller sees it.
    #[must_use]
    pub fn new(keeper: Arc<IdentityKeeper>, attestor: Arc<Attestor>, alpn: &[&str], clients: ClientRule) -> Self {
        if clients == ClientRule::Optional {
            tracing::warn!("clients are let in without evidence");
        }
        let config = server_config(keeper, alpn);
        Self { tls: TlsAcceptor::from(Arc::new(config)), attestor, clients }
    }

    /// Does the handshake, and has the client's certificate appraised before any application byte is read. Both together
    /// take at most `deadline`.
    ///
    /// # Errors
    /// When there is no TLS session. A client that is refused for its evidence has one, with the refusal as its verdict.
    pub async fn accept<S: Io>(&self, io: S, deadline: Duration) -> Result<Accepted<S>, TlsRefused> {
        self.meet(io, None, deadline).await
    }

    /// The same for a client that called from `source`, which may cause only so much work with certificates that nobody has
    /// seen yet.
    ///
    /// # Errors
    /// As [`Self::accept`].
    pub async fn accept_from<S: Io>(
        &self,
        io: S,
        source: IpAddr,
        deadline: Duration,
    ) -> Result<Accepted<S>, TlsRefused> {
        self.meet(io, Some(source), deadline).await
    }

    async fn meet<S: Io>(&self, io: S, source: Option<IpAddr>, deadline: Duration) -> Result<Accepted<S>, TlsRefused> {
        let end = Instant::now() + deadline;
        let late = |_| TlsRefused::Deadline(deadline);
        let stream = timeout_at(end, self.tls.accept(io)).await.map_err(late)?.map_err(TlsRefused::Handshake)?;
        let connection = stream.get_ref().1;
        if was_resumed(connection) {
            return Err(TlsRefused::Resumed);
        }
        let appraisal = self.attestor.judge_chain(peer_certificates(connection), source);
        let verdict = match (timeout_at(end, appraisal).await.map_err(late)?, self.clients) {
            (Ok(appraisal), _) => Ok(Some(appraisal)),
            (Err(refused), ClientRule::Required) => Err(refused),
            (Err(refused), ClientRule::Optional) => {
                tracing::debug!(%refused, "a client is let in without believable evidence");
                Ok(None)
            }
        };
        let alpn = alpn_of(connection);
        Ok(Accepted { stream: stream.into(), verdict, alpn })
    }
}

impl<S> Accepted<S> {
    /// The session with its verified client, or the session in which the refusal can be told.
    ///
    /// # Errors
    /// When the client's evidence is not believed.
    pub fn admit(self) -> Result<Attested<S>, Box<(TlsStream<S>, PeerRefused)>> {
        match self.verdict {
            Ok(peer) => Ok(Attested { peer, stream: self.stream, alpn: self.alpn }),
            Err(refused) => Err(Box::new((self.stream, refused))),
        }
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("clients", &self.clients).finish_non_exhaustive()
    }
}

fn server_config(keeper: Arc<IdentityKeeper>, alpn: &[&str]) -> ServerConfig {
    let provider = shared_provider();
    #[expect(
        clippy::expect_used,
        reason = "fails only for a provider without suites or groups, and ours is a constant"
    )]
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3");
    let mut config =
        builder.with_client_cert_verifier(Arc::new(Possession(provider))).with_cert_resolver(Arc::new(Current(keeper)));
    config.alpn_protocols = alpn_protocols(alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}
