//! The parts of serve mode, put together from its configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use postern_allowlist::Freshness;
use postern_attest_io::{Acceptor, Attestor, ClientRule, Connector, GuestAgent, IdentityKeeper};
use postern_pgwire::scram::Password;
use postern_plumbing::admin::ReadinessCheck;
use postern_plumbing::http::server;
use postern_plumbing::secret::Secret;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::{Task, maintenance};
use postern_plumbing::telemetry;
use postern_watch::{Clock, Watch, WatchConfig};
use postern_wireguard::PrivateKey;
use tokio::net::TcpListener;

use super::cancel_room::CancelRoom;
use super::cancels::Cancels;
use super::clients::{Chain, Clients};
use super::dialect::Dialect;
use super::drain::Terminator;
use super::handshakes::Handshakes;
use super::identities::Identities;
use super::places::{Places, Share};
use super::server::Server;
use super::throttle::Throttle;
use crate::config::{HttpConfig, RoleConfig, ServeConfig};
use crate::http::{BOUNDS, Witness, router};
use crate::postgres::Socket;
use crate::postgres::admin::Proof;
use crate::postgres::pool::Pool;
use crate::postgres::provision::{Login, Provisioning};
use crate::postgres::state::Database;
use crate::postgres::supervise::{Supervisor, Watched};
use crate::secrets::Roles;
use crate::start::{Ground, StartError};
use crate::tunnel::link::Link;
use crate::tunnel::registration::Gateway;
use crate::tunnel::status::Status;
use crate::tunnel::wire::{Sink, WireGuard};
use crate::{evidence, keys};

/// The ALPN protocol of Postgres.
pub const POSTGRES: &str = "postgresql";
/// The ALPN protocol of a sidecar in connect mode: Postgres as well, but the driver's own connection ends there and has no TLS
/// that could be bound.
pub const FORWARDED: &str = "postern-forwarded-postgresql";
/// What is offered by a sidecar in connect mode and chosen from by one in serve mode, the first that both know.
pub const ALPN: &[&str] = &[FORWARDED, POSTGRES];
/// How often the freshness of the chain's view is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What the guest agent gave us.
pub(super) struct Credentials {
    keeper: Arc<IdentityKeeper>,
    superuser: Secret,
    roles: BTreeMap<String, Secret>,
    tunnel: PrivateKey,
}

/// Everything that comes from the guest agent; `None` when the shutdown comes first.
pub(super) async fn credentials(config: &ServeConfig, agent: &GuestAgent, ground: &Ground) -> Option<Credentials> {
    let readiness = ground.readiness.register("identity");
    let shutdown = &ground.shutdown;
    let superuser = evidence::patiently("superuser's password", &readiness, shutdown, async || {
        keys::superuser_password(agent).await
    })
    .await?;
    let mut roles = BTreeMap::new();
    for role in &config.roles {
        let name = &role.role.name;
        let ask = async || keys::role_password(agent, name).await;
        roles.insert(name.clone(), evidence::patiently("role's password", &readiness, shutdown, ask).await?);
    }
    let tunnel_check = readiness.clone();
    let keeper = evidence::identity(agent, &config.common, readiness, &ground.background, shutdown).await?;
    let tunnel = if config.wireguard.random_key {
        PrivateKey::generate()
    } else {
        let instance = keeper.current().app().instance_id;
        let ask = async || keys::tunnel(agent, &instance).await;
        let key = evidence::patiently("tunnel key", &tunnel_check, shutdown, ask).await?;
        tunnel_check.ready();
        key
    };
    Some(Credentials { keeper, superuser, roles, tunnel })
}

pub(super) fn supervisor(config: &ServeConfig, credentials: &Credentials, ground: &Ground) -> (Supervisor, Watched) {
    let login = |role: &RoleConfig| {
        let password = credentials.roles.get(&role.role.name)?.clone();
        Some(Login {
            name: role.role.name.clone(),
            password,
            privileges: role.privileges,
            replication: role.sessions.replication,
        })
    };
    let provisioning = Provisioning {
        socket: socket(config),
        superuser: superuser(config, credentials),
        databases: config.postgres.databases.clone(),
        roles: config.roles.iter().filter_map(login).collect(),
    };
    Supervisor::new(provisioning, ground.readiness.register("postgres"))
}

/// The public port. It outlives the shutdown, to say that the sidecar is draining.
pub(super) fn http(
    config: &ServeConfig,
    http: &HttpConfig,
    listener: TcpListener,
    credentials: &Credentials,
    agent: GuestAgent,
    ground: &Ground,
) -> impl Future<Output = ()> + Send + 'static {
    let database = Database {
        socket: socket(config),
        superuser: superuser(config, credentials),
        name: config.postgres.databases.first().cloned().unwrap_or_default(),
    };
    let witness = Witness::new(Arc::clone(&credentials.keeper), agent, database, http.limits);
    let log = &config.common.log;
    let metrics = http.metrics.then(|| telemetry::init(log.format, log.filter.as_str()));
    let router = router(witness, ground.readiness.clone(), metrics);
    server::serve(listener, "http connection", router, BOUNDS, Shutdown::new())
}

fn superuser(config: &ServeConfig, credentials: &Credentials) -> (String, Proof) {
    let by_password = || Proof::Password(credentials.superuser.clone());
    let proof = if config.postgres.superuser_by_peer { Proof::Peer } else { by_password() };
    (config.postgres.superuser.clone(), proof)
}

fn socket(config: &ServeConfig) -> Socket {
    Socket::new(&config.postgres.socket_dir, config.postgres.port)
}

pub(super) fn server(
    config: &ServeConfig,
    credentials: &Credentials,
    attestor: &Arc<Attestor>,
    postgres: Watched,
    ground: &Ground,
) -> Result<Server, StartError> {
    let insecure = config.insecure_allow_unattested_clients;
    metrics::gauge!("postern_sidecar_insecure", "switch" => "allow_unattested_clients")
        .set(f64::from(u8::from(insecure)));
    let rule = if insecure {
        tracing::warn!("insecure_allow_unattested_clients is on: clients need no evidence, only a secret");
        ClientRule::Optional
    } else {
        ClientRule::Required
    };
    let acceptor = Acceptor::new(Arc::clone(&credentials.keeper), Arc::clone(attestor), ALPN, rule);
    let configuration = |error: &dyn std::fmt::Display| StartError::Configuration(error.to_string());
    let clock = clock(attestor);
    let chain = chain(config, &clock, ground).map_err(|error| configuration(&error))?;
    let chain = chain.map(|watch| Arc::new(watch) as Arc<dyn Chain>);
    Ok(Server {
        acceptor,
        attestor: Arc::clone(attestor),
        keeper: Arc::clone(&credentials.keeper),
        clients: Clients::new(config.clients.clone(), chain, clock),
        roles: Arc::new(Roles::new(config.role_map().map_err(|error| configuration(&error))?)),
        authentication: config.authentication,
        identities: Identities::new(config.rules.clone()),
        passwords: passwords(&credentials.roles),
        socket: socket(config),
        postgres,
        pool: Arc::new(Pool::new(config.postgres.pool)),
        limits: config.limits,
        draining: ground.shutdown.clone(),
        dialect: Dialect::default(),
        cancels: Cancels::default(),
        cancel_room: CancelRoom::default(),
        throttle: Throttle::default(),
        handshakes: Handshakes::new(&config.limits),
        places: Places::new(config.limits.max_sessions, shares(&config.roles)),
        replicators: replicators(&config.roles),
    })
}

fn passwords(roles: &BTreeMap<String, Secret>) -> BTreeMap<String, Password> {
    let password = |secret: &Secret| Password::new(secret.expose().as_bytes());
    roles.iter().map(|(role, secret)| (role.clone(), password(secret))).collect()
}

fn shares(roles: &[RoleConfig]) -> BTreeMap<String, Share> {
    roles.iter().map(|role| (role.role.name.clone(), role.sessions.share)).collect()
}

fn replicators(roles: &[RoleConfig]) -> BTreeSet<String> {
    roles.iter().filter(|role| role.sessions.replication).map(|role| role.role.name.clone()).collect()
}

/// Who ends the sessions that are left when the sidecar has to stop.
pub(super) fn terminator(config: &ServeConfig, credentials: &Credentials) -> Terminator {
    Terminator {
        socket: socket(config),
        superuser: superuser(config, credentials),
        database: config.postgres.databases.first().cloned().unwrap_or_default(),
    }
}

/// The time by which evidence is judged.
fn clock(attestor: &Arc<Attestor>) -> Clock {
    let attestor = Arc::clone(attestor);
    Arc::new(move || attestor.now())
}

fn chain(config: &ServeConfig, clock: &Clock, ground: &Ground) -> Result<Option<Watch>, postern_watch::ConfigError> {
    let Some(chain) = config.chain.clone() else { return Ok(None) };
    let chain = WatchConfig { welcome: config.clients.clone(), clock: Arc::clone(clock), ..chain };
    // The watch outlives the shutdown: while sessions drain, the chain can still cut them.
    let watch = Watch::start(chain, &ground.background, Shutdown::new())?;
    let check = ground.readiness.register("chain");
    ground.background.spawn("chain readiness", report_freshness(watch.clone(), check));
    Ok(Some(watch))
}

async fn report_freshness(watch: Watch, check: ReadinessCheck) {
    loop {
        report(watch.freshness(), &check);
        tokio::time::sleep(LOOK).await;
    }
}

/// In its grace period a view still serves those who were allowed before: to be taken out of service would cut them off.
fn report(freshness: Freshness, check: &ReadinessCheck) {
    match freshness {
        Freshness::Fresh | Freshness::Grace => check.ready(),
        Freshness::Stale => check.not_ready("the view of the chain is too old"),
    }
}

pub(super) fn links(
    config: &ServeConfig,
    credentials: &Credentials,
    attestor: &Arc<Attestor>,
    server: &Arc<Server>,
    ground: &Ground,
) -> Vec<Task<Infallible>> {
    if config.gateways.is_empty() {
        return Vec::new();
    }
    let names = config.gateways.iter().map(|gateway| gateway.place.to_string());
    let status = Status::new(names, ground.readiness.register("gateways"));
    let connector = Connector::new(Some(Arc::clone(&credentials.keeper)), Arc::clone(attestor), &[]);
    let start = |gateway: &Gateway| {
        let link = Arc::new(Link {
            gateway: gateway.clone(),
            connector: connector.clone(),
            attestor: Arc::clone(attestor),
            keeper: Arc::clone(&credentials.keeper),
            wireguard: WireGuard {
                key: credentials.tunnel.clone(),
                listen: config.wireguard.listen,
                mtu: gateway.mtu.unwrap_or(config.wireguard.mtu),
                port: config.wireguard.port,
                datapath: config.wireguard.datapath,
            },
            sink: Sink {
                server: Arc::clone(server),
                sessions: ground.sessions.clone(),
                maintenance: ground.background.clone(),
            },
            status: status.clone(),
        });
        maintenance("gateway link", move || Arc::clone(&link).run())
    };
    config.gateways.iter().map(start).collect()
}

#[cfg(test)]
mod tests {
    use postern_allowlist::Freshness;
    use postern_plumbing::admin::Readiness;

    use super::report;

    #[test]
    fn a_view_of_the_chain_is_ready_until_it_is_stale() {
        let readiness = Readiness::default();
        let check = readiness.register("chain");
        for (freshness, ready) in [(Freshness::Fresh, true), (Freshness::Grace, true), (Freshness::Stale, false)] {
            report(freshness, &check);
            assert_eq!(readiness.is_ready(), ready, "{freshness:?}");
        }
    }
}
