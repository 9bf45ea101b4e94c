//! By what rules evidence is judged: written in the configuration itself, or in a signed policy.

use std::path::PathBuf;

use postern_attest::policy::PolicyKey;
use postern_attest::{TcbPolicy, TcbStatus, TrustRoot};
use postern_plumbing::config::{Section, Text};

use super::certificates::read_pinned;
use crate::policy::signature_of;

/// The keys that a signed policy takes the place of.
const DECIDED_BY_POLICY: [&str; 8] = [
    "root",
    "tcb_accept",
    "out_of_date_grace",
    "min_tcb_evaluation_number",
    "rejected_advisories",
    "allow_dynamic_platform",
    "allow_cached_keys",
    "allow_smt",
];

/// Where the rules stand.
#[derive(Clone, Debug)]
pub enum RuleSettings {
    /// In the configuration.
    Inline {
        /// The root of trust.
        root: TrustRoot,
        /// Which platforms are good enough.
        tcb: TcbPolicy,
    },
    /// In a signed policy, which is read again when it changes.
    Signed(SignedPolicy),
}

/// Where a signed policy lies, and who signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPolicy {
    /// The document.
    pub policy: PathBuf,
    /// Its signature, minisign's `policy.toml.minisig`.
    pub signature: PathBuf,
    /// Who signs it.
    pub key: PolicyKey,
}

impl RuleSettings {
    /// Reads the keys of either kind. To say something of both is a mistake: nobody could tell what is in force.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let signed = signed(section);
        let inline = inline(section);
        if !section.has("policy") {
            return inline;
        }
        let doubled: Vec<_> = DECIDED_BY_POLICY.into_iter().filter(|key| section.has(key)).collect();
        if !doubled.is_empty() {
            section.problem("policy", format!("the signed policy decides: leave out {}", doubled.join(", ")));
        }
        if !section.has("state_dir") {
            section.problem(
                "state_dir",
                "missing; `policy` needs a folder that survives restarts: without it an older policy would count again",
            );
        }
        signed
    }
}

fn signed(section: &mut Section<'_>) -> Option<RuleSettings> {
    let policy: Option<PathBuf> = section.optional("policy");
    let signature: Option<PathBuf> = section.optional("policy_signature");
    if !section.has("policy") {
        let _read: Option<Text<PolicyKey>> = section.optional("policy_key");
        for key in ["policy_signature", "policy_key"] {
            if section.has(key) {
                section.problem(key, "says something of `policy`, which is left out");
            }
        }
        return None;
    }
    let key: Option<Text<PolicyKey>> = section.required("policy_key");
    let (policy, key) = (policy?, key?.into_inner());
    let signature = signature.unwrap_or_else(|| signature_of(&policy));
    Some(RuleSettings::Signed(SignedPolicy { policy, signature, key }))
}

fn inline(section: &mut Section<'_>) -> Option<RuleSettings> {
    let root = root(section);
    let tcb = tcb(section);
    Some(RuleSettings::Inline { root: root?, tcb })
}

fn root(section: &mut Section<'_>) -> Option<TrustRoot> {
    let name: String = section.or("root", "intel".to_owned());
    if name.eq_ignore_ascii_case("intel") {
        return Some(TrustRoot::intel());
    }
    let root = read_pinned(&name, TrustRoot::from_pem, TrustRoot::from_der);
    root.map_err(|mistake| section.problem("root", mistake)).ok()
}

fn tcb(section: &mut Section<'_>) -> TcbPolicy {
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
