//! The sections `[agent]` and `[attestation]` of a configuration: who we are, and whose word about themselves we take.

mod certificates;
mod rules;
mod supply;

use std::time::Duration;

use postern_attest::CertificateRules;
use postern_plumbing::config::{Section, Text};

use crate::agent::{AgentEndpoint, AgentError, GuestAgent};
use crate::attestor::{MAX_EVIDENCE_AGE, SourceLimit};
use crate::state::StateFolder;

pub use rules::{RuleSettings, SignedPolicy};
pub use supply::CollateralSettings;

/// The shortest life of our own certificate. It is renewed while it is valid, which takes a quote each time.
const SHORTEST_VALIDITY: Duration = Duration::from_secs(60);

/// The guest agent, and the certificate that comes of it.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Where it is; `None` looks for it where dstack's SDKs do.
    pub endpoint: Option<AgentEndpoint>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How long our own certificate is valid.
    pub certificate_validity: Duration,
}

/// Whose evidence is believed.
#[derive(Clone, Debug)]
pub struct AttestationSettings {
    /// By what rules it is judged.
    pub rules: RuleSettings,
    /// Who may sign certificates, and how a quote vouches for their keys.
    pub certificates: CertificateRules,
    /// Where Intel's collateral comes from.
    pub collateral: CollateralSettings,
    /// Where the marks are kept that must survive restarts, and fetched collateral.
    pub state: Option<StateFolder>,
    /// How long a live session goes on before its peer's evidence is judged again, if nothing asks for that earlier.
    pub max_evidence_age: Duration,
    /// How much work one source of connections may cause with certificates that nobody has seen yet.
    pub sources: SourceLimit,
}

impl AgentSettings {
    /// Reads a section with the keys `endpoint`, `timeout` and `certificate_validity`, which all have defaults. Mistakes are
    /// recorded there.
    pub fn from_section(section: &mut Section<'_>) -> Self {
        let certificate_validity = positive(section, "certificate_validity", Duration::from_secs(24 * 60 * 60));
        if certificate_validity < SHORTEST_VALIDITY {
            section.problem("certificate_validity", "expected at least one minute");
        }
        Self {
            endpoint: section.optional("endpoint").map(Text::into_inner),
            timeout: positive(section, "timeout", Duration::from_secs(10)),
            certificate_validity,
        }
    }

    /// The guest agent at the endpoint, or the one that is found where dstack's SDKs look.
    ///
    /// # Errors
    /// When no endpoint is named and none is found.
    pub fn agent(&self) -> Result<GuestAgent, AgentError> {
        match &self.endpoint {
            Some(endpoint) => Ok(GuestAgent::new(endpoint.clone(), self.timeout)),
            None => GuestAgent::discover(self.timeout),
        }
    }
}

impl AttestationSettings {
    /// Reads a section. The rules are either in the keys `policy`, `policy_signature` and `policy_key`, or in `root`,
    /// `tcb_accept`, `out_of_date_grace`, `min_tcb_evaluation_number`, `rejected_advisories`, `allow_dynamic_platform`,
    /// `allow_cached_keys` and `allow_smt`; `kms_root` and `insecure_legacy_binding` go with either. Collateral comes from
    /// `collateral`, `collateral_urls` or both, with `collateral_timeout` and `collateral_refresh`. The rest is `state_dir`,
    /// `max_evidence_age`, `appraisals_per_minute` and `appraisals_burst`.
    ///
    /// Roots in files are loaded, policy and collateral are not. Mistakes are recorded there, an unusable root among them;
    /// `None` if there is no going on.
    pub fn from_section(section: &mut Section<'_>) -> Option<Self> {
        let rules = RuleSettings::read(section);
        let certificates = certificates::rules(section);
        let collateral = CollateralSettings::read(section);
        let state = section.optional("state_dir").map(StateFolder::at);
        let max_evidence_age = positive(section, "max_evidence_age", MAX_EVIDENCE_AGE);
        let sources = sources(section);
        Some(Self { rules: rules?, certificates, collateral: collateral?, state, max_evidence_age, sources })
    }
}

fn sources(section: &mut Section<'_>) -> SourceLimit {
    let default = SourceLimit::default();
    let mut positive = |key, default| {
        let number = section.or(key, default);
        if number == 0 {
            section.problem(key, "expected at least 1");
        }
        number
    };
    SourceLimit {
        per_minute: positive("appraisals_per_minute", default.per_minute),
        burst: positive("appraisals_burst", default.burst),
    }
}

fn positive(section: &mut Section<'_>, key: &str, default: Duration) -> Duration {
    let duration = section.or(key, default);
    if duration.is_zero() {
        section.problem(key, "expected more than no time at all");
    }
    duration
}

#[cfg(test)]
mod tests;
