//! Mutual RA-TLS between two guests, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use postern_attest::certificate::evidence;
use postern_attest::{Collateral, PeerPolicy};
use postern_attest_io::{Acceptor, Attestor, ClientRule, Connector, IdentityKeeper};
use postern_plumbing::Io;
use tokio_util::io::InspectWriter;

use super::guest::{ALPN, CLIENT, Guest, NAME, Platform, SERVER};

/// How long a handshake may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Room for any flight, so that no side waits for the other to read.
pub(super) const PIPE: usize = 128 * 1024;

/// Two guests who judge each other, each with a memory of its own.
pub(super) struct AttestedTls {
    acceptor: Acceptor,
    connector: Connector,
    attestors: [Arc<Attestor>; 2],
    server: Arc<IdentityKeeper>,
    collateral: Collateral,
    expected: PeerPolicy,
}

/// The bytes that each side sent in a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flights {
    /// From ClientHello to the client's Finished.
    pub(super) client: usize,
    /// From ServerHello to the server's Finished, after which it has nothing more to send.
    pub(super) server: usize,
}

impl AttestedTls {
    pub(super) async fn new(platform: &Platform) -> anyhow::Result<Self> {
        let server = Guest::start(platform, SERVER)?.identity().await?;
        let client = Guest::start(platform, CLIENT)?.identity().await?;
        let attestors = [platform.attestor()?, platform.attestor()?];
        let [of_server, of_client] = attestors.clone();
        Ok(Self {
            acceptor: Acceptor::new(Arc::clone(&server), of_server, ALPN, ClientRule::Required),
            connector: Connector::new(Some(client), of_client, ALPN),
            attestors,
            server,
            collateral: platform.collateral(),
            expected: PeerPolicy::app(SERVER),
        })
    }

    /// A handshake in which each side ends with a verdict about the other.
    pub(super) async fn handshake(&self) -> anyhow::Result<()> {
        let (client, server) = tokio::io::duplex(PIPE);
        self.handshake_over(client, server).await
    }

    /// The bytes of a handshake.
    pub(super) async fn flights(&self) -> anyhow::Result<Flights> {
        let [by_client, by_server] = [AtomicUsize::new(0), AtomicUsize::new(0)].map(Arc::new);
        let (client, server) = tokio::io::duplex(PIPE);
        let client = InspectWriter::new(client, counting(&by_client));
        let server = InspectWriter::new(server, counting(&by_server));
        self.handshake_over(client, server).await?;
        Ok(Flights { client: by_client.load(Ordering::Relaxed), server: by_server.load(Ordering::Relaxed) })
    }

    /// Makes both sides forget their verdicts, as new collateral does.
    pub(super) fn forget(&self) {
        for attestor in &self.attestors {
            attestor.replace_collateral(self.collateral.clone());
        }
    }

    /// Has the server's certificate judged by the client.
    pub(super) async fn appraise(&self) -> anyhow::Result<()> {
        let [_, of_client] = &self.attestors;
        let certificate = self.server.current().certificate().clone();
        of_client.appraise_chain(&[certificate]).await?;
        Ok(())
    }

    /// How many bytes the server's certificate would have more if its quote had `length` bytes, which has no other effect
    /// on it than its length wherever it stands.
    pub(super) fn growth(&self, length: usize) -> anyhow::Result<usize> {
        let identity = self.server.current();
        let quote = evidence(identity.certificate())?.quote;
        let copies = identity.certificate().windows(quote.len()).filter(|bytes| **bytes == *quote).count();
        Ok(copies * length.saturating_sub(quote.len()))
    }

    async fn handshake_over(&self, client: impl Io, server: impl Io) -> anyhow::Result<()> {
        let (accepted, connected) = tokio::join!(
            self.acceptor.accept(server, DEADLINE),
            self.connector.connect(client, NAME, &self.expected, DEADLINE)
        );
        connected.context("the client")?;
        accepted.context("the server")?.verdict.context("the client's evidence")?;
        Ok(())
    }
}

fn counting(total: &Arc<AtomicUsize>) -> impl FnMut(&[u8]) + Send + Unpin + 'static {
    let total = Arc::clone(total);
    move |bytes| {
        total.fetch_add(bytes.len(), Ordering::Relaxed);
    }
}
