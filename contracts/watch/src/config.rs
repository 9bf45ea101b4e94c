//! What a watch needs to know.

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
            clock: clock::unix_now,
        }
    }

    /// Reads a section with the keys `rpc_urls`, `quorum`, `chain_id`, `kms_contract`, `poll_interval`, `call_deadline`,
    /// `sweep_interval`, `confirmations`, `max_workloads`, `max_view_age` and `view_grace`. All but `rpc_urls` and
    /// `kms_contract` have defaults. Mistakes are recorded there; `None` if there is no going on.
    pub fn from_section(section: &mut Section<'_>) -> Option<Self> {
        let endpoints: Vec<Url> = section.list::<Text<Url>>("rpc_urls").into_iter().map(Text::into_inner).collect();
        let kms = section.required::<Text<Address>>("kms_contract");
        let mut config = Self::new(endpoints, kms.map_or(Address::ZERO, Text::into_inner));
        config.quorum = section.or("quorum", config.quorum);
        config.chain_id = section.optional("chain_id");
        config.poll_interval = section.or("poll_interval", config.poll_interval);
        config.call_deadline = section.or("call_deadline", config.call_deadline);
        config.max_workloads = section.or("max_workloads", config.max_workloads);
        config.rules.confirmations = section.or("confirmations", config.rules.confirmations);
        let mut seconds = |key, default| section.or(key, Duration::from_secs(default)).as_secs();
        config.rules.sweep_interval = seconds("sweep_interval", config.rules.sweep_interval);
        config.freshness.max_view_age = seconds("max_view_age", config.freshness.max_view_age);
        config.freshness.view_grace = seconds("view_grace", config.freshness.view_grace);
        for (key, error) in config.mistakes() {
            section.problem(key, error.to_string());
        }
        for key in ["poll_interval", "call_deadline"] {
            if section.optional::<Duration>(key).is_some_and(|duration| duration.is_zero()) {
                section.problem(key, "must not be zero");
            }
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
        mistakes
    }
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
        let text = "[chain]\nrpc_urls = ['http://a:1', 'http://b:1', 'http://c:1']\n\
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

    #[test]
    fn its_debug_form_keeps_the_keys_of_endpoints() {
        let config = WatchConfig::new(vec!["https://node.example/secret".parse().unwrap()], Address::ZERO);
        assert!(!format!("{config:?}").contains("secret"));
    }
}
