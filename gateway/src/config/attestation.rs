//! `[agent]` and `[attestation]`: who we are, and whose word about themselves we take.

use std::path::PathBuf;
use std::time::Duration;

use postern_attest::{TcbPolicy, TcbStatus};
use postern_attest_io::agent::AgentEndpoint;
use postern_plumbing::config::{Section, Text};

use super::positive;

/// The guest agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Where it is; `None` looks for it where dstack's SDKs do.
    pub endpoint: Option<AgentEndpoint>,
    /// How long one answer may take.
    pub timeout: Duration,
    /// How long our own certificate is valid.
    pub certificate_validity: Duration,
}

/// Whose evidence is believed.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// The root of trust.
    pub root: RootSource,
    /// The file with Intel's collateral.
    pub collateral: PathBuf,
    /// Which platforms are good enough.
    pub policy: TcbPolicy,
}

/// Where the root of trust comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// Intel's, which is built in.
    Intel,
    /// A certificate in a file. Its holder can claim to be anybody.
    File(PathBuf),
}

pub(super) fn agent(section: &mut Section<'_>) -> Agent {
    let certificate_validity = positive(section, "certificate_validity", Duration::from_secs(24 * 60 * 60));
    if certificate_validity < Duration::from_secs(60) {
        section.problem("certificate_validity", "expected at least one minute");
    }
    Agent {
        endpoint: section.optional("endpoint").map(Text::into_inner),
        timeout: positive(section, "timeout", Duration::from_secs(10)),
        certificate_validity,
    }
}

pub(super) fn attestation(section: &mut Section<'_>) -> Option<Attestation> {
    let root = match section.or("root", "intel".to_owned()) {
        name if name.eq_ignore_ascii_case("intel") => RootSource::Intel,
        path => RootSource::File(path.into()),
    };
    let policy = policy(section);
    let collateral = section.required("collateral");
    Some(Attestation { root, collateral: collateral?, policy })
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
