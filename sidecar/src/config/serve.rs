//! The sections of serve mode.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_attest::PeerPolicy;
use postern_identity::AppId;
use postern_pgwire::roles::{RoleMap, RoleMapError};
use postern_plumbing::config::{Document, Problems, Section, Text};
use postern_watch::WatchConfig;
use postern_wireguard::{DEFAULT_MTU, Datapath};
use url::Url;

use super::common::{Common, peers};
use super::http::{HttpConfig, http};
use super::roles::{RoleConfig, roles};
use super::sessions::judge_shares;
use super::{ENVIRONMENT, at_least_one, positive, rules, skip};
use crate::dial::Place;
use crate::postgres::pool::PoolBounds;
use crate::postgres::privileges::is_plain_name;
use crate::serve::authenticate::Authentication;
use crate::serve::identities::IdentityRule;
use crate::serve::server::Limits;
use crate::tunnel::registration::Gateway;

/// Whatever the superuser is called: a role's password is derived from its name, and that of a role called `superuser` would
/// be the superuser's.
const NOT_FOR_CLIENTS: [&str; 2] = ["superuser", "postgres"];

/// Everything that can be configured in serve mode.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// What both modes need.
    pub common: Common,
    /// Where clients connect without a gateway.
    pub listen: Vec<SocketAddr>,
    /// The Postgres behind.
    pub postgres: Postgres,
    /// Who may log in.
    pub roles: Vec<RoleConfig>,
    /// Which clients may connect.
    pub clients: PeerPolicy,
    /// What clients that need a secret are asked for.
    pub authentication: Authentication,
    /// Which of them need no secret.
    pub rules: Vec<IdentityRule>,
    /// Whether clients without evidence may connect.
    pub insecure_allow_unattested_clients: bool,
    /// The chain that must allow clients, if one must.
    pub chain: Option<WatchConfig>,
    /// What is served to everybody in HTTP, if anything is.
    pub http: Option<HttpConfig>,
    /// The gateways to register with.
    pub gateways: Vec<Gateway>,
    /// Our end of the tunnels.
    pub wireguard: WireGuardConfig,
    /// Bounds on connections.
    pub limits: Limits,
    /// How long sessions may go on after the sidecar was asked to stop.
    pub drain: Duration,
}

/// The Postgres behind.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// Its `unix_socket_directories`.
    pub socket_dir: PathBuf,
    /// Its `port`.
    pub port: u16,
    /// Its superuser.
    pub superuser: String,
    /// Whether the superuser is known by our user on the machine, instead of a password.
    pub superuser_by_peer: bool,
    /// The databases in which privileges are granted.
    pub databases: Vec<String>,
    /// The connections that outlive their sessions.
    pub pool: PoolBounds,
}

/// Our end of the tunnels.
#[derive(Clone, Debug)]
pub struct WireGuardConfig {
    /// The UDP address to send from.
    pub listen: SocketAddr,
    /// Bytes in an inner packet.
    pub mtu: u16,
    /// The port inside the tunnel on which sessions arrive.
    pub port: u16,
    /// How packets become connections.
    pub datapath: Datapath,
    /// Whether the key is drawn anew at each start instead of derived.
    pub random_key: bool,
}

impl ServeConfig {
    /// Reads the file, if there is one, and the environment.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn load(path: Option<&Path>) -> Result<Self, Problems> {
        Self::read(Document::load(path, ENVIRONMENT)?)
    }

    /// Reads a text, with variables that stand for the environment.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn parse(text: &str, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Problems> {
        Self::read(Document::parse(text, variables, ENVIRONMENT)?)
    }

    fn read(mut document: Document) -> Result<Self, Problems> {
        // Every section is read before any of them is missed, so that all mistakes are found at once.
        let common = Common::read(&mut document);
        let (listen, require_alpn) = listen(&mut document.section("listen"));
        let postgres = postgres(&mut document.section("postgres"));
        let watched = document.root().has("chain");
        let governed = document.section("attestation").has("policy");
        let rules = rules::rules(&mut document.section("clients"), governed, watched);
        let roles = roles(document.root().sections("roles"), &rules);
        judge_roles(&mut document.root(), &roles, &postgres.superuser);
        rules::judge(&mut document.section("clients"), &rules, &roles);
        let clients = peers(&mut document.section("clients"));
        let authentication = document.section("clients").optional::<Text<Authentication>>("authentication");
        let insecure = document.section("clients").or("insecure_allow_unattested_clients", false);
        let chain = if watched { WatchConfig::from_section(&mut document.section("chain")) } else { None };
        let public = document.root().has("http");
        let http = public.then(|| http(&mut document.section("http")));
        let gateways: Vec<Gateway> = document.root().sections("gateways").iter_mut().filter_map(gateway).collect();
        let wireguard = wireguard(&mut document.section("wireguard"), &gateways);
        let (limits, drain) = limits(&mut document.section("limits"), require_alpn);
        judge_shares(&mut document.section("limits"), &roles, limits.max_sessions);
        if listen.is_empty() && gateways.is_empty() {
            document.section("listen").problem("addresses", "expected an address here, or one of [[gateways]]");
        }
        skip(document.root(), &["connect"]);
        let config = common.map(|common| Self {
            common,
            listen,
            postgres,
            roles,
            clients,
            authentication: authentication.map(Text::into_inner).unwrap_or_default(),
            rules,
            insecure_allow_unattested_clients: insecure,
            chain,
            http,
            gateways,
            wireguard,
            limits,
            drain,
        });
        document.finish_with(config)
    }

    /// Which secret opens which role.
    ///
    /// # Errors
    /// When the roles contradict each other, which [`ServeConfig::load`] has ruled out.
    pub fn role_map(&self) -> Result<RoleMap, RoleMapError> {
        RoleMap::new(self.roles.iter().map(|role| role.role.clone()).collect())
    }
}

fn listen(section: &mut Section<'_>) -> (Vec<SocketAddr>, bool) {
    let mut addresses: Vec<SocketAddr> = section.list("addresses");
    if !section.has("addresses") {
        addresses.push(SocketAddr::from(([127, 0, 0, 1], 5433)));
    }
    (addresses, section.or("require_alpn", false))
}

fn postgres(section: &mut Section<'_>) -> Postgres {
    let mut databases: Vec<String> = section.list("databases");
    if !section.has("databases") {
        databases.push("postgres".to_owned());
    }
    if databases.is_empty() {
        section.problem("databases", "expected at least one database");
    }
    let superuser: String = section.or("superuser", "postgres".to_owned());
    if !is_plain_name(&superuser) {
        section.problem("superuser", "expected 1 to 63 lower-case letters, digits and underscores");
    }
    let superuser_by_peer = match section.or("superuser_login", "scram-sha-256".to_owned()).as_str() {
        "scram-sha-256" => false,
        "peer" => true,
        _ => {
            section.problem("superuser_login", "expected \"scram-sha-256\" or \"peer\"");
            false
        }
    };
    Postgres {
        socket_dir: section.or("socket_dir", PathBuf::from("/var/run/postgresql")),
        port: section.or("port", 5432),
        superuser,
        superuser_by_peer,
        databases,
        pool: pool(&mut section.section("pool")),
    }
}

fn pool(section: &mut Section<'_>) -> PoolBounds {
    PoolBounds {
        size: section.or("size", 0),
        idle: positive(section, "idle", Duration::from_secs(30)),
        lifetime: positive(section, "lifetime", Duration::from_secs(3_600)),
    }
}

fn judge_roles(root: &mut Section<'_>, roles: &[RoleConfig], superuser: &str) {
    if !root.has("roles") {
        root.problem("roles", "missing; expected at least one [[roles]] with a name and secret_files");
    }
    for name in roles.iter().map(|role| role.role.name.as_str()) {
        if name == superuser || NOT_FOR_CLIENTS.contains(&name) {
            root.problem("roles", format!("`{name}` is the superuser's name and is not for clients"));
        }
    }
    // A role whose secrets cannot be read has been reported.
    let complete = roles.iter().all(|role| role.secret_files.is_empty() || !role.role.secrets.is_empty());
    let map = RoleMap::new(roles.iter().map(|role| role.role.clone()).collect());
    if let (true, Err(mistake)) = (complete, map) {
        root.problem("roles", mistake.to_string());
    }
}

fn gateway(section: &mut Section<'_>) -> Option<Gateway> {
    let url = section.required::<Text<Url>>("url").map(Text::into_inner);
    let app_id = section.required::<Text<AppId>>("app_id").map(Text::into_inner);
    let address = section.optional("address");
    let mtu = section.optional("mtu");
    check_mtu(section, mtu);
    let (url, app_id) = (url?, app_id?);
    let host = match (url.scheme(), url.host()) {
        ("https", Some(url::Host::Domain(name))) => name.to_owned(),
        ("https", Some(url::Host::Ipv4(address))) => address.to_string(),
        ("https", Some(url::Host::Ipv6(address))) => address.to_string(),
        _ => {
            section.problem("url", "expected https:// and a host");
            return None;
        }
    };
    let place = Place { host, port: url.port_or_known_default().unwrap_or(443), address };
    Some(Gateway { place, base: url.path().trim_end_matches('/').to_owned(), app_id, mtu })
}

fn check_mtu(section: &mut Section<'_>, mtu: Option<u16>) {
    if mtu.is_some_and(|mtu| !(1_280..=9_216).contains(&mtu)) {
        section.problem("mtu", "expected 1280 to 9216");
    }
}

fn wireguard(section: &mut Section<'_>, gateways: &[Gateway]) -> WireGuardConfig {
    let listen = section.or("listen", SocketAddr::from(([0, 0, 0, 0], 0)));
    if gateways.len() > 1 && listen.port() != 0 {
        section.problem("listen", "expected port 0: each of several gateways has its own tunnel");
    }
    let mtu = section.or("mtu", DEFAULT_MTU);
    check_mtu(section, Some(mtu));
    let port = section.or("port", 5433);
    if port == 0 {
        section.problem("port", "expected a port from 1 to 65535");
    }
    let random_key = match section.or("key", "derived".to_owned()).as_str() {
        "derived" => false,
        "random" => true,
        _ => {
            section.problem("key", "expected \"derived\" or \"random\"");
            false
        }
    };
    let datapath = section.or("datapath", Text(Datapath::Auto)).into_inner();
    WireGuardConfig { listen, mtu, port, datapath, random_key }
}

fn limits(section: &mut Section<'_>, require_alpn: bool) -> (Limits, Duration) {
    let limits = Limits {
        handshake: positive(section, "handshake", Duration::from_secs(15)),
        max_handshakes: at_least_one(section, "handshakes", 512),
        max_handshakes_of_source: at_least_one(section, "handshakes_per_source", 128),
        max_sessions: at_least_one(section, "sessions", 1_000),
        require_alpn,
    };
    (limits, section.or("drain", Duration::from_secs(30)))
}
