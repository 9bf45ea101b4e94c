//! Whether a start would succeed, found out without leaving a trace.

use std::sync::Arc;

use postern_attest::{Collateral, TrustRoot};
use postern_plumbing::clock::unix_now;

use super::{JudgeError, policy_files};
use crate::high_water::HighWater;
use crate::policy::PolicyKeeper;
use crate::settings::{AttestationSettings, RuleSettings, SignedPolicy};
use crate::state::StateFolder;

impl AttestationSettings {
    /// Loads every file that is named here as a start would, and judges what they hold; leaves the marks as they are. Gives
    /// all that is wrong. What a start would wait for, such as newer collateral, is wrong here, too.
    #[must_use]
    pub fn check(&self) -> Vec<JudgeError> {
        let mut mistakes = Vec::new();
        if let Some(state) = &self.state {
            mistakes.extend(state.look().err().map(JudgeError::from));
        }
        let high_water = noted(&mut mistakes, self.look()).unwrap_or_else(|| HighWater::in_memory(Arc::new(unix_now)));
        let root = match &self.rules {
            RuleSettings::Inline { root, .. } => Some(root.clone()),
            RuleSettings::Signed(signed) => noted(&mut mistakes, self.root(signed, high_water.now())),
        };
        let given = noted(&mut mistakes, self.given().map_err(JudgeError::from)).flatten();
        if let (Some((_, collateral)), Some(root)) = (given, root) {
            mistakes.extend(self.unusable(&collateral, &root, &high_water));
        }
        noted(&mut mistakes, self.fetcher());
        mistakes
    }

    fn look(&self) -> Result<Arc<HighWater>, JudgeError> {
        match self.state.as_ref().map(StateFolder::high_water) {
            Some(path) => Ok(HighWater::look(&path, Arc::new(unix_now))?),
            None => Ok(HighWater::in_memory(Arc::new(unix_now))),
        }
    }

    fn root(&self, signed: &SignedPolicy, now: u64) -> Result<TrustRoot, JudgeError> {
        Ok(PolicyKeeper::check(&policy_files(signed, self.state.as_ref())?, now)?.root)
    }

    /// A seed may be old where services are asked for newer.
    fn unusable(&self, collateral: &Collateral, root: &TrustRoot, high_water: &HighWater) -> Option<JudgeError> {
        let path = self.collateral.file.clone()?;
        if self.collateral.services.is_some() {
            return None;
        }
        if let Err(source) = collateral.verify(root, high_water.now()) {
            return Some(JudgeError::Collateral { path, source });
        }
        let source = high_water.check(collateral).err()?;
        Some(JudgeError::RolledBack { path, source })
    }
}

fn noted<T>(mistakes: &mut Vec<JudgeError>, outcome: Result<T, JudgeError>) -> Option<T> {
    outcome.map_err(|mistake| mistakes.push(mistake)).ok()
}
