//! One driver connection in connect mode.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use postern_attest::{Appraisal, PeerPolicy};
use postern_attest_io::{Attested, Attestor, Connector, PeerRefused};
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::startup::Startup;
use postern_plumbing::Io;
use postern_plumbing::relay::{self, RelayEnd};
use postern_plumbing::tasks::Tasks;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;
use crate::deadline::Deadline;
use crate::dial::Place;
use crate::meter::Meter;
use crate::opening::{self, Request, RequestError};
use crate::packets::{self, ReadError};
use crate::serve::reappraisal::Evidence;

/// How long a driver waits for the end of a cancel request.
const CANCEL: Duration = Duration::from_secs(10);
/// How many drivers may be on the way to a session.
const HANDSHAKES: usize = 512;

/// Carries drivers' connections to one server.
#[derive(Debug)]
pub struct Forwarder {
    /// The server.
    pub place: Place,
    /// What it must prove to be.
    pub expected: PeerPolicy,
    /// Our side of TLS.
    pub connector: Connector,
    /// The connector's judge, who is asked again while sessions last.
    pub attestor: Arc<Attestor>,
    /// From the driver's first byte to the server's verified end of TLS.
    pub deadline: Duration,
    /// The server that was verified last, so that each is logged once.
    pub last: Mutex<Option<[u8; 32]>>,
    /// Room for connections that are not sessions yet.
    pub handshakes: Arc<Semaphore>,
}

/// How a driver's connection ended that was not refused.
#[derive(Debug)]
pub enum Ended {
    /// It brought a cancel request.
    Cancel,
    /// It was a session.
    Session(RelayEnd),
    /// It was a session until the server was judged again.
    Cut(PeerRefused),
}

/// A server that was verified, and what it was verified by.
#[derive(Debug)]
struct Verified {
    server: Attested<TcpStream>,
    evidence: Evidence,
}

impl Forwarder {
    /// Room for as many connections as may be on the way to a session.
    #[must_use]
    pub fn handshake_room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(HANDSHAKES))
    }

    /// Carries one connection until it ends. `room` is held for as long as it is no session.
    ///
    /// # Errors
    /// Why there was no session. The driver has been told.
    pub async fn connection<S: Io>(&self, mut driver: S, room: OwnedSemaphorePermit) -> Result<Ended, Failure> {
        let deadline = Deadline::after(self.deadline);
        match Box::pin(self.establish(&mut driver, deadline)).await {
            Ok(None) => Ok(Ended::Cancel),
            Ok(Some(Verified { mut server, evidence })) => {
                drop(room);
                let meter = Meter::start(["to_server", "to_driver"]);
                tokio::select! {
                    end = relay::relay(&mut driver, &mut server.stream, &meter.progress) => Ok(Ended::Session(end)),
                    refused = evidence.disbelieved(server.peer.as_deref(), &self.expected) => Ok(Ended::Cut(refused)),
                }
            }
            Err(failure) => {
                let response = failure.response().map(|response| response.encode());
                packets::refuse(&mut driver, response.as_deref()).await;
                Err(failure)
            }
        }
    }

    async fn establish<S: Io>(&self, driver: &mut S, deadline: Deadline) -> Result<Option<Verified>, Failure> {
        let mut buf = BytesMut::new();
        let late = || Failure::Deadline { place: self.place.to_string() };
        match deadline.limit(opening::request(driver, &mut buf)).await.map_err(|_| late())?? {
            Request::Cancel(key) => {
                self.cancel(&key, deadline).await?;
                Ok(None)
            }
            Request::Startup(startup) => {
                let mut verified = self.dial(deadline).await?;
                let opened = deadline.limit(open(&mut verified.server, &startup, &buf)).await.map_err(|_| late())?;
                opened.map_err(|source| self.broken(source))?;
                Ok(Some(verified))
            }
        }
    }

    /// Connects to the server and verifies it.
    async fn dial(&self, deadline: Deadline) -> Result<Verified, Failure> {
        let place = || self.place.to_string();
        let stream = deadline.limit(self.place.connect()).await;
        let stream = stream
            .map_err(|_| Failure::Deadline { place: place() })?
            .map_err(|source| Failure::Unreachable { place: place(), source })?;
        let evidence = Evidence::awaited(&self.attestor);
        let connect = self.connector.connect(stream, &self.place.host, &self.expected, deadline.left());
        let attested = Box::pin(connect).await.map_err(|source| Failure::Refused { place: place(), source })?;
        if let Some(peer) = &attested.peer {
            self.log_once(peer);
        }
        let evidence = evidence.shown(attested.stream.get_ref().1);
        Ok(Verified { server: attested, evidence })
    }

    /// Carries a cancel request inside TLS. The driver takes the end of its connection for the sign that the request was
    /// acted on, so that end is awaited here.
    async fn cancel(&self, key: &CancelKey, deadline: Deadline) -> Result<(), Failure> {
        let mut server = self.dial(deadline).await?.server.stream;
        let delivered = async {
            packets::write(&mut server, &key.request()).await?;
            // Whatever ends the reading ends the wait: nothing is ever answered.
            drop(server.read(&mut [0; 1]).await);
            Ok(())
        };
        match tokio::time::timeout(CANCEL, delivered).await {
            Ok(delivered) => delivered.map_err(|source| self.broken(source)),
            Err(_) => Err(Failure::Deadline { place: self.place.to_string() }),
        }
    }

    fn broken(&self, source: std::io::Error) -> Failure {
        Failure::Broken { place: self.place.to_string(), source }
    }

    fn log_once(&self, peer: &Appraisal) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.replace(peer.fingerprint) != Some(peer.fingerprint) {
            tracing::info!(
                server = %self.place,
                app_id = %peer.identity.app_id,
                compose_hash = %peer.identity.compose_hash,
                instance_id = %peer.identity.instance_id,
                tcb_status = peer.tcb_status,
                "server verified"
            );
        }
    }
}

/// The server's first bytes: the driver's startup packet, untouched, and whatever the driver sent behind it.
async fn open(server: &mut Attested<TcpStream>, startup: &Startup, ahead: &[u8]) -> std::io::Result<()> {
    packets::write(&mut server.stream, &[startup.raw(), ahead].concat()).await
}

/// Serves one driver in a task of its own, or closes its connection at once where too many are on the way to a session.
pub fn serve<S: Io>(forwarder: &Arc<Forwarder>, driver: S, sessions: &Tasks) {
    let Ok(room) = Arc::clone(&forwarder.handshakes).try_acquire_owned() else {
        let reason = "too_many_handshakes";
        metrics::counter!("postern_sidecar_refusals_total", "reason" => reason, "way" => "connect").increment(1);
        tracing::debug!(reason, "connection closed");
        return;
    };
    let forwarder = Arc::clone(forwarder);
    sessions.spawn("driver", async move { report(&forwarder, driver, room).await });
}

async fn report<S: Io>(forwarder: &Forwarder, driver: S, room: OwnedSemaphorePermit) {
    metrics::counter!("postern_sidecar_connections_total", "way" => "connect").increment(1);
    match forwarder.connection(driver, room).await {
        Ok(Ended::Cancel) => metrics::counter!("postern_sidecar_cancels_total", "outcome" => "forwarded").increment(1),
        Ok(Ended::Cut(refused)) => {
            let reason = refused.label();
            metrics::counter!("postern_sidecar_sessions_cut_total", "reason" => reason).increment(1);
            tracing::warn!(reason, "session cut: the server's evidence is no longer good enough: {refused}");
        }
        Ok(Ended::Session(end)) => {
            let error = end.error.map(|error| error.to_string());
            tracing::info!(to_server = end.to_upstream, to_driver = end.to_client, error, "session ended");
        }
        Err(failure) => {
            let reason = failure.label();
            metrics::counter!("postern_sidecar_refusals_total", "reason" => reason, "way" => "connect").increment(1);
            if matches!(failure, Failure::Request(RequestError::Read(ReadError::Closed))) {
                tracing::debug!(reason, "connection closed before its first byte");
            } else {
                tracing::warn!(reason, detail = %failure, "no session");
            }
        }
    }
}
