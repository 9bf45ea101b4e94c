//! The sections `[agent]` and `[attestation]` of a configuration: who we are, and whose word about themselves we take.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Appraiser, TcbPolicy, TcbStatus, TrustRoot};
use postern_plumbing::config::{Section, Text};

use crate::agent::{AgentEndpoint, AgentError, GuestAgent};
use crate::attestor::Attestor;
use crate::collateral_file::{self, CollateralFileError};

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
    /// The root of trust.
    pub root: TrustRoot,
    /// The file with Intel's collateral.
    pub collateral: PathBuf,
    /// Which platforms are good enough.
    pub policy: TcbPolicy,
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
    /// Reads a section with the keys `root`, `collateral`, `tcb_accept`, `out_of_date_grace`, `min_tcb_evaluation_number`,
    /// `rejected_advisories`, `allow_dynamic_platform`, `allow_cached_keys` and `allow_smt`; all but `collateral` have
    /// defaults. A root in a file is loaded, the collateral is not. Mistakes are recorded there, an unusable root among them;
    /// `None` if there is no going on.
    pub fn from_section(section: &mut Section<'_>) -> Option<Self> {
        let root = root(section);
        let policy = policy(section);
        let collateral = section.required("collateral");
        Some(Self { root: root?, collateral: collateral?, policy })
    }

    /// The judge of other parties' evidence, with the collateral that the file holds now.
    ///
    /// # Errors
    /// When the collateral cannot be used.
    pub fn attestor(&self) -> Result<Arc<Attestor>, CollateralFileError> {
        let collateral = collateral_file::read(&self.collateral)?;
        Ok(Attestor::new(Appraiser::new(self.root.clone(), self.policy.clone()), collateral))
    }
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
    let accept = section.list::<Text<TcbStatus>>("tcb_accept").into_iter().map(Text::into_inner).collect();
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

fn positive(section: &mut Section<'_>, key: &str, default: Duration) -> Duration {
    let duration = section.or(key, default);
    if duration.is_zero() {
        section.problem(key, "expected more than no time at all");
    }
    duration
}

#[cfg(test)]
mod tests;
