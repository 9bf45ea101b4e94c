//! The section of connect mode.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use postern_plumbing::config::{Document, Problems, Section, Text};
use postern_plumbing::net::Endpoint;

use super::common::{Common, peers};
use super::{ENVIRONMENT, positive, skip};
use crate::connect::choice::{Balance, SessionAttrs};
use crate::connect::pool::PoolSize;
use crate::connect::target::Expected;
use crate::dial::Place;

/// A sidecar closes connections that say nothing within 15 s, by default.
const LONGEST_IDLE: Duration = Duration::from_secs(3_600);

/// Everything that can be configured in connect mode.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// What both modes need.
    pub common: Common,
    /// Where drivers connect; at least one.
    pub listeners: Vec<LocalPort>,
    /// Where their connections go; at least one.
    pub targets: Vec<Expected>,
    /// From the driver's first byte to the verified server's first answer.
    pub deadline: Duration,
    /// How long one server may take before the next one is tried; at most the deadline.
    pub attempt: Duration,
    /// How long a driver waits for a server that is away or about to end.
    pub patience: Duration,
    /// Connections that are kept ready for each server.
    pub pool: PoolSize,
    /// How long sessions may go on after the sidecar was asked to stop.
    pub drain: Duration,
}

/// Where drivers connect, and which servers they get there.
#[derive(Clone, Debug)]
pub struct LocalPort {
    /// The address or path.
    pub listen: Endpoint,
    /// Which of the servers, as indices.
    pub targets: Vec<usize>,
    /// What kind of server a driver is to have.
    pub wanted: SessionAttrs,
    /// In which order servers are tried.
    pub balance: Balance,
}

impl ConnectConfig {
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
        let common = Common::read(&mut document);
        let mut section = document.section("connect");
        let deadline = positive(&mut section, "deadline", Duration::from_secs(15));
        let attempt = positive(&mut section, "attempt", Duration::from_secs(5)).min(deadline);
        let patience = section.or("patience", Duration::from_secs(5));
        let drain = section.or("drain", Duration::from_secs(30));
        let pool = pool(&mut section.section("pool"));
        let targets = targets(&mut section);
        let names: Vec<&str> = targets.iter().flatten().map(|target| target.name.as_str()).collect();
        let open = section.or("insecure_listen_beyond_loopback", false);
        let default = Endpoint::Tcp(SocketAddr::from(([127, 0, 0, 1], 5432)));
        let mut listeners = vec![local_port(&mut section, Some(default), &names, open)];
        listeners.extend(section.sections("listeners").iter_mut().map(|port| local_port(port, None, &names, open)));
        let of_serve = ["listen", "postgres", "roles", "clients", "chain", "gateways", "wireguard", "limits", "http"];
        skip(document.root(), &of_serve);
        let config = || {
            let targets = targets.into_iter().collect::<Option<Vec<_>>>()?;
            let listeners = listeners.into_iter().collect::<Option<Vec<_>>>()?;
            Some(Self { common: common?, listeners, targets, deadline, attempt, patience, pool, drain })
        };
        let config = config();
        document.finish_with(config)
    }
}

fn local_port(section: &mut Section<'_>, default: Option<Endpoint>, names: &[&str], open: bool) -> Option<LocalPort> {
    let listen = match default {
        Some(default) => Some(section.or("listen", default)),
        None => section.required("listen"),
    };
    if let Some(Endpoint::Tcp(address)) = &listen
        && !address.ip().is_loopback()
        && !open
    {
        section.problem(
            "listen",
            "expected a loopback address or unix: and a path: drivers send their secret here in clear, and whoever reaches \
             this port uses our identity (connect.insecure_listen_beyond_loopback = true allows it)",
        );
    }
    let wanted = section.or("target_session_attrs", Text(SessionAttrs::default())).into_inner();
    let balance = section.or("load_balance_hosts", Text(Balance::default())).into_inner();
    let mut targets = Vec::new();
    for name in section.list::<String>("servers") {
        match names.iter().position(|known| **known == name) {
            Some(index) => targets.push(index),
            None => section.problem("servers", format!("`{name}` is the name of no target")),
        }
    }
    if targets.is_empty() {
        targets.extend(0..names.len());
    }
    Some(LocalPort { listen: listen?, targets, wanted, balance })
}

fn pool(section: &mut Section<'_>) -> PoolSize {
    let size = section.or("size", 0_u16).into();
    let idle = positive(section, "idle", Duration::from_secs(10));
    if idle > LONGEST_IDLE {
        section.problem("idle", "expected at most an hour: the far side closes connections that say nothing");
    }
    PoolSize { size, idle }
}

/// `[connect.target]`, and behind it `[[connect.targets]]`; one of them is enough.
fn targets(section: &mut Section<'_>) -> Vec<Option<Expected>> {
    let mut targets = Vec::new();
    if section.has("target") || !section.has("targets") {
        targets.push(target(&mut section.section("target")));
    }
    targets.extend(section.sections("targets").iter_mut().map(target));
    let names: Vec<_> = targets.iter().flatten().map(|target| &target.name).collect();
    for (index, name) in names.iter().enumerate() {
        if names.iter().take(index).any(|other| other == name) {
            section.problem("targets", format!("two are called `{name}`; `name` tells them apart"));
        }
    }
    targets
}

fn target(section: &mut Section<'_>) -> Option<Expected> {
    let host: Option<String> = section.required("host");
    if host.as_deref().is_some_and(str::is_empty) {
        section.problem("host", "expected a host name");
    }
    let port = section.or("port", 5432);
    let address = section.optional("address");
    let name: Option<String> = section.optional("name");
    let peer = peers(section);
    if peer.apps.is_none() {
        section.problem(
            "app_ids",
            "expected at least one: without it, any attested app could answer in the server's place",
        );
    }
    let place = Place { host: host?, port, address };
    Some(Expected { name: name.unwrap_or_else(|| place.to_string()), place, peer })
}
