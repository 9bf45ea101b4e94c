//! Connect mode, from start to end.

use std::sync::{Arc, Mutex};

use postern_attest_io::Connector;
use postern_plumbing::accept::Fatal;
use postern_plumbing::net::{Endpoint, Listener};
use postern_plumbing::telemetry::Metrics;

use super::forward::{self, Forwarder};
use crate::config::ConnectConfig;
use crate::evidence;
use crate::serve::assemble::ALPN;
use crate::start::{Ground, StartError};

/// Forwards until the process is asked to stop.
///
/// # Errors
/// See [`StartError`].
pub async fn run(config: ConnectConfig, metrics: Metrics) -> Result<(), StartError> {
    let ground = Ground::new();
    ground.attend(config.common.admin, metrics).await?;
    let Some(connecting) = Connecting::start(&config, &ground).await? else { return Ok(()) };
    let outcome = connecting.accept(&ground).await;
    ground.drain(config.drain).await;
    Ok(outcome?)
}

/// A sidecar beside an application, ready to accept drivers.
#[derive(Debug)]
pub struct Connecting {
    listener: Listener,
    forwarder: Arc<Forwarder>,
}

impl Connecting {
    /// Opens the listener and gets a certificate; `None` when the shutdown comes first.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &ConnectConfig, ground: &Ground) -> Result<Option<Self>, StartError> {
        announce_danger(&config.listen);
        let endpoint = config.listen.clone();
        let listener = Listener::bind(&endpoint).await.map_err(|source| StartError::Bind { endpoint, source })?;
        let attestor = config.common.attestation.judge(&ground.readiness, &ground.background).await?;
        let agent = config.common.agent.agent()?;
        let readiness = ground.readiness.register("identity");
        let keeper = evidence::identity(&agent, &config.common, readiness, &ground.background, &ground.shutdown).await;
        let Some(keeper) = keeper else { return Ok(None) };
        let forwarder = Arc::new(Forwarder {
            connector: Connector::new(Some(keeper), Arc::clone(&attestor), ALPN),
            attestor,
            place: config.place.clone(),
            expected: config.expected.clone(),
            deadline: config.deadline,
            last: Mutex::new(None),
            handshakes: Forwarder::handshake_room(),
        });
        Ok(Some(Self { listener, forwarder }))
    }

    /// Where drivers connect, with the port that the system chose where 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn endpoint(&self) -> std::io::Result<Endpoint> {
        self.listener.endpoint()
    }

    /// Accepts drivers until the shutdown.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn accept(self, ground: &Ground) -> Result<(), Fatal> {
        if let Ok(endpoint) = self.endpoint() {
            tracing::info!(listen = %endpoint, server = %self.forwarder.place, "forwarding");
        }
        loop {
            let driver = tokio::select! {
                accepted = self.listener.accept() => accepted?,
                () = ground.shutdown.triggered() => return Ok(()),
            };
            forward::serve(&self.forwarder, driver, &ground.sessions);
        }
    }
}

/// The configuration has refused this unless it was asked for by name.
fn announce_danger(listen: &Endpoint) {
    let open = matches!(listen, Endpoint::Tcp(address) if !address.ip().is_loopback());
    metrics::gauge!("postern_sidecar_insecure", "switch" => "listen_beyond_loopback").set(f64::from(u8::from(open)));
    if open {
        tracing::warn!(%listen, "insecure_listen_beyond_loopback is on: whoever reaches this port uses our identity");
    }
}
