//! What the section `[attestation]` asks for, put together and kept running: rules, time, collateral, and what operators see
//! of them.

mod check;
mod watch;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Appraiser, Collateral, CollateralError};
use postern_plumbing::admin::Readiness;
use postern_plumbing::clock::unix_now;
use postern_plumbing::exit;
use postern_plumbing::tasks::{Task, Tasks};

use crate::attestor::Attestor;
use crate::collateral::{CollateralKeeper, Fetcher, Keeping};
use crate::collateral_file::{CollateralFile, CollateralFileError};
use crate::high_water::{CollateralRolledBack, HighWater, HighWaterError};
use crate::policy::{PolicyFiles, PolicyKeeper, PolicyLoadError};
use crate::settings::{AttestationSettings, RuleSettings, SignedPolicy};
use crate::state::{StateError, StateFolder};
use watch::Watched;

/// How often a new policy is looked for.
const POLICY_LOOK: Duration = Duration::from_secs(2);
/// How often the time is written down. After a restart it may be as much earlier than it was.
const MARK: Duration = Duration::from_secs(60);

/// Why evidence cannot be judged as the configuration asks.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The state folder cannot be used.
    #[error("the state folder: {0}")]
    State(#[from] StateError),
    /// The mark of the time cannot be kept.
    #[error("the mark of the time: {0}")]
    HighWater(#[from] HighWaterError),
    /// There is no good policy.
    #[error("the policy: {0}")]
    Policy(#[from] PolicyLoadError),
    /// The file with collateral cannot be read.
    #[error(transparent)]
    CollateralFile(#[from] CollateralFileError),
    /// The file with collateral holds nothing that can ever be used.
    #[error("the collateral in {}: {source}", path.display())]
    Collateral {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: CollateralError,
    },
    /// The file with collateral is older than what was accepted before.
    #[error("the collateral in {}: {source}", path.display())]
    RolledBack {
        /// Which file.
        path: PathBuf,
        /// What is older.
        source: CollateralRolledBack,
    },
    /// HTTPS cannot be spoken.
    #[error("nobody can be asked for collateral: {0}")]
    Client(String),
}

impl JudgeError {
    /// The code to exit with: whether starting again may help, or something has to be set right first.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::State(StateError::InUse(_) | StateError::File { .. })
            | Self::HighWater(HighWaterError::File { .. })
            | Self::Client(_) => exit::UNAVAILABLE,
            Self::Policy(PolicyLoadError::BrokeOff) => exit::SOFTWARE,
            Self::State(StateError::Missing(_))
            | Self::HighWater(HighWaterError::Malformed { .. })
            | Self::Policy(_)
            | Self::CollateralFile(_)
            | Self::Collateral { .. }
            | Self::RolledBack { .. } => exit::CONFIG,
        }
    }
}

impl AttestationSettings {
    /// The judge of other parties' evidence. As tasks of `tasks` it goes on following policy and collateral and keeping the
    /// marks, and tells `readiness` when nobody can be believed.
    ///
    /// Collateral that is out of date stops no start: newer may come while the program runs, and until then the program is
    /// not ready. A policy that is not good does: nobody may be judged by it, nor by another.
    ///
    /// # Errors
    /// See [`JudgeError`].
    pub async fn judge(&self, readiness: &Readiness, tasks: &Tasks) -> Result<Arc<Attestor>, JudgeError> {
        let check = readiness.register("evidence");
        let lock = self.state.as_ref().map(StateFolder::lock).transpose()?;
        let high_water = high_water(self.state.as_ref())?;
        announce_state(self.state.is_some());
        let given = self.given()?;
        let (file, collateral) = given.map_or_else(Default::default, |(file, collateral)| (Some(file), collateral));

        let (attestor, policy) = match &self.rules {
            RuleSettings::Inline { root, tcb } => {
                let appraiser = Appraiser::new(root.clone(), tcb.clone());
                (Attestor::with_clock(appraiser, collateral, high_water.clock()), None)
            }
            RuleSettings::Signed(signed) => {
                let files = policy_files(signed, self.state.as_ref())?;
                let keeper = PolicyKeeper::start(files, high_water.clock(), POLICY_LOOK, tasks).await?;
                (Attestor::governed(keeper.current(), collateral, high_water.clock()), Some(keeper))
            }
        };
        attestor.hold_certificates_to(self.certificates.clone());
        if let Some(policy) = &policy {
            policy.govern(&attestor, tasks);
        }
        attestor.limit_sources(self.sources);
        attestor.limit_evidence_age(self.max_evidence_age);
        if self.collateral.services.is_none() {
            self.refuse_foreign(&attestor)?;
        }

        let keeper = CollateralKeeper::start(&attestor, self.fetcher()?, self.keeping(&high_water), tasks).await;
        if let Some(file) = file {
            run(tasks, "collateral file", file.follow(Arc::clone(&keeper)));
        }
        let marking = Arc::clone(&high_water);
        tasks.spawn("high-water mark", async move { match marking.keep(MARK).await {} });
        let watched = Watched { attestor: Arc::clone(&attestor), keeper, policy, high_water };
        tasks.spawn("evidence", watched.run(check, lock));
        Ok(attestor)
    }

    /// What the file holds, if one is named.
    fn given(&self) -> Result<Option<(CollateralFile, Collateral)>, CollateralFileError> {
        self.collateral.file.as_deref().map(CollateralFile::read).transpose()
    }

    /// A file that another root signed will not get better by waiting.
    fn refuse_foreign(&self, attestor: &Attestor) -> Result<(), JudgeError> {
        let appraiser = attestor.appraiser();
        match (&self.collateral.file, attestor.collateral().verify(appraiser.root(), attestor.now())) {
            (Some(path), Err(source @ CollateralError::Unverified { .. })) => {
                Err(JudgeError::Collateral { path: path.clone(), source })
            }
            _ => Ok(()),
        }
    }

    fn fetcher(&self) -> Result<Option<Fetcher>, JudgeError> {
        let Some(services) = self.collateral.services.clone() else { return Ok(None) };
        let fetcher = Fetcher::new(services, self.collateral.timeout);
        fetcher.map(Some).map_err(|error| JudgeError::Client(error.to_string()))
    }

    fn keeping(&self, high_water: &Arc<HighWater>) -> Keeping {
        Keeping {
            folder: self.state.as_ref().map(StateFolder::collateral),
            high_water: Some(Arc::clone(high_water)),
            refresh_after: self.collateral.refresh,
            ..Keeping::default()
        }
    }
}

fn high_water(state: Option<&StateFolder>) -> Result<Arc<HighWater>, HighWaterError> {
    match state {
        Some(state) => HighWater::open(state.high_water(), Arc::new(unix_now)),
        None => Ok(HighWater::in_memory(Arc::new(unix_now))),
    }
}

/// The configuration has refused a signed policy without a state folder; whoever builds settings by hand may not have.
fn policy_files(signed: &SignedPolicy, state: Option<&StateFolder>) -> Result<PolicyFiles, StateError> {
    let state = state.ok_or_else(|| StateError::Missing(PathBuf::new()))?;
    let SignedPolicy { policy, signature, key } = signed.clone();
    Ok(PolicyFiles { policy, signature, key, mark: state.policy_mark() })
}

fn announce_state(kept: bool) {
    metrics::gauge!("attest_state_is_kept").set(f64::from(u8::from(kept)));
    if !kept {
        tracing::warn!(
            "attestation.state_dir is not set: after a restart nobody notices that the clock was set back or that collateral \
             is older than what was accepted before, and fetched collateral is gone"
        );
    }
}

/// Lets maintenance end with the group.
fn run(tasks: &Tasks, name: &'static str, task: Task<Infallible>) {
    tasks.spawn(name, async move { drop(task.join().await) });
}

#[cfg(test)]
mod tests;
