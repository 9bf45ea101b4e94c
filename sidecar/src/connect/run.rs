//! Connect mode, from start to end.

use std::sync::{Arc, Mutex};

use postern_attest_io::Connector;
use postern_plumbing::net::Listener;
use postern_plumbing::telemetry::Metrics;

use super::forward::{self, Forwarder};
use crate::config::ConnectConfig;
use crate::evidence;
use crate::serve::run::ALPN;
use crate::start::{Ground, StartError};

/// Forwards until the process is asked to stop.
///
/// # Errors
/// See [`StartError`].
pub async fn run(config: ConnectConfig, metrics: Metrics) -> Result<(), StartError> {
    let ground = Ground::prepare(config.common.admin, metrics).await?;
    let endpoint = config.listen.clone();
    let listener = Listener::bind(&endpoint).await.map_err(|source| StartError::Bind { endpoint, source })?;
    let attestor = evidence::attestor(&config.common.attestation).map_err(StartError::Configuration)?;
    let _following = evidence::follow_collateral(Arc::clone(&attestor), config.common.attestation.collateral.clone());
    let agent = evidence::agent(&config.common.agent)?;
    let readiness = ground.readiness.register("identity");
    let keeper =
        evidence::identity(&agent, &config.common.agent, readiness, &ground.background, &ground.shutdown).await;
    let Some(keeper) = keeper else { return Ok(()) };

    let forwarder = Arc::new(Forwarder {
        connector: Connector::new(Some(keeper), attestor, ALPN),
        place: config.place,
        expected: config.expected,
        deadline: config.deadline,
        last: Mutex::new(None),
    });
    tracing::info!(listen = %config.listen, server = %forwarder.place, "forwarding");
    let outcome = accept(&listener, &forwarder, &ground).await;
    drop(listener);
    ground.drain(config.drain).await;
    outcome
}

async fn accept(listener: &Listener, forwarder: &Arc<Forwarder>, ground: &Ground) -> Result<(), StartError> {
    loop {
        let driver = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = ground.shutdown.triggered() => return Ok(()),
        };
        let forwarder = Arc::clone(forwarder);
        ground.sessions.spawn("driver", async move { forward::report(&forwarder, driver).await });
    }
}
