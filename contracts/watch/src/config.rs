//! What a watch needs to know.

mod confirmed;
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use postern_allowlist::{FreshnessPolicy, LocalRules, PeerPolicy, ViewRules, quorum};
use postern_plumbing::clock;
use postern_plumbing::config::{FromValue, Section, Text};
use url::Url;

pub use self::confirmed::Confirmed;
pub use self::source::{LogSource, NotASource};
use crate::proof::{Pin, Pins};
use crate::transport::{self, ConnectError};

/// Where the present moment comes from, as Unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How to watch a chain.
#[derive(Clone)]
pub struct WatchConfig {
    /// The JSON-RPC endpoints, `http` or `https`. Only those of different operators are several.
    pub endpoints: Vec<Url>,
    /// How many of them must agree; more than half.
    pub quorum: usize,
    /// The chain that they must be on, if that is to be checked.
    pub chain_id: Option<u64>,
    /// The KMS contract.
    pub kms: Address,
    /// How often each endpoint is asked for its head.
    pub poll_interval: Duration,
    /// How long an endpoint has to answer a request.
    pub call_deadline: Duration,
    /// How many workloads may be followed.
    pub max_workloads: usize,
    /// Which block is confirmed.
    pub confirmed: Confirmed,
    /// Whose logs matter beside those of the KMS contract and of the apps' own contracts.
    pub log_contracts: Vec<LogSource>,
    /// The contracts that are read by proofs of their storage, where their code is one of these; others are called.
    pub pins: Pins,
    /// How the chain is followed: sweep, tolerance for heads ahead of our clock.
    pub rules: ViewRules,
    /// How old the view may be.
    pub freshness: FreshnessPolicy,
    /// Which workloads may be admitted at all; it is no part of the section.
    pub welcome: PeerPolicy,
    /// Lets endpoints beyond this machine be asked over plain HTTP, where whoever is on the way can answer in their name.
    pub insecure_plain_rpc: bool,
    /// The time by which evidence and blocks are judged; it is no part of the section.
    pub clock: Clock,
}

/// Why a watch cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is nobody to ask.
    #[error("at least one endpoint is needed")]
    NoEndpoint,
    /// Two contradicting answers could both have a quorum, or none ever could.
    #[error("the quorum of {endpoints} endpoints must be from {} to {endpoints}, not {quorum}", quorum::majority(*.endpoints))]
    Quorum {
        /// How many endpoints there are.
        endpoints: usize,
        /// How many of them should agree.
        quorum: usize,
    },
    /// Two endpoints are one, so that its answers would count twice.
    #[error("endpoint {name} is given more than once: one node cannot agree with itself")]
    Repeated {
        /// Its host and port.
        name: String,
    },
    /// Whoever is on the way could answer in the endpoint's name.
    #[error("endpoint {name} is not on this machine: use https, or set insecure_plain_rpc = true")]
    PlainHttp {
        /// Its host and port.
        name: String,
    },
    /// No contract can be there.
    #[error("must not be the zero address")]
    ZeroAddress,
    /// With nothing of this, nobody could ever be admitted, or the endpoints would be asked without pause.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// What is admitted already would be refused before newcomers are.
    #[error("view_grace must not be shorter than max_view_age")]
    Grace,
    /// The depth is more than can be followed.
    #[error("expected at most {} blocks, or \"safe\"", Confirmed::DEEPEST)]
    Confirmed,
    /// A proof says nothing where not all code is known that runs.
    #[error("missing: proofs need pinned_proxies, pinned_kms and pinned_apps, all three")]
    Pins,
    /// A client for an endpoint cannot be made.
    #[error("endpoint {name}: {source}")]
    Endpoint {
        /// Its host and port.
        name: String,
        /// Why.
        source: ConnectError,
    },
}

impl WatchConfig {
    /// The default way to watch the KMS contract at `kms` through `endpoints`: more than half of them must agree.
    #[must_use]
    pub fn new(endpoints: Vec<Url>, kms: Address) -> Self {
        Self {
            quorum: quorum::majority(endpoints.len()),
            endpoints,
            chain_id: None,
            kms,
            poll_interval: Duration::from_millis(250),
            call_deadline: Duration::from_secs(5),
            max_workloads: 50_000,
            confirmed: Confirmed::default(),
            log_contracts: Vec::new(),
            pins: Pins::default(),
            rules: ViewRules::default(),
            freshness: FreshnessPolicy::default(),
            welcome: PeerPolicy::default(),
            insecure_plain_rpc: false,
            clock: Arc::new(clock::unix_now),
        }
    }

    /// Reads a section with the keys `rpc_urls`, `quorum`, `chain_id`, `kms_contract`, `poll_interval`, `call_deadline`,
    /// `sweep_interval`, `confirmed`, `log_contracts`, `pinned_proxies`, `pinned_kms`, `pinned_apps`, `max_workloads`,
    /// `max_view_age`, `view_grace` and `insecure_plain_rpc`. All but `rpc_urls` and `kms_contract` have defaults. Mistakes
    /// are recorded there; `None` if there is no going on.
    pub fn from_section(section: &mut Section<'_>) -> Option<Self> {
        let endpoints: Vec<Url> = section.list::<Text<Url>>("rpc_urls").into_iter().map(Text::into_inner).collect();
        let kms = section.required::<Text<Address>>("kms_contract");
        let mut config = Self::new(endpoints, kms.map_or(Address::ZERO, Text::into_inner));
        config.quorum = section.or("quorum", config.quorum);
        config.chain_id = section.optional("chain_id");
        config.poll_interval = section.or("poll_interval", config.poll_interval);
        config.call_deadline = section.or("call_deadline", config.call_deadline);
        config.insecure_plain_rpc = section.or("insecure_plain_rpc", false);
        config.max_workloads = section.or("max_workloads", config.max_workloads);
        config.confirmed = section.or("confirmed", config.confirmed);
        config.log_contracts = texts(section, "log_contracts");
        config.pins = Pins {
            proxies: texts::<B256, _>(section, "pinned_proxies"),
            kms: texts::<Pin, _>(section, "pinned_kms"),
            apps: texts::<Pin, _>(section, "pinned_apps"),
        };
        config.rules.sweep_interval = seconds(section, "sweep_interval", config.rules.sweep_interval);
        config.freshness.max_view_age = seconds(section, "max_view_age", config.freshness.max_view_age);
        config.freshness.view_grace = seconds(section, "view_grace", config.freshness.view_grace);
        if kms.is_some() && config.kms.is_zero() {
            section.problem("kms_contract", ConfigError::ZeroAddress.to_string());
        }
        for (key, error) in config.mistakes().into_iter().chain(config.repeated()) {
            section.problem(key, error.to_string());
        }
        kms.map(|_| config)
    }

    /// What makes it impossible to watch, with the key of the section that is to blame.
    pub(crate) fn mistakes(&self) -> Vec<(&'static str, ConfigError)> {
        let (endpoints, quorum) = (self.endpoints.len(), self.quorum);
        let mut mistakes = Vec::new();
        if endpoints == 0 {
            mistakes.push(("rpc_urls", ConfigError::NoEndpoint));
        } else if quorum < quorum::majority(endpoints) || quorum > endpoints {
            mistakes.push(("quorum", ConfigError::Quorum { endpoints, quorum }));
        }
        if !self.confirmed.can_be_followed() {
            mistakes.push(("confirmed", ConfigError::Confirmed));
        }
        for key in self.pins.missing() {
            mistakes.push((key, ConfigError::Pins));
        }
        for url in self.endpoints.iter().filter(|url| !matches!(url.scheme(), "http" | "https")) {
            let name = transport::public_name(url);
            mistakes.push(("rpc_urls", ConfigError::Endpoint { name, source: ConnectError::Scheme }));
        }
        for (key, is_zero) in [
            ("poll_interval", self.poll_interval.is_zero()),
            ("call_deadline", self.call_deadline.is_zero()),
            ("sweep_interval", self.rules.sweep_interval == 0),
            ("max_view_age", self.freshness.max_view_age == 0),
            ("max_workloads", self.max_workloads == 0),
        ] {
            if is_zero {
                mistakes.push((key, ConfigError::Zero(key)));
            }
        }
        if self.freshness.view_grace < self.freshness.max_view_age {
            mistakes.push(("view_grace", ConfigError::Grace));
        }
        if !self.insecure_plain_rpc {
            let plain = self.plain_endpoints().map(|name| ("rpc_urls", ConfigError::PlainHttp { name }));
            mistakes.extend(plain);
        }
        mistakes
    }

    /// What a verdict is made by, beside the chain.
    pub(crate) fn local_rules(&self) -> LocalRules {
        LocalRules { welcome: self.welcome.clone(), freshness: self.freshness }
    }

    /// The endpoints beyond this machine that are asked over plain HTTP, by name.
    pub(crate) fn plain_endpoints(&self) -> impl Iterator<Item = String> {
        let plain = self.endpoints.iter().filter(|url| url.scheme() == "http" && !transport::is_loopback(url));
        plain.map(transport::public_name)
    }

    /// The endpoints that were given before, up to what may be no more than another key of the same node.
    fn repeated(&self) -> Vec<(&'static str, ConfigError)> {
        let place = |url: &Url| {
            let host = url.host_str().unwrap_or_default().trim_end_matches('.').to_owned();
            (host, url.port_or_known_default(), url.path().trim_end_matches('/').to_owned())
        };
        let mut seen = BTreeSet::new();
        let repeated = self.endpoints.iter().filter(|url| !seen.insert(place(url)));
        repeated.map(|url| ("rpc_urls", ConfigError::Repeated { name: transport::public_name(url) })).collect()
    }
}

/// Reads a list of anything that is written as a text.
fn texts<T, C: FromIterator<T>>(section: &mut Section<'_>, key: &str) -> C
where
    Text<T>: FromValue,
{
    section.list::<Text<T>>(key).into_iter().map(Text::into_inner).collect()
}

/// Reads a duration that is kept in seconds, as the times of blocks are.
fn seconds(section: &mut Section<'_>, key: &str, default: u64) -> u64 {
    let duration = section.or(key, Duration::from_secs(default));
    if duration.subsec_nanos() != 0 {
        section.problem(key, "expected whole seconds");
        return default;
    }
    duration.as_secs()
}

impl fmt::Debug for WatchConfig {
    /// Names the endpoints by host and port only, as the rest of a URL often holds a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchConfig")
            .field("endpoints", &self.endpoints.iter().map(transport::public_name).collect::<Vec<_>>())
            .field("quorum", &self.quorum)
            .field("kms", &self.kms)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
