//! The door for instances: HTTPS by mutual RA-TLS, with dstack's calls.
//!
//! An instance keeps its connection open after it registered. That is the sign of life by which connections prefer it; when
//! it ends, the instance stays reachable until its time is over.

mod admission;
mod http;
mod message;
mod problem;
mod write_deadline;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postern_attest::Appraisal;
use postern_attest_io::{Accepted, Acceptor, Attestor, PeerRefused};
use postern_gateway_core::registration::Link;
use postern_plumbing::accept;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use self::admission::{About, Registrar};
pub use self::message::{
    AgentFields, Gateway, GatewayFields, Info, PortAttributes, PortPolicy, RegisterCvm, Registered, SidecarFields,
    WireGuard, WireGuardPeer,
};
pub use self::problem::Problem;
use crate::members::Evidence;

/// The protocol that is spoken inside TLS, by its ALPN name.
pub const ALPN: &str = "http/1.1";

/// What every registration connection needs.
#[derive(Debug)]
pub struct Door {
    /// The server's end of RA-TLS.
    pub acceptor: Acceptor,
    /// Who judges evidence, again at every renewal.
    pub attestor: Arc<Attestor>,
    /// Who registers.
    pub registrar: Registrar,
    /// For the TLS handshake, for a write that makes no progress, and for all of what somebody without believable evidence
    /// has to say.
    pub deadline: Duration,
    /// One permit per connection.
    pub places: Arc<Semaphore>,
}

/// The other side of a registration connection.
#[derive(Debug)]
struct Peer {
    certificates: Evidence,
    refused: Option<PeerRefused>,
}

/// Accepts instances until the shutdown.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    door: Arc<Door>,
    tasks: Tasks,
    shutdown: Shutdown,
) -> Result<(), accept::Fatal> {
    loop {
        let accepted = tokio::select! {
            accepted = accept::accept(&listener) => accepted,
            () = shutdown.triggered() => return Ok(()),
        };
        let (stream, source) = accepted?;
        // TLS has no words before the handshake, and the handshake is what would cost too much.
        let Ok(place) = Semaphore::try_acquire_owned(Arc::clone(&door.places)) else { continue };
        let (door, shutdown) = (Arc::clone(&door), shutdown.clone());
        tasks.spawn("registration connection", async move {
            let _place = place;
            connection(door, stream, source, shutdown).await;
        });
    }
}

async fn connection(door: Arc<Door>, stream: TcpStream, source: SocketAddr, shutdown: Shutdown) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    match door.acceptor.accept_from(stream, source.ip(), door.deadline).await {
        Ok(Accepted { stream, verdict, .. }) => {
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let certificates = certificates.iter().map(|certificate| certificate.clone().into_owned()).collect();
            let refused = match verdict {
                Ok(Some(_)) => None,
                Ok(None) => Some(PeerRefused::NoCertificate),
                Err(refused) => Some(refused),
            };
            let link = Link(LAST.fetch_add(1, Ordering::Relaxed));
            http::serve(door, stream, Peer { certificates, refused }, link, shutdown).await;
        }
        Err(error) => tracing::debug!(reason = error.label(), %error, "no TLS session with an instance"),
    }
}

impl Peer {
    /// What the other side proves, by today's collateral.
    async fn appraise(&self, attestor: &Arc<Attestor>) -> Result<Arc<Appraisal>, PeerRefused> {
        match &self.refused {
            Some(refused) => Err(refused.clone()),
            None => attestor.appraise_chain(&self.certificates).await,
        }
    }
}
