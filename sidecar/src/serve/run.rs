//! Serve mode, from start to end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_plumbing::accept::Fatal;
use postern_plumbing::tasks::{Task, maintenance};
use postern_plumbing::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::drain::Terminator;
use super::server::Server;
use super::{accept, assemble};
use crate::config::ServeConfig;
use crate::postgres::supervise::{Condition, Watched};
use crate::secrets;
use crate::start::{Ground, StartError, bind};

/// How long clients may take to read that their session has been ended, and connections that are no sessions to go.
const FAREWELL: Duration = Duration::from_secs(3);

/// Serves until the process is asked to stop.
///
/// # Errors
/// See [`StartError`].
pub async fn run(config: ServeConfig, metrics: Metrics) -> Result<(), StartError> {
    let ground = Ground::new();
    ground.attend(config.common.admin, metrics).await?;
    let Some(mut serving) = Serving::start(&config, &ground).await? else { return Ok(()) };
    let drain = config.drain;
    // It holds the first secrets, which are to be forgotten when others replace them.
    drop(config);
    let outcome = serving.until_stopped(&ground).await;
    ground.shutdown.trigger();
    serving.drain(&ground, drain).await;
    outcome
}

/// A sidecar that serves. What it does in the background ends when it is dropped.
#[derive(Debug)]
pub struct Serving {
    addresses: Vec<SocketAddr>,
    server: Arc<Server>,
    terminator: Terminator,
    http: Option<SocketAddr>,
    postgres: Watched,
    broken: mpsc::UnboundedReceiver<Fatal>,
    _background: Vec<Task<Infallible>>,
}

impl Serving {
    /// Gets keys and a certificate, opens the listeners and registers with the gateways. Postgres may come up later: until
    /// then clients are told that it is away. `None` when the shutdown comes first.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &ServeConfig, ground: &Ground) -> Result<Option<Self>, StartError> {
        // Checks are added one by one; until all of them are there, those that pass say little.
        let starting = ground.readiness.register("start");
        let mut listeners = Vec::new();
        for address in &config.listen {
            listeners.push(bind(*address).await?);
        }
        let http = match &config.http {
            Some(http) => Some(bind(http.listen).await?),
            None => None,
        };
        let attestor = config.common.attestation.judge(&ground.readiness, &ground.background).await?;
        let agent = config.common.agent.agent()?;
        let Some(credentials) = assemble::credentials(config, &agent, ground).await else { return Ok(None) };

        let (supervisor, postgres) = assemble::supervisor(config, &credentials, ground);
        let supervisor = Arc::new(supervisor);
        let supervising = maintenance("postgres", move || Arc::clone(&supervisor).run());
        let public = http.as_ref().and_then(|listener| listener.local_addr().ok());
        if let (Some(http), Some(listener)) = (&config.http, http) {
            ground.background.spawn("http", assemble::http(config, http, listener, &credentials, agent, ground));
        }
        let server = Arc::new(assemble::server(config, &credentials, &attestor, postgres.clone(), ground)?);
        let mut background = assemble::links(config, &credentials, &attestor, &server, ground);
        let secrets = secrets::follow(Arc::clone(&server.roles), &config.roles, postgres.clone());
        background.extend([supervising, secrets, looking_after(&server)]);
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let broken = accept_from(listeners, &server, ground);
        ground.background.spawn("left out of the log", async { match accept::tell_left_out().await {} });
        let terminator = assemble::terminator(config, &credentials);
        starting.ready();
        Ok(Some(Self { addresses, http: public, server, terminator, postgres, broken, _background: background }))
    }

    /// Where clients connect without a gateway, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What all connections share.
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Where everybody is served in HTTP, with the port that the system chose where 0 was asked for.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What is known of Postgres.
    #[must_use]
    pub fn postgres(&self) -> &Watched {
        &self.postgres
    }

    /// Waits for the shutdown.
    ///
    /// # Errors
    /// When a listener breaks before, or Postgres turns out to be one that must not be served.
    pub async fn until_stopped(&mut self, ground: &Ground) -> Result<(), StartError> {
        let misconfigured = async {
            if self.postgres.decided().await != Condition::Misconfigured {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = ground.shutdown.triggered() => Ok(()),
            () = misconfigured => Err(StartError::Postgres),
            Some(error) = self.broken.recv() => Err(StartError::Listener(error)),
        }
    }

    /// Lets sessions end by themselves, at most for `deadline`; then has Postgres end those that are left, so that their
    /// clients are told; then cuts what is left even so. Until the end new clients are told that the sidecar stops.
    pub async fn drain(&self, ground: &Ground, deadline: Duration) {
        ground.announce_drain(deadline);
        self.server.pool.give_up();
        if timeout(deadline, self.server.places.empty()).await.is_err() {
            let left = self.server.places.taken();
            tracing::warn!(left, "sessions were left at the deadline: Postgres is asked to end them");
            if let Err(error) = self.terminator.terminate(&self.server.cancels.backends()).await {
                tracing::warn!(%error, "Postgres could not be asked; clients are told nothing");
            }
        }
        ground.cut(FAREWELL).await;
    }
}

/// Closes connections to Postgres that are of no more use.
fn looking_after(server: &Arc<Server>) -> Task<Infallible> {
    let (pool, postgres) = (Arc::clone(&server.pool), server.postgres.clone());
    maintenance("postgres pool", move || {
        let (pool, postgres) = (Arc::clone(&pool), postgres.clone());
        async move { pool.run(postgres).await }
    })
}

/// Accepts connections; a listener that breaks is reported.
fn accept_from(listeners: Vec<TcpListener>, server: &Arc<Server>, ground: &Ground) -> mpsc::UnboundedReceiver<Fatal> {
    let (report, broken) = mpsc::unbounded_channel();
    for listener in listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "listening");
        }
        let (server, sessions, report) = (Arc::clone(server), ground.sessions.clone(), report.clone());
        ground.background.spawn("listener", async move {
            let Err(error) = accept::direct(server, listener, sessions).await;
            drop(report.send(error));
        });
    }
    broken
}
