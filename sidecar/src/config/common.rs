//! `[log]`, `[admin]`, `[runtime]`, `[agent]` and `[attestation]`: what both modes need.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;

use postern_attest_io::{AgentSettings, AttestationSettings};
use postern_identity::{AppId, ComposeHash};
use postern_plumbing::config::{Document, Section, Text};
use postern_plumbing::telemetry::{LogFilter, LogFormat};

/// More threads than any machine has cores for; far more could not be started.
const MOST_THREADS: usize = 1_024;

/// What both modes need.
#[derive(Clone, Debug)]
pub struct Common {
    /// The log.
    pub log: Log,
    /// Where operators look.
    pub admin: SocketAddr,
    /// How many threads carry sessions.
    pub threads: NonZeroUsize,
    /// The guest agent.
    pub agent: AgentSettings,
    /// DNS names in our own certificate.
    pub certificate_names: Vec<String>,
    /// Whose evidence is believed.
    pub attestation: AttestationSettings,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged.
    pub filter: LogFilter,
}

impl Common {
    /// Reads the sections; mistakes are recorded in the document.
    pub fn read(document: &mut Document) -> Option<Self> {
        let mut section = document.section("log");
        let log =
            Log { format: section.or("format", LogFormat::Auto), filter: section.or("filter", LogFilter::default()) };
        let admin = admin(&mut document.section("admin"));
        let threads = threads(&mut document.section("runtime"));
        let mut section = document.section("agent");
        let agent = AgentSettings::from_section(&mut section);
        let certificate_names = section.list("certificate_names");
        let attestation = AttestationSettings::from_section(&mut document.section("attestation"));
        Some(Self { log, admin, threads, agent, certificate_names, attestation: attestation? })
    }
}

/// One for each core, unless a number is given.
fn threads(section: &mut Section<'_>) -> NonZeroUsize {
    let given = section.or("threads", 0);
    if given > MOST_THREADS {
        section.problem("threads", format!("expected 0 to {MOST_THREADS}"));
    }
    NonZeroUsize::new(given).or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
}

fn admin(section: &mut Section<'_>) -> SocketAddr {
    let listen = section.or("listen", SocketAddr::from(([127, 0, 0, 1], 9433)));
    if !listen.ip().is_loopback() {
        section.problem("listen", "expected a loopback address: this port asks nobody who they are");
    }
    listen
}

/// `app_ids` and `compose_hashes`; an empty list stands for any.
pub(super) fn peers(section: &mut Section<'_>) -> postern_attest::PeerPolicy {
    let apps: BTreeSet<AppId> = texts(section, "app_ids").into_iter().collect();
    let compose_hashes: BTreeSet<ComposeHash> = texts(section, "compose_hashes").into_iter().collect();
    postern_attest::PeerPolicy {
        apps: (!apps.is_empty()).then_some(apps),
        compose_hashes: (!compose_hashes.is_empty()).then_some(compose_hashes),
    }
}

fn texts<T: FromStr<Err: std::fmt::Display>>(section: &mut Section<'_>, key: &str) -> Vec<T> {
    section.list::<Text<T>>(key).into_iter().map(Text::into_inner).collect()
}
