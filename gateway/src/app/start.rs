//! What has to be there before the doors open: who we are, whom we believe, and the tunnel.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use postern_attest_io::agent::AgentError;
use postern_attest_io::{
    Acceptor, AttestationSettings, Attestor, ClientRule, GuestAgent, IdentityError, IdentityKeeper, JudgeError,
};
use postern_gateway_core::pool::{AddressPool, PoolError};
use postern_gateway_core::registration::Register;
use postern_plumbing::admin::Readiness;
use postern_plumbing::exit;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use postern_watch::{Clock, Watch, WatchConfig};
use postern_wireguard::{PrivateKey, Tunnel, TunnelConfig, TunnelError};
use tokio::sync::Semaphore;

use crate::audit::{Audit, OpenError};
use crate::chain::Chain;
use crate::config::{Config, TunnelSettings};
use crate::edge::{Edge, Settings};
use crate::members::Members;
use crate::metrics;
use crate::register::{ALPN, About, Door, Registrar};
use crate::sessions::Sessions;

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The guest agent does not help.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Our own certificate cannot be had.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Evidence cannot be judged.
    #[error(transparent)]
    Evidence(#[from] JudgeError),
    /// The tunnel cannot be started.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The inner network cannot be used.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The audit trail cannot be gone on with.
    #[error("audit trail: {0}")]
    Audit(#[from] OpenError),
    /// The watch of the chain cannot be started.
    #[error(transparent)]
    Watch(#[from] postern_watch::ConfigError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The threads that serve clients cannot be started.
    #[error("no thread to serve clients: {0}")]
    Thread(#[source] io::Error),
    /// A listener has no address.
    #[error("a listener does not know its address: {0}")]
    Socket(#[source] io::Error),
}

impl StartError {
    /// The exit code that fits: whether starting again may help, and whether the configuration is to blame.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Evidence(error) => error.exit_code(),
            Self::Pool(_) | Self::Watch(_) | Self::Audit(_) => exit::CONFIG,
            Self::Agent(_)
            | Self::Identity(_)
            | Self::Tunnel(_)
            | Self::Bind { .. }
            | Self::Thread(_)
            | Self::Socket(_) => exit::UNAVAILABLE,
        }
    }
}

/// What the doors stand on.
#[derive(Debug)]
pub struct Ground {
    /// Who we are.
    pub keeper: Arc<IdentityKeeper>,
    /// Whom we believe.
    pub attestor: Arc<Attestor>,
    /// The way to the instances.
    pub tunnel: Tunnel,
    /// Where admissions and refusals are written down.
    pub audit: Audit,
}

/// Makes the judge of evidence from what the configuration names. As tasks of `tasks` it is kept up to date.
///
/// # Errors
/// When the rules cannot be had.
pub async fn judge(
    attestation: &AttestationSettings,
    readiness: &Readiness,
    tasks: &Tasks,
) -> Result<Arc<Attestor>, StartError> {
    let attestor = attestation.judge(readiness, tasks).await?;
    if !attestor.appraiser().root().is_intel() {
        metrics::insecure("attestation.root");
    }
    Ok(attestor)
}

/// Goes on with the audit trail that is configured, if one is.
///
/// # Errors
/// When it is not as it was left, or cannot be written.
pub fn audit(config: &Config) -> Result<Audit, StartError> {
    match &config.audit {
        Some(settings) => Ok(Audit::open(settings.clone())?),
        None => {
            tracing::warn!("no audit trail is kept: audit.file is not set");
            Ok(Audit::log_only())
        }
    }
}

/// The time by which evidence is judged.
pub(super) fn clock(attestor: &Arc<Attestor>) -> Clock {
    let attestor = Arc::clone(attestor);
    Arc::new(move || attestor.now())
}

/// Starts to follow the chain that is configured, by the time by which evidence is judged, until `shutdown`.
///
/// # Errors
/// When the configuration makes no sense.
pub fn watch(
    config: &Config,
    attestor: &Arc<Attestor>,
    tasks: &Tasks,
    shutdown: Shutdown,
) -> Result<Watch, StartError> {
    let chain = WatchConfig { clock: clock(attestor), ..config.chain.clone() };
    Ok(Watch::start(chain, tasks, shutdown)?)
}

/// Proves to the guest agent's hardware who we are, and keeps the certificate that says so fresh.
///
/// # Errors
/// When the agent does not help.
pub async fn identity(agent: &GuestAgent, config: &Config, tasks: &Tasks) -> Result<Arc<IdentityKeeper>, StartError> {
    let names = config.domain.bases().iter().map(|base| format!("gateway.{base}")).collect();
    Ok(IdentityKeeper::start(agent.clone(), names, config.agent.certificate_validity, tasks).await?)
}

/// Starts the tunnel, with a key that the guest agent derives for this instance, so that instances find the same gateway
/// after a restart.
///
/// # Errors
/// When there is no key or no socket.
pub async fn tunnel(
    agent: &GuestAgent,
    keeper: &IdentityKeeper,
    settings: &TunnelSettings,
    tasks: &Tasks,
) -> Result<Tunnel, StartError> {
    let path = format!("postern/wireguard/{}", keeper.current().app().instance_id);
    let key = agent.key(&path, "wireguard").await?;
    let config = TunnelConfig {
        private_key: PrivateKey::from_bytes(*key),
        listen: settings.listen,
        address: settings.address,
        mtu: settings.sizes.largest(),
        // A gateway has its machine for itself.
        in_batches: true,
    };
    Ok(Tunnel::start(config, settings.datapath, tasks).await?)
}

/// Puts together what stands behind the doors.
pub(super) fn build(
    config: &Config,
    ground: &Ground,
    chain: Arc<dyn Chain>,
    clients: &[SocketAddr],
) -> Result<(Edge, Door), StartError> {
    let tunnel = ground.tunnel.clone();
    let pool = AddressPool::new(config.tunnel.network, config.tunnel.address)?;
    let own_key = *tunnel.public_key().as_bytes();
    let register =
        Register::new(pool, own_key, config.tunnel.sizes.clone(), config.registration.time_to_live.as_secs());
    let sessions = Sessions::new(config.limits.connections_per_app);
    let members = Members::new(register, tunnel.clone(), sessions.clone());
    let registrar = Registrar {
        members: members.clone(),
        chain: Arc::clone(&chain),
        attestor: Arc::clone(&ground.attestor),
        audit: ground.audit.clone(),
        about: about(config, ground, clients),
        refresh: config.registration.refresh,
        deadline: config.registration.deadline,
    };
    let acceptor =
        Acceptor::new(Arc::clone(&ground.keeper), Arc::clone(&ground.attestor), &[ALPN], ClientRule::Required);
    let door = Door {
        acceptor,
        attestor: Arc::clone(&ground.attestor),
        registrar,
        deadline: config.registration.deadline,
        places: Arc::new(Semaphore::new(config.registration.connections.min(Semaphore::MAX_PERMITS))),
    };
    let settings =
        Settings { domain: config.domain.clone(), proxies: config.proxies.clone(), limits: config.limits.clone() };
    let edge = Edge::new(settings, members, sessions, tunnel, chain, ground.audit.clone());
    Ok((edge, door))
}

fn about(config: &Config, ground: &Ground, clients: &[SocketAddr]) -> About {
    let identity = ground.keeper.current();
    About {
        app: identity.app().app_id,
        uuid: identity.app().instance_id.to_string(),
        url: config.registration.url.clone(),
        domain: config.domain.bases().first().map(ToString::to_string).unwrap_or_default(),
        client_port: clients.first().map_or(0, SocketAddr::port),
        key: ground.tunnel.public_key(),
        address: config.tunnel.address,
        endpoint: config.tunnel.endpoint,
    }
}
