use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use dcap_qvl::{Policy, QuoteClaims, QuotePolicy};

/// What Intel says about a platform's firmware and configuration. A revoked platform is never accepted and has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcbStatus {
    /// Nothing to complain about.
    UpToDate,
    /// Known attacks have to be countered by the software inside the TD.
    SwHardeningNeeded,
    /// The platform's configuration leaves it exposed.
    ConfigurationNeeded,
    /// Both of the above.
    ConfigurationAndSwHardeningNeeded,
    /// Security fixes are missing.
    OutOfDate,
    /// Fixes are missing and the configuration leaves the platform exposed.
    OutOfDateConfigurationNeeded,
    /// The TD was launched before fixes that the platform has now.
    TdRelaunchAdvised,
    /// The same, with a configuration that leaves the platform exposed.
    TdRelaunchAdvisedConfigurationNeeded,
}

/// A text that names no acceptable TCB status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a TCB status that can be accepted; the names are Intel's, such as UpToDate or SWHardeningNeeded")]
pub struct UnknownTcbStatus(pub String);

impl TcbStatus {
    /// Every status, from best to worst.
    pub const ALL: [Self; 8] = [
        Self::UpToDate,
        Self::SwHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSwHardeningNeeded,
        Self::TdRelaunchAdvised,
        Self::TdRelaunchAdvisedConfigurationNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
    ];

    /// Intel's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TdRelaunchAdvised => "TDRelaunchAdvised",
            Self::TdRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
        }
    }

    const fn for_verifier(self) -> dcap_qvl::TcbStatus {
        match self {
            Self::UpToDate => dcap_qvl::TcbStatus::UpToDate,
            Self::SwHardeningNeeded => dcap_qvl::TcbStatus::SWHardeningNeeded,
            Self::ConfigurationNeeded => dcap_qvl::TcbStatus::ConfigurationNeeded,
            Self::ConfigurationAndSwHardeningNeeded => dcap_qvl::TcbStatus::ConfigurationAndSWHardeningNeeded,
            Self::OutOfDate => dcap_qvl::TcbStatus::OutOfDate,
            Self::OutOfDateConfigurationNeeded => dcap_qvl::TcbStatus::OutOfDateConfigurationNeeded,
            Self::TdRelaunchAdvised => dcap_qvl::TcbStatus::TDRelaunchAdvised,
            Self::TdRelaunchAdvisedConfigurationNeeded => dcap_qvl::TcbStatus::TDRelaunchAdvisedConfigurationNeeded,
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TcbStatus {
    type Err = UnknownTcbStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|status| status.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| UnknownTcbStatus(text.to_owned()))
    }
}

/// Which platforms are good enough, of those whose quotes verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcbPolicy {
    /// The statuses to accept. Default: `UpToDate` and `SWHardeningNeeded`.
    pub accept: BTreeSet<TcbStatus>,
    /// For how long after Intel's date of the matched TCB level an out-of-date platform is still accepted, provided that
    /// `accept` names its status. Default: not at all.
    pub out_of_date_grace: Duration,
    /// Collateral of an older TCB evaluation than this is refused. A TD's clock belongs to its host, so that dates alone
    /// do not keep old collateral from being replayed. Default: 0.
    pub min_tcb_evaluation_number: u32,
    /// Intel advisories (`INTEL-SA-…`) under which a platform is refused, whatever its status. Default: none.
    pub rejected_advisories: BTreeSet<String>,
    /// Accept platforms to which processor packages can be added later. Multi-socket servers are such platforms, and
    /// every TDX server seen so far says so. Default: true.
    pub allow_dynamic_platform: bool,
    /// Accept platforms whose root keys Intel's registration service keeps, which is what allows adding packages.
    /// Default: true, as for dynamic platforms.
    pub allow_cached_keys: bool,
    /// Accept platforms with hyper-threading on. TDX keeps another tenant off the sibling thread of a running TD's core,
    /// and servers that rent out TDs run with it. Default: true.
    pub allow_smt: bool,
}

impl Default for TcbPolicy {
    fn default() -> Self {
        Self {
            accept: BTreeSet::from([TcbStatus::UpToDate, TcbStatus::SwHardeningNeeded]),
            out_of_date_grace: Duration::ZERO,
            min_tcb_evaluation_number: 0,
            rejected_advisories: BTreeSet::new(),
            allow_dynamic_platform: true,
            allow_cached_keys: true,
            allow_smt: true,
        }
    }
}

impl TcbPolicy {
    /// The policy for one verification at `now`.
    pub(crate) fn at(&self, now: u64) -> AtTime<'_> {
        let mut inner = QuotePolicy::strict(now)
            .platform_grace_period(self.out_of_date_grace)
            .qe_grace_period(self.out_of_date_grace)
            .min_tcb_eval_data_number(self.min_tcb_evaluation_number)
            .allow_dynamic_platform(self.allow_dynamic_platform)
            .allow_cached_keys(self.allow_cached_keys)
            .allow_smt(self.allow_smt);
        for advisory in &self.rejected_advisories {
            inner = inner.reject_advisory(advisory.as_str());
        }
        for status in &self.accept {
            inner = inner.allow_status(status.for_verifier());
        }
        AtTime { policy: self, inner }
    }
}

/// [`TcbPolicy`] as dcap-qvl asks for it. An error of this stage is a [`TcbRefusal`], which tells it from a quote that
/// does not verify at all.
pub(crate) struct AtTime<'a> {
    policy: &'a TcbPolicy,
    inner: QuotePolicy,
}

/// Why a platform whose quote verifies is not good enough.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum TcbRefusal {
    #[error("{0}")]
    Status(String),
    #[error("{0}")]
    Other(String),
}

impl Policy for AtTime<'_> {
    fn validate(&self, claims: &QuoteClaims) -> anyhow::Result<()> {
        // `strict` always allows UpToDate; our set may not.
        let status = claims.tcb.status.to_string();
        if !self.policy.accept.iter().any(|accepted| accepted.name() == status) {
            return Err(TcbRefusal::Status(status).into());
        }
        self.inner.validate(claims).map_err(|error| TcbRefusal::Other(format!("{error:#}")).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_name_that_the_verifier_uses() {
        for status in TcbStatus::ALL {
            assert_eq!(status.name(), status.for_verifier().to_string());
            assert_eq!(status.name().parse(), Ok(status));
        }
    }

    #[test]
    fn a_revoked_platform_cannot_be_accepted_by_configuration() {
        assert_eq!("Revoked".parse::<TcbStatus>(), Err(UnknownTcbStatus("Revoked".to_owned())));
    }
}
