//! The configuration: `gateway.toml`, read and understood without touching anything it names but the root of trust.

#[cfg(test)]
mod tests;
mod tunnel;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use postern_attest::PeerPolicy;
use postern_attest_io::{AgentSettings, AttestationSettings};
use postern_gateway_core::hello;
use postern_gateway_core::host::HostName;
use postern_gateway_core::route::Domain;
use postern_identity::AppId;
use postern_plumbing::config::{Document, Problems, Section, Text};
use postern_plumbing::telemetry::{LogFilter, LogFormat};
use postern_watch::WatchConfig;

pub use self::tunnel::TunnelSettings;
use crate::audit::AuditSettings;
use crate::edge::Limits;

/// The default configuration, with the meaning of every key.
pub const DEFAULT: &str = include_str!("../gateway.toml");
/// Far more than there are cores.
const MOST_THREADS: usize = 1_024;
/// What the names of environment variables begin with.
const ENVIRONMENT: &str = "POSTERN_GATEWAY";

/// Everything that can be configured.
#[derive(Debug, Clone)]
pub struct Config {
    /// The base domains.
    pub domain: Domain,
    /// Where clients connect.
    pub listen: Vec<SocketAddr>,
    /// The networks of load balancers that introduce their connections by a PROXY protocol header.
    pub proxies: Vec<IpNet>,
    /// How many threads serve clients.
    pub threads: usize,
    /// Where operators look.
    pub admin: SocketAddr,
    /// How instances register.
    pub registration: Registration,
    /// The guest agent.
    pub agent: AgentSettings,
    /// Whose evidence is believed.
    pub attestation: AttestationSettings,
    /// The tunnel.
    pub tunnel: TunnelSettings,
    /// The chain.
    pub chain: WatchConfig,
    /// Limits of client connections.
    pub limits: Limits,
    /// How long sessions may go on after the gateway was asked to stop.
    pub drain: Duration,
    /// The audit trail, where one is kept.
    pub audit: Option<AuditSettings>,
    /// The log.
    pub log: Log,
}

/// How instances register.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Where they do.
    pub listen: SocketAddr,
    /// The address of that port as they reach it.
    pub url: Option<String>,
    /// The apps that may register; `None` leaves it to the chain.
    pub apps: Option<BTreeSet<AppId>>,
    /// How often they are asked to renew.
    pub refresh: Duration,
    /// How long they are kept after the last renewal once their connection is gone.
    pub time_to_live: Duration,
    /// For the TLS handshake, and for the answer of the chain.
    pub deadline: Duration,
    /// How many connections there may be.
    pub connections: usize,
}

/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged.
    pub filter: LogFilter,
}

impl Config {
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
        let edge = edge(&mut document.section("edge"));
        let proxies = proxies(&mut document.section("edge"));
        let threads = threads(&mut document.section("edge"));
        let admin = admin(&mut document.section("admin"));
        let limits = limits(&mut document.section("limits"));
        let (deadline, connections, drain) = registration_limits(&mut document.section("limits"));
        let registration = registration(&mut document.section("registration"), deadline, connections);
        let agent = AgentSettings::from_section(&mut document.section("agent"));
        let attestation = AttestationSettings::from_section(&mut document.section("attestation"));
        let tunnel = tunnel::tunnel(&mut document.section("wireguard"));
        let chain = WatchConfig::from_section(&mut document.section("chain"));
        let audit = audit(&mut document.section("audit"));
        let log = log(&mut document.section("log"));
        let config = || {
            let (domain, listen) = edge?;
            let (attestation, tunnel) = (attestation?, tunnel?);
            let welcome = PeerPolicy { apps: registration.apps.clone(), ..PeerPolicy::default() };
            let chain = WatchConfig { welcome, ..chain? };
            Some(Self {
                domain,
                listen,
                proxies,
                threads,
                admin,
                registration,
                agent,
                attestation,
                tunnel,
                chain,
                limits,
                drain,
                audit,
                log,
            })
        };
        let config = config();
        document.finish_with(config)
    }
}

fn edge(section: &mut Section<'_>) -> Option<(Domain, Vec<SocketAddr>)> {
    let domains: Vec<HostName> = section.list::<Text<HostName>>("domains").into_iter().map(Text::into_inner).collect();
    let mut listen: Vec<SocketAddr> = section.list("listen");
    if !section.has("listen") {
        listen.push(SocketAddr::from(([0, 0, 0, 0], 5432)));
    }
    if listen.is_empty() {
        section.problem("listen", "expected at least one address");
    }
    if !section.has("domains") {
        section.problem("domains", "missing; expected an array of domain names");
    } else if domains.is_empty() {
        section.problem("domains", "expected at least one domain name");
    }
    (!domains.is_empty()).then(|| (Domain::new(domains), listen))
}

fn proxies(section: &mut Section<'_>) -> Vec<IpNet> {
    section.list::<Text<IpNet>>("proxy_protocol_from").into_iter().map(Text::into_inner).collect()
}

fn threads(section: &mut Section<'_>) -> usize {
    match section.or("threads", 0) {
        0 => thread::available_parallelism().map_or(1, NonZero::get),
        threads @ 1..=MOST_THREADS => threads,
        _ => {
            section.problem("threads", format!("expected 0 to {MOST_THREADS}"));
            1
        }
    }
}

fn registration(section: &mut Section<'_>, deadline: Duration, connections: usize) -> Registration {
    let apps: BTreeSet<AppId> = section.list::<Text<AppId>>("apps").into_iter().map(Text::into_inner).collect();
    let refresh = positive(section, "refresh", Duration::from_secs(60));
    let time_to_live = positive(section, "time_to_live", Duration::from_secs(15 * 60));
    if time_to_live < refresh {
        section.problem("time_to_live", "expected at least as long as `refresh`");
    }
    if refresh < Duration::from_secs(1) {
        section.problem("refresh", "expected at least one second");
    }
    Registration {
        listen: section.or("listen", SocketAddr::from(([0, 0, 0, 0], 8432))),
        url: section.optional("url"),
        apps: (!apps.is_empty()).then_some(apps),
        refresh,
        time_to_live,
        deadline,
        connections,
    }
}

fn limits(section: &mut Section<'_>) -> Limits {
    let hello: usize = section.or("hello", hello::DEFAULT_MAX);
    if !(1_024..=hello::HIGHEST_MAX).contains(&hello) {
        section.problem("hello", "expected 1024 to 65536");
    }
    Limits {
        opening: positive(section, "opening", Duration::from_secs(5)),
        connect: positive(section, "connect", Duration::from_secs(5)),
        cancel: positive(section, "cancel", Duration::from_secs(10)),
        connections: at_least_one(section, "connections", 10_000),
        connections_per_app: at_least_one(section, "connections_per_app", 2_000),
        openings_per_network: at_least_one(section, "openings_per_network", 1_024),
        hello,
    }
}

fn registration_limits(section: &mut Section<'_>) -> (Duration, usize, Duration) {
    let deadline = positive(section, "registration", Duration::from_secs(10));
    let connections = at_least_one(section, "registrations", 4_096);
    (deadline, connections, section.or("drain", Duration::from_secs(30)))
}

fn audit(section: &mut Section<'_>) -> Option<AuditSettings> {
    const LEAST: u64 = 64 * 1024;
    let file: Option<PathBuf> = section.optional("file");
    let rotate_at = section.or("rotate_at", 64 * 1024 * 1024);
    if rotate_at < LEAST {
        section.problem("rotate_at", format!("expected at least {LEAST} bytes"));
    }
    let (sync, sessions) = (section.or("sync", true), section.or("sessions", true));
    file.map(|file| AuditSettings { file, rotate_at, sync, sessions })
}

fn log(section: &mut Section<'_>) -> Log {
    Log { format: section.or("format", LogFormat::Auto), filter: section.or("filter", LogFilter::default()) }
}

fn positive(section: &mut Section<'_>, key: &str, default: Duration) -> Duration {
    let duration = section.or(key, default);
    if duration.is_zero() {
        section.problem(key, "expected more than no time at all");
    }
    duration
}

fn at_least_one(section: &mut Section<'_>, key: &str, default: usize) -> usize {
    let number = section.or(key, default);
    if number == 0 {
        section.problem(key, "expected at least 1");
    }
    number
}

fn admin(section: &mut Section<'_>) -> SocketAddr {
    let listen = section.or("listen", SocketAddr::from(([127, 0, 0, 1], 9432)));
    if !listen.ip().is_loopback() {
        section.problem("listen", "expected a loopback address: this port asks nobody who they are");
    }
    listen
}
