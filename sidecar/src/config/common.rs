//! `[log]`, `[admin]`, `[agent]` and `[attestation]`: what both modes need.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use postern_attest::{TcbPolicy, TcbStatus, TrustRoot};
use postern_attest_io::agent::AgentEndpoint;
use postern_identity::{AppId, ComposeHash};
use postern_plumbing::config::{Document, Section, Text};
use postern_plumbing::telemetry::LogFormat;

use super::positive;

/// What both modes need.
#[derive(Clone, Debug)]
pub struct Common {
    /// The log.
    pub log: Log,
    /// Where operators look.
    pub admin: SocketAddr,
    /// The guest agent.
    pub agent: Agent,
    /// Whose evidence is believed.
    pub attestation: Attestation,
}

/// The log.
#[derive(Clone, Debug)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged.
    pub filter: String,
}

/// The guest agent, and the certificate that comes of it.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Where it is; `None` looks for it where dstack's SDKs do.
    pub endpoint: Option<AgentEndpoint>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How long our own certificate is valid.
    pub certificate_validity: Duration,
    /// DNS names in it.
    pub certificate_names: Vec<String>,
}

/// Whose evidence is believed.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// The root of trust.
    pub root: TrustRoot,
    /// The file with Intel's collateral.
    pub collateral: PathBuf,
    /// Which platforms are good enough.
    pub policy: TcbPolicy,
}

impl Common {
    /// Reads the sections; mistakes are recorded in the document.
    pub fn read(document: &mut Document) -> Option<Self> {
        let mut section = document.section("log");
        let log =
            Log { format: section.or("format", LogFormat::Auto), filter: section.or("filter", "info".to_owned()) };
        let admin = admin(&mut document.section("admin"));
        let agent = agent(&mut document.section("agent"));
        let attestation = attestation(&mut document.section("attestation"));
        Some(Self { log, admin, agent, attestation: attestation? })
    }
}

fn admin(section: &mut Section<'_>) -> SocketAddr {
    let listen = section.or("listen", SocketAddr::from(([127, 0, 0, 1], 9433)));
    if !listen.ip().is_loopback() {
        section.problem("listen", "expected a loopback address: this port asks nobody who they are");
    }
    listen
}

fn agent(section: &mut Section<'_>) -> Agent {
    let certificate_validity = positive(section, "certificate_validity", Duration::from_secs(24 * 60 * 60));
    if certificate_validity < Duration::from_secs(60) {
        section.problem("certificate_validity", "expected at least one minute");
    }
    Agent {
        endpoint: section.optional::<Text<AgentEndpoint>>("endpoint").map(Text::into_inner),
        timeout: positive(section, "timeout", Duration::from_secs(10)),
        certificate_validity,
        certificate_names: section.list("certificate_names"),
    }
}

fn attestation(section: &mut Section<'_>) -> Option<Attestation> {
    let root = root(section);
    let policy = policy(section);
    let collateral = section.required("collateral");
    Some(Attestation { root: root?, collateral: collateral?, policy })
}

fn root(section: &mut Section<'_>) -> Option<TrustRoot> {
    let name: String = section.or("root", "intel".to_owned());
    if name.eq_ignore_ascii_case("intel") {
        return Some(TrustRoot::intel());
    }
    let read = std::fs::read(&name).map_err(|error| format!("cannot read {name}: {error}"));
    let root = read.and_then(|bytes| {
        let pem = bytes.starts_with(b"-----");
        let root = if pem { TrustRoot::from_pem(&bytes) } else { TrustRoot::from_der(bytes) };
        root.map_err(|error| format!("{name}: {error}"))
    });
    root.map_err(|mistake| section.problem("root", mistake)).ok()
}

fn policy(section: &mut Section<'_>) -> TcbPolicy {
    let default = TcbPolicy::default();
    let accept: BTreeSet<TcbStatus> = texts(section, "tcb_accept").into_iter().collect();
    TcbPolicy {
        accept: if section.has("tcb_accept") { accept } else { default.accept },
        out_of_date_grace: section.or("out_of_date_grace", default.out_of_date_grace),
        min_tcb_evaluation_number: section.or("min_tcb_evaluation_number", default.min_tcb_evaluation_number),
        rejected_advisories: section.list("rejected_advisories").into_iter().collect(),
        allow_dynamic_platform: section.or("allow_dynamic_platform", default.allow_dynamic_platform),
        allow_cached_keys: section.or("allow_cached_keys", default.allow_cached_keys),
        allow_smt: section.or("allow_smt", default.allow_smt),
    }
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
