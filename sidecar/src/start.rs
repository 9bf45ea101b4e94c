//! What both modes do around their work: telemetry, the admin port, the end.

use std::net::SocketAddr;
use std::time::Duration;

use postern_attest_io::JudgeError;
use postern_attest_io::agent::AgentError;
use postern_plumbing::admin::{self, Readiness};
use postern_plumbing::exit;
use postern_plumbing::net::Endpoint;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use postern_plumbing::telemetry::Metrics;
use thiserror::Error;
use tokio::net::TcpListener;

/// Why the sidecar did not start, or gave up.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address is taken, or not ours.
    #[error("cannot listen on {endpoint}: {source}")]
    Bind {
        /// The address.
        endpoint: Endpoint,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that the configuration names cannot be used, or the configuration contradicts itself.
    #[error("{0}")]
    Configuration(String),
    /// Evidence cannot be judged.
    #[error(transparent)]
    Evidence(#[from] JudgeError),
    /// There is no guest agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Postgres must not be served.
    #[error(
        "Postgres lets clients in without SCRAM-SHA-256: set scram-sha-256 for local connections in its pg_hba.conf"
    )]
    Postgres,
    /// A listener broke.
    #[error(transparent)]
    Listener(#[from] postern_plumbing::accept::Fatal),
}

impl StartError {
    /// The code to exit with.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) | Self::Postgres => exit::CONFIG,
            Self::Evidence(error) => error.exit_code(),
            Self::Bind { .. } | Self::Agent(_) => exit::UNAVAILABLE,
            Self::Listener(_) => exit::SOFTWARE,
        }
    }
}

/// What both modes run on.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// Raised when the process is asked to stop.
    pub shutdown: Shutdown,
    /// What `/readyz` says.
    pub readiness: Readiness,
    /// Connections, which are waited for at the end.
    pub sessions: Tasks,
    /// Everything that ends with the process.
    pub background: Tasks,
}

impl Ground {
    /// Nothing is running yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the admin port and attends to signals.
    ///
    /// # Errors
    /// When the admin port cannot be opened.
    pub async fn attend(&self, admin: SocketAddr, metrics: Metrics) -> Result<(), StartError> {
        let listener = bind(admin).await?;
        self.shutdown.on_signals();
        // The admin port outlives the shutdown, to say that the sidecar is draining.
        let serving = admin::serve(listener, metrics, self.readiness.clone(), axum::Router::new(), Shutdown::new());
        self.background.spawn("admin", serving);
        Ok(())
    }

    /// Waits for the connections, at most for `deadline`, and says how it went.
    pub async fn drain(&self, deadline: Duration) {
        self.announce_drain(deadline);
        self.cut(deadline).await;
    }

    /// Says that the sidecar stops, and how long that may take.
    pub fn announce_drain(&self, deadline: Duration) {
        let check = self.readiness.register("draining");
        check.not_ready("the sidecar is stopping");
        let connections = self.sessions.count();
        tracing::info!(connections, deadline_seconds = deadline.as_secs(), "draining");
    }

    /// Waits for the connections, at most for `deadline`, then cuts them, and says how it went.
    pub async fn cut(&self, deadline: Duration) {
        let drained = self.sessions.close_and_wait(deadline).await;
        if drained.clean {
            tracing::info!("drained");
        } else {
            tracing::warn!(left = drained.left, "connections were left at the deadline and are cut");
        }
    }
}

/// Listens on a TCP address.
///
/// # Errors
/// When that cannot be done.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { endpoint: Endpoint::Tcp(address), source })
}

/// Says what the metrics of both modes mean.
pub fn describe_metrics() {
    use metrics::{describe_counter, describe_gauge};
    describe_counter!("postern_sidecar_connections_total", "Connections, by the way they came.");
    describe_counter!("postern_sidecar_refusals_total", "Connections that came to no session, by reason and way.");
    describe_counter!("postern_sidecar_authentications_total", "Clients that were let in as a role or not, by method.");
    describe_counter!("postern_sidecar_secret_reloads_total", "Readings of changed secret files, by outcome.");
    describe_counter!("postern_sidecar_cancels_total", "Cancel requests, by outcome.");
    describe_counter!(
        "postern_sidecar_bytes_total",
        "Bytes relayed in sessions that have ended, however they ended, by direction."
    );
    describe_counter!(
        "postern_sidecar_sessions_cut_total",
        "Sessions cut because the chain no longer allows the peer, or its evidence is no longer believed, by reason and by \
         whether the client was told."
    );
    describe_counter!(
        "postern_sidecar_gateways_disbelieved_total",
        "Tunnels closed because the gateway's evidence is no longer believed, by reason."
    );
    describe_counter!("postern_sidecar_attestations_total", "Answers about the database's state, by outcome.");
    describe_counter!(
        "postern_sidecar_postgres_connections_total",
        "Connections that sessions got, by how: opened or reused."
    );
    describe_counter!(
        "postern_sidecar_left_connections_total",
        "Connections that sessions left at rest, by what became of them: kept, old or unclean."
    );
    describe_gauge!("postern_sidecar_spare_connections", "Connections to Postgres that wait for a session.");
    describe_gauge!("postern_sidecar_sessions", "Sessions.");
    describe_gauge!(
        "postern_sidecar_target_up",
        "Whether each server of connect mode could be reached when it was last tried."
    );
    describe_gauge!("postern_sidecar_gateway_registered", "Whether each gateway has us registered.");
    describe_gauge!("postern_sidecar_insecure", "Dangerous switches that are on.");
}
