//! Serve mode, from start to end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use postern_plumbing::accept::Fatal;
use postern_plumbing::tasks::{Task, maintenance};
use postern_plumbing::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::server::Server;
use super::{accept, assemble};
use crate::config::ServeConfig;
use crate::postgres::supervise::{Condition, Watched};
use crate::start::{Ground, StartError, bind};

/// Serves until the process is asked to stop.
///
/// # Errors
/// See [`StartError`].
pub async fn run(config: ServeConfig, metrics: Metrics) -> Result<(), StartError> {
    let ground = Ground::new();
    ground.attend(config.common.admin, metrics).await?;
    let Some(mut serving) = Serving::start(&config, &ground).await? else { return Ok(()) };
    let outcome = serving.until_stopped(&ground).await;
    ground.shutdown.trigger();
    ground.drain(config.drain).await;
    outcome
}

/// A sidecar that serves. What it does in the background ends when it is dropped.
#[derive(Debug)]
pub struct Serving {
    addresses: Vec<SocketAddr>,
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
        let mut listeners = Vec::new();
        for address in &config.listen {
            listeners.push(bind(*address).await?);
        }
        let attestor = config.common.attestation.judge(&ground.readiness, &ground.background).await?;
        let agent = config.common.agent.agent()?;
        let Some(credentials) = assemble::credentials(config, &agent, ground).await else { return Ok(None) };

        let (supervisor, postgres) = assemble::supervisor(config, &credentials, ground);
        let supervisor = Arc::new(supervisor);
        let supervising = maintenance("postgres", move || Arc::clone(&supervisor).run());
        let server = Arc::new(assemble::server(config, &credentials, &attestor, postgres.clone(), ground)?);
        let mut background = assemble::links(config, &credentials, &attestor, &server, ground);
        background.push(supervising);
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let broken = accept_from(listeners, &server, ground);
        Ok(Some(Self { addresses, postgres, broken, _background: background }))
    }

    /// Where clients connect without a gateway, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
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
}

/// Accepts connections until the shutdown; a listener that breaks is reported.
fn accept_from(listeners: Vec<TcpListener>, server: &Arc<Server>, ground: &Ground) -> mpsc::UnboundedReceiver<Fatal> {
    let (report, broken) = mpsc::unbounded_channel();
    for listener in listeners {
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "listening");
        }
        let (server, sessions, report) = (Arc::clone(server), ground.sessions.clone(), report.clone());
        let accepting = accept::direct(server, listener, sessions, ground.shutdown.clone());
        ground.background.spawn("listener", async move {
            if let Err(error) = accepting.await {
                drop(report.send(error));
            }
        });
    }
    broken
}
