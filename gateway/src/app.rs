//! The whole gateway: put together, run, and brought to an end.

mod background;
mod start;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_plumbing::admin::{Readiness, ReadinessCheck};
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::{Drained, Tasks};
use postern_wireguard::Tunnel;
use tokio::net::TcpListener;

use self::start::clock;
pub use self::start::{Ground, StartError, audit, identity, judge, tunnel, watch};
use crate::audit::Audit;
use crate::chain::Chain;
use crate::config::Config;
use crate::edge::Edge;
use crate::members::Members;
use crate::register::{self, Door};
use crate::shards::{self, Doors, Shards, Shared};

/// How long registrations under way may take to end.
const LAST_REGISTRATIONS: Duration = Duration::from_secs(2);

/// A gateway whose doors are open.
#[derive(Debug)]
pub struct Gateway {
    clients: Vec<SocketAddr>,
    registration: SocketAddr,
    edge: Arc<Edge>,
    shards: Shards,
    sessions: Tasks,
    registrations: Tasks,
    serving: ReadinessCheck,
    shutdown: Shutdown,
    drain: Duration,
    background: background::Background,
    audit: Audit,
}

impl Gateway {
    /// Opens the doors on ground that was prepared before. It serves until `shutdown`; then [`Gateway::run`] has to
    /// be awaited.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn open(
        config: &Config,
        ground: Ground,
        chain: Arc<dyn Chain>,
        readiness: &Readiness,
        shutdown: Shutdown,
    ) -> Result<Self, StartError> {
        let serving = readiness.register("doors");
        let doors = Doors::open(&config.listen, config.threads);
        let doors = doors.map_err(|(address, source)| StartError::Bind { address, source })?;
        let registration = bind(config.registration.listen).await?;
        let clients = doors.addresses().to_vec();
        let registration_address = registration.local_addr().map_err(StartError::Socket)?;
        let (edge, door) = start::build(config, &ground, Arc::clone(&chain), &clients)?;
        let background = background::Background::start(config, &ground, chain, &edge, readiness);
        let (edge, sessions) = (Arc::new(edge), Tasks::new());
        let shared = Shared { edge: Arc::clone(&edge), connections: sessions.clone(), shutdown: shutdown.clone() };
        let gateway = Self {
            clients,
            registration: registration_address,
            edge,
            shards: Shards::start(doors, &shared).map_err(StartError::Thread)?,
            sessions,
            registrations: Tasks::new(),
            serving,
            shutdown,
            drain: config.drain,
            background,
            audit: ground.audit,
        };
        gateway.serve(registration, door);
        Ok(gateway)
    }

    /// Where clients connect, with the ports that the system chose where 0 was asked for.
    #[must_use]
    pub fn clients(&self) -> &[SocketAddr] {
        &self.clients
    }

    /// Where instances register.
    #[must_use]
    pub fn registration(&self) -> SocketAddr {
        self.registration
    }

    /// Who is registered.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.edge.members
    }

    /// Where admissions and refusals are written down. Whoever opened it closes it.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The tunnel.
    #[must_use]
    pub fn tunnel(&self) -> &Tunnel {
        &self.edge.tunnel
    }

    /// How many client connections there are, in whatever phase.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.sessions.count()
    }

    /// Waits for the shutdown, then lets the sessions come to their end, to the deadline. The doors are shut first.
    pub async fn run(self) -> Drained {
        self.shutdown.triggered().await;
        self.serving.not_ready("draining");
        let open = self.edge.sessions.count();
        tracing::info!(sessions = open, seconds = self.drain.as_secs(), "asked to stop: draining");
        let drained = self.sessions.close_and_wait(self.drain).await;
        if drained.clean {
            tracing::info!(left = 0, "drained");
        } else {
            tracing::warn!(left = drained.left, "sessions were left at the deadline and are cut");
        }
        self.registrations.close_and_wait(LAST_REGISTRATIONS).await;
        self.background.stop();
        self.edge.tunnel.stop();
        drop(self.shards);
        drained
    }

    fn serve(&self, registration: TcpListener, door: Door) {
        let serving = register::serve(registration, Arc::new(door), self.registrations.clone(), self.shutdown.clone());
        self.registrations
            .spawn("registration listener", shards::guard("registration", serving, self.shutdown.clone()));
        self.serving.ready();
        tracing::info!(clients = ?self.clients, registration = %self.registration, "doors open");
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
}
