//! Connect mode, from start to end.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::try_join_all;
use postern_attest_io::{Attestor, Connector, IdentityKeeper};
use postern_plumbing::accept::Fatal;
use postern_plumbing::net::{Endpoint, Listener};
use postern_plumbing::tasks::{Task, maintenance};
use postern_plumbing::telemetry::Metrics;
use tokio::sync::Notify;

use super::forward::{self, Forwarder};
use super::keys::Keys;
use super::target::Target;
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
    ports: Vec<(Listener, Arc<Forwarder>)>,
    targets: Vec<Arc<Target>>,
    attestor: Arc<Attestor>,
    _background: Vec<Task<Infallible>>,
}

impl Connecting {
    /// Opens the listeners and gets a certificate; `None` when the shutdown comes first.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &ConnectConfig, ground: &Ground) -> Result<Option<Self>, StartError> {
        announce_danger(config);
        let mut listeners = Vec::new();
        for port in &config.listeners {
            let endpoint = port.listen.clone();
            let listener = Listener::bind(&endpoint).await;
            listeners.push(listener.map_err(|source| StartError::Bind { endpoint, source })?);
        }
        let attestor = config.common.attestation.judge(&ground.readiness, &ground.background).await?;
        let agent = config.common.agent.agent()?;
        let readiness = ground.readiness.register("identity");
        let keeper = evidence::identity(&agent, &config.common, readiness, &ground.background, &ground.shutdown).await;
        let Some(keeper) = keeper else { return Ok(None) };
        let changed = Arc::new(Notify::new());
        let targets = targets(config, &keeper, &attestor, &changed);
        let warm = targets.iter().filter(|_| config.pool.size > 0).cloned();
        let background =
            warm.map(|target| maintenance("warm connections", move || Arc::clone(&target).keep_warm())).collect();
        let ports = listeners.into_iter().zip(forwarders(config, &targets, &changed)).collect();
        Ok(Some(Self { ports, targets, attestor, _background: background }))
    }

    /// Where drivers connect, in the order of the configuration, with the ports that the system chose where 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    pub fn endpoints(&self) -> std::io::Result<Vec<Endpoint>> {
        self.ports.iter().map(|(listener, _)| listener.endpoint()).collect()
    }

    /// The servers, in the order of the configuration.
    #[must_use]
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// The judge of servers.
    #[must_use]
    pub fn attestor(&self) -> &Arc<Attestor> {
        &self.attestor
    }

    /// Accepts drivers until the shutdown.
    ///
    /// # Errors
    /// When a listener breaks.
    pub async fn accept(self, ground: &Ground) -> Result<(), Fatal> {
        try_join_all(self.ports.iter().map(|(listener, forwarder)| accept_at(listener, forwarder, ground))).await?;
        Ok(())
    }
}

async fn accept_at(listener: &Listener, forwarder: &Arc<Forwarder>, ground: &Ground) -> Result<(), Fatal> {
    if let Ok(endpoint) = listener.endpoint() {
        let servers: Vec<_> = forwarder.targets.iter().map(|target| target.name()).collect();
        tracing::info!(listen = %endpoint, servers = servers.join(" "), wanted = %forwarder.wanted, "forwarding");
    }
    loop {
        let driver = tokio::select! {
            accepted = listener.accept() => accepted?,
            () = ground.shutdown.triggered() => return Ok(()),
        };
        forward::serve(forwarder, driver, &ground.sessions);
    }
}

fn targets(
    config: &ConnectConfig,
    keeper: &Arc<IdentityKeeper>,
    attestor: &Arc<Attestor>,
    changed: &Arc<Notify>,
) -> Vec<Arc<Target>> {
    let connector = Connector::new(Some(Arc::clone(keeper)), Arc::clone(attestor), ALPN);
    let target = |expected: &super::target::Expected| {
        let (connector, attestor) = (connector.clone(), Arc::clone(attestor));
        Target::new(expected.clone(), connector, attestor, config.attempt, config.pool, Arc::clone(changed))
    };
    config.targets.iter().map(target).collect()
}

/// One for each listener, all with the same room.
fn forwarders(config: &ConnectConfig, targets: &[Arc<Target>], changed: &Arc<Notify>) -> Vec<Arc<Forwarder>> {
    let handshakes = Forwarder::handshake_room();
    let each = config.listeners.iter().map(|port| {
        Arc::new(Forwarder {
            targets: port.targets.iter().filter_map(|index| targets.get(*index).cloned()).collect(),
            wanted: port.wanted,
            balance: port.balance,
            deadline: config.deadline,
            attempt: config.attempt,
            patience: config.patience,
            changed: Arc::clone(changed),
            keys: Keys::default(),
            handshakes: Arc::clone(&handshakes),
        })
    });
    each.collect()
}

/// The configuration has refused this unless it was asked for by name.
fn announce_danger(config: &ConnectConfig) {
    let is_open = |listen: &&Endpoint| matches!(listen, Endpoint::Tcp(address) if !address.ip().is_loopback());
    let open: Vec<_> = config.listeners.iter().map(|port| &port.listen).filter(is_open).collect();
    metrics::gauge!("postern_sidecar_insecure", "switch" => "listen_beyond_loopback")
        .set(f64::from(u8::from(!open.is_empty())));
    for listen in open {
        tracing::warn!(%listen, "insecure_listen_beyond_loopback is on: whoever reaches this port uses our identity");
    }
}
