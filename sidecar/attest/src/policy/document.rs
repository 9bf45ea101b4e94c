//! The policy as it is written: TOML. Every key that is not known is refused, since a misspelt rule is a rule that does
//! not hold.

use std::collections::BTreeSet;
use std::time::Duration;

use postern_identity::{AppId, ComposeHash, Register};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::value::Datetime;

use super::{Cohorts, Image, Policy, PolicyError};
use crate::{PeerPolicy, TcbPolicy, TcbStatus, TrustRoot};

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u64,
    expires: Datetime,
    #[serde(default)]
    insecure_root: Option<String>,
    #[serde(default)]
    insecure_any_image: bool,
    #[serde(default)]
    platform: Platform,
    #[serde(default)]
    peers: Peers,
    #[serde(default)]
    cohort: Vec<Cohort>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Platform {
    tcb_statuses: Vec<String>,
    out_of_date_grace_days: u64,
    min_tcb_evaluation_number: u32,
    rejected_advisories: BTreeSet<String>,
    allow_dynamic_platform: bool,
    allow_cached_keys: bool,
    allow_smt: bool,
}

impl Default for Platform {
    fn default() -> Self {
        let policy = TcbPolicy::default();
        Self {
            tcb_statuses: policy.accept.iter().map(ToString::to_string).collect(),
            out_of_date_grace_days: policy.out_of_date_grace.as_secs() / SECONDS_PER_DAY,
            min_tcb_evaluation_number: policy.min_tcb_evaluation_number,
            rejected_advisories: policy.rejected_advisories,
            allow_dynamic_platform: policy.allow_dynamic_platform,
            allow_cached_keys: policy.allow_cached_keys,
            allow_smt: policy.allow_smt,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Peers {
    #[serde(default)]
    apps: Option<BTreeSet<AppId>>,
    #[serde(default)]
    compose_hashes: Option<BTreeSet<ComposeHash>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cohort {
    name: String,
    mrtd: Register,
    rtmr0: Register,
    rtmr1: Register,
    rtmr2: Register,
}

pub(super) fn read(text: &str, digest: [u8; 32]) -> Result<Policy, PolicyError> {
    let document: Document = toml::from_str(text).map_err(wrong)?;
    Ok(Policy {
        version: document.version,
        expires: seconds(document.expires)?,
        root: root(document.insecure_root.as_deref())?,
        tcb: tcb(document.platform)?,
        peers: PeerPolicy { apps: document.peers.apps, compose_hashes: document.peers.compose_hashes },
        cohorts: cohorts(&document.cohort, document.insecure_any_image)?,
        digest,
    })
}

fn wrong(detail: impl ToString) -> PolicyError {
    PolicyError::Document(detail.to_string())
}

fn seconds(date: Datetime) -> Result<u64, PolicyError> {
    let date = OffsetDateTime::parse(&date.to_string(), &Rfc3339)
        .map_err(|_| wrong("expires: expected a date with time and offset, such as 2030-01-31T00:00:00Z"))?;
    u64::try_from(date.unix_timestamp()).map_err(|_| wrong("expires: the date lies before 1970"))
}

fn root(pem: Option<&str>) -> Result<TrustRoot, PolicyError> {
    match pem {
        None => Ok(TrustRoot::intel()),
        Some(pem) => TrustRoot::from_pem(pem.as_bytes()).map_err(|error| wrong(format!("insecure_root: {error}"))),
    }
}

fn tcb(platform: Platform) -> Result<TcbPolicy, PolicyError> {
    let statuses: Result<BTreeSet<TcbStatus>, _> = platform.tcb_statuses.iter().map(|name| name.parse()).collect();
    let accept = statuses.map_err(|error| wrong(format!("platform.tcb_statuses: {error}")))?;
    if accept.is_empty() {
        return Err(wrong("platform.tcb_statuses: an empty list accepts no platform at all"));
    }
    Ok(TcbPolicy {
        accept,
        out_of_date_grace: Duration::from_secs(platform.out_of_date_grace_days.saturating_mul(SECONDS_PER_DAY)),
        min_tcb_evaluation_number: platform.min_tcb_evaluation_number,
        rejected_advisories: platform.rejected_advisories,
        allow_dynamic_platform: platform.allow_dynamic_platform,
        allow_cached_keys: platform.allow_cached_keys,
        allow_smt: platform.allow_smt,
    })
}

fn cohorts(list: &[Cohort], any: bool) -> Result<Option<Cohorts>, PolicyError> {
    match (list, any) {
        ([], true) => return Ok(None),
        ([], false) => return Err(wrong("there is no [[cohort]]; to accept any image, say insecure_any_image = true")),
        (_, true) => return Err(wrong("insecure_any_image = true contradicts the [[cohort]] tables")),
        (_, false) => {}
    }
    let mut cohorts = Cohorts::default();
    for cohort in list {
        if cohort.name.trim().is_empty() {
            return Err(wrong("cohort.name: a release without a name cannot be told from others"));
        }
        let image = Image { mrtd: cohort.mrtd, rtmr: [cohort.rtmr0, cohort.rtmr1, cohort.rtmr2] };
        cohorts
            .insert(&cohort.name, image)
            .map_err(|known| wrong(format!("cohort {:?} has the registers of cohort {known:?}", cohort.name)))?;
    }
    Ok(Some(cohorts))
}
