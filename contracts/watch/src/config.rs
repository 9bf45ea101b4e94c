//! What a watch needs to know.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use alloy::primitives::Address;
use postern_allowlist::{FreshnessPolicy, ViewRules, quorum};
use postern_plumbing::clock;
use postern_plumbing::config::{Section, Text};
use url::Url;

use crate::transport::{self, ConnectError};

/// The deepest block that can be asked for; beyond it, chains have a tag for what is final.
const MAX_CONFIRMATIONS: u64 = 64;

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
    /// How the chain is followed: confirmations, sweep, tolerance for heads ahead of our clock.
    pub rules: ViewRules,
    /// How old the view may be.
    pub freshness: FreshnessPolicy,
    /// Lets endpoints beyond this machine be asked over plain HTTP, where whoever is on the way can answer in their name.
    pub insecure_plain_rpc: bool,
    /// Where the present moment comes from, as Unix seconds.
    pub clock: fn() -> u64,
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
    #[error("at most {MAX_CONFIRMATIONS} confirmations can be asked for")]
    Confirmations,
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
            rules: ViewRules::default(),
            freshness: FreshnessPolicy::default(),
            insecure_plain_rpc: false,
            clock: clock::unix_now,
        }
    }

    /// Reads a section with the keys `rpc_urls`, `quorum`, `chain_id`, `kms_contract`, `poll_interval`, `call_deadline`,
    /// `sweep_interval`, `confirmations`, `max_workloads`, `max_view_age`, `view_grace` and `insecure_plain_rpc`. All but
    /// `rpc_urls` and `kms_contract` have defaults. Mistakes are recorded there; `None` if there is no going on.
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
        config.rules.confirmations = section.or("confirmations", config.rules.confirmations);
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
        if self.rules.confirmations > MAX_CONFIRMATIONS {
            mistakes.push(("confirmations", ConfigError::Confirmations));
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
mod tests {
    use postern_plumbing::config::Document;

    use super::*;

    fn read(text: &str) -> Result<Option<WatchConfig>, String> {
        let mut document = Document::parse(text, [], "TEST").map_err(|problems| problems.to_string())?;
        let config = WatchConfig::from_section(&mut document.section("chain"));
        document.finish().map_err(|problems| problems.to_string())?;
        Ok(config)
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let text = "[chain]\nrpc_urls = ['https://a:1', 'https://b:1', 'https://c:1']\n\
                    kms_contract = '0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C'\nmax_view_age = '2m'";
        let config = read(text).unwrap().unwrap();
        assert_eq!((config.quorum, config.poll_interval), (2, Duration::from_millis(250)));
        assert_eq!(config.freshness, FreshnessPolicy { max_view_age: 120, view_grace: 900 });
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let text = "[chain]\nrpc_urls = ['http://a:1', 'ws://b:1', 'no url']\nquorum = 1\nconfirmations = 65\n\
                    poll_interval = '0ms'\ncolour = 'red'";
        let problems = read(text).unwrap_err();
        for key in [
            "kms_contract",
            "rpc_urls[2]",
            "rpc_urls: endpoint b:1",
            "quorum",
            "confirmations",
            "poll_interval",
            "colour",
        ] {
            assert!(problems.contains(&format!("chain.{key}")), "{key} is missing in:\n{problems}");
        }
    }

    /// The problems of a section that is in order but for these lines.
    fn problems(lines: &str) -> String {
        let kms = "kms_contract = '0x2f83172A49584C017F2B256F0FB2Dca14126Ba9C'\n";
        let kms = if lines.contains("kms_contract") { "" } else { kms };
        let urls = if lines.contains("rpc_urls") { "" } else { "rpc_urls = ['https://a', 'https://b', 'https://c']\n" };
        read(&format!("[chain]\n{kms}{urls}{lines}")).err().unwrap_or_default()
    }

    #[test]
    fn one_node_does_not_count_twice() {
        for same in ["https://a/x", "https://A:443/x", "https://a./x/", "https://user@a/x?key=2#y"] {
            let found = problems(&format!("rpc_urls = ['https://a/x', '{same}', 'https://b/x']"));
            assert!(
                found.contains("chain.rpc_urls: endpoint a") && found.contains("more than once"),
                "{same}: {found}"
            );
        }
        assert_eq!(problems("rpc_urls = ['https://a/x', 'https://a/y', 'https://a:444/x', 'https://b/x']"), "");
    }

    #[test]
    fn plain_http_leaves_this_machine_only_where_that_is_said() {
        let far = "rpc_urls = ['http://node.example/secret']\n";
        let found = problems(far);
        assert!(found.contains("node.example:80") && found.contains("insecure_plain_rpc"), "{found}");
        assert!(!found.contains("secret"));
        assert_eq!(problems(&format!("{far}insecure_plain_rpc = true")), "");
        assert_eq!(problems("rpc_urls = ['http://127.0.0.1:1', 'http://[::1]:1', 'http://localhost:1']"), "");
    }

    #[test]
    fn the_zero_address_is_no_contract() {
        let found = problems("kms_contract = '0x0000000000000000000000000000000000000000'");
        assert!(found.contains("chain.kms_contract: must not be the zero address"), "{found}");
    }

    #[test]
    fn a_part_of_a_second_does_not_become_none() {
        let found = problems("sweep_interval = '500ms'\nmax_view_age = '1500ms'\nview_grace = '60001ms'");
        for key in ["sweep_interval", "max_view_age", "view_grace"] {
            assert!(found.contains(&format!("chain.{key}: expected whole seconds")), "{key} is missing in:\n{found}");
        }
        assert_eq!(problems("sweep_interval = '1000ms'"), "");
    }

    #[test]
    fn numbers_with_which_nothing_works_are_all_found_at_once() {
        let keys = ["sweep_interval", "max_view_age", "poll_interval", "call_deadline"];
        let lines: String = keys.iter().map(|key| format!("{key} = '0s'\n")).collect();
        let found = problems(&format!("{lines}max_workloads = 0"));
        for key in keys.into_iter().chain(["max_workloads"]) {
            assert!(found.contains(&format!("chain.{key}: {key} must not be zero")), "{key} is missing in:\n{found}");
        }
        let found = problems("max_view_age = '2m'\nview_grace = '119s'\nquorum = 1");
        assert!(found.contains("chain.view_grace: ") && found.contains("chain.quorum: "), "{found}");
        assert_eq!(problems("max_view_age = '2m'\nview_grace = '120s'"), "");
    }

    #[test]
    fn its_debug_form_keeps_the_keys_of_endpoints() {
        let config = WatchConfig::new(vec!["https://node.example/secret".parse().unwrap()], Address::ZERO);
        assert!(!format!("{config:?}").contains("secret"));
    }
}
