use std::collections::BTreeSet;

use postern_identity::{AppId, ComposeHash, Register};

use crate::{AppIdentity, Appraisal};

/// Which verified peers are welcome. `None` means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerPolicy {
    /// The applications.
    pub apps: Option<BTreeSet<AppId>>,
    /// The compose hashes. An app id can be pinned by a deployer, a compose hash cannot.
    pub compose_hashes: Option<BTreeSet<ComposeHash>>,
}

/// Why a verified peer is not welcome. The text names what the peer is, and is for our own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRefusal {
    /// It belongs to another application.
    #[error("the peer belongs to app {0}, which is not one of those expected")]
    App(AppId),
    /// It runs another composition.
    #[error("the peer runs compose hash {0}, which is not one of those expected")]
    ComposeHash(ComposeHash),
    /// It runs an image that is in no cohort. Named by its MRTD.
    #[error("the peer runs an image that no cohort has (MRTD {0})")]
    UnknownImage(Register),
    /// Each of its registers is in some cohort, but no cohort has them all. Named by its MRTD.
    #[error("the peer's registers belong to several cohorts (MRTD {0})")]
    MixedImage(Register),
    /// The policy itself has ended, so that nobody is welcome.
    #[error("the policy expired at {expires}")]
    PolicyExpired {
        /// When it ended, seconds since 1970.
        expires: u64,
    },
}

impl PeerPolicy {
    /// A policy that expects one application.
    #[must_use]
    pub fn app(app_id: AppId) -> Self {
        Self { apps: Some(BTreeSet::from([app_id])), ..Self::default() }
    }

    /// Whether the peer is welcome.
    ///
    /// # Errors
    /// When it is not, with the first thing that is wrong.
    pub fn check(&self, peer: &Appraisal) -> Result<(), PolicyRefusal> {
        self.check_app(&peer.identity)
    }

    /// The same, where no certificate was shown.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_app(&self, app: &AppIdentity) -> Result<(), PolicyRefusal> {
        self.check_workload(&app.app_id, &app.compose_hash)
    }

    /// The same, where it is known only which app the peer is and what it runs.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn check_workload(&self, app: &AppId, compose_hash: &ComposeHash) -> Result<(), PolicyRefusal> {
        if self.apps.as_ref().is_some_and(|apps| !apps.contains(app)) {
            return Err(PolicyRefusal::App(*app));
        }
        if self.compose_hashes.as_ref().is_some_and(|hashes| !hashes.contains(compose_hash)) {
            return Err(PolicyRefusal::ComposeHash(*compose_hash));
        }
        Ok(())
    }
}

impl PolicyRefusal {
    /// A short, stable name for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::App(_) => "app_not_expected",
            Self::ComposeHash(_) => "compose_hash_not_expected",
            Self::UnknownImage(_) => "image_unknown",
            Self::MixedImage(_) => "image_mixed",
            Self::PolicyExpired { .. } => "policy_expired",
        }
    }

    /// A sentence that the peer may read.
    #[must_use]
    pub const fn public(&self) -> &'static str {
        match self {
            Self::App(_) => "the peer belongs to another application than expected",
            Self::ComposeHash(_) => "the peer runs another composition than expected",
            Self::UnknownImage(_) | Self::MixedImage(_) => "the peer runs another image than expected",
            Self::PolicyExpired { .. } => "the policy by which peers are judged has expired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AppIdentity;
    use postern_identity::{DeviceId, InstanceId};

    fn peer() -> Appraisal {
        Appraisal {
            identity: AppIdentity {
                app_id: AppId([1; 20]),
                compose_hash: ComposeHash([2; 32]),
                instance_id: InstanceId([3; 20]),
                os_image_hash: None,
                key_provider: Vec::new(),
            },
            device_id: DeviceId([4; 32]),
            mrtd: Register([5; 48]),
            rtmr: [Register([6; 48]); 4],
            mr_aggregated: [7; 32],
            mr_system: [8; 32],
            tcb_status: "UpToDate".to_owned(),
            advisory_ids: Vec::new(),
            fingerprint: [9; 32],
            valid_until: 0,
        }
    }

    #[test]
    fn nothing_expected_means_any_and_an_empty_set_means_none() {
        assert_eq!(PeerPolicy::default().check(&peer()), Ok(()));
        assert_eq!(PeerPolicy::app(AppId([1; 20])).check(&peer()), Ok(()));
        let none = PeerPolicy { apps: Some(BTreeSet::new()), ..PeerPolicy::default() };
        assert_eq!(none.check(&peer()), Err(PolicyRefusal::App(AppId([1; 20]))));
    }

    #[test]
    fn application_and_composition_both_have_to_fit() {
        let mut policy = PeerPolicy::app(AppId([1; 20]));
        policy.compose_hashes = Some([ComposeHash([2; 32])].into());
        assert_eq!(policy.check(&peer()), Ok(()));
        policy.compose_hashes = Some([ComposeHash([0; 32])].into());
        let refused = policy.check(&peer()).unwrap_err();
        assert_eq!(refused, PolicyRefusal::ComposeHash(ComposeHash([2; 32])));
        assert!(!refused.public().contains("0202"), "{}", refused.public());
    }
}
