//! What a program waits for before it can serve, and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// All checks of a program. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Checks>>);

/// A check's name, and how it stands.
type Checks = BTreeMap<&'static str, State>;

/// How a check stands: whether it passes, and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    passes: bool,
    reason: Option<String>,
}

/// One check, in the hands of the part that knows. Clones are the same check.
#[derive(Debug, Clone)]
pub struct ReadinessCheck {
    name: &'static str,
    readiness: Readiness,
}

/// What `/readyz` says.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether every check passes.
    pub(super) ready: bool,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Readiness {
    /// No checks: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check. It does not pass until told so; its reason is `starting`.
    #[must_use = "a check that nobody holds never passes"]
    pub fn register(&self, name: &'static str) -> ReadinessCheck {
        let check = ReadinessCheck { name, readiness: self.clone() };
        check.not_ready("starting");
        check
    }

    /// Whether every check passes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.checks().values().all(|state| state.passes)
    }

    /// The names of the checks that do not pass. Their reasons are for operators.
    #[must_use]
    pub fn failing(&self) -> Vec<&'static str> {
        self.checks().iter().filter(|(_, state)| !state.passes).map(|(name, _)| *name).collect()
    }

    pub(super) fn report(&self) -> Report {
        let checks: Vec<Check> = self
            .checks()
            .iter()
            .map(|(name, state)| Check { name, ready: state.passes, reason: state.reason.clone() })
            .collect();
        Report { ready: checks.iter().all(|check| check.ready), checks }
    }

    fn checks(&self) -> MutexGuard<'_, Checks> {
        // A map of whole values is sound wherever its last holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadinessCheck {
    /// The check passes from now on.
    pub fn ready(&self) {
        self.set(State { passes: true, reason: None });
    }

    /// The check passes from now on, but not everything is as it should be. The reason is shown at `/readyz`.
    pub fn ready_but(&self, reason: impl Into<String>) {
        self.set(State { passes: true, reason: Some(reason.into()) });
    }

    /// The check does not pass from now on. The reason is shown at `/readyz`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(State { passes: false, reason: Some(reason.into()) });
    }

    fn set(&self, state: State) {
        let before = self.readiness.checks().insert(self.name, state.clone());
        if before.as_ref() == Some(&state) {
            return;
        }
        match state {
            State { passes: true, reason: None } => tracing::info!(check = self.name, "ready"),
            State { passes: true, reason } => tracing::warn!(check = self.name, reason, "ready, but"),
            State { reason, .. } if before.is_some() => tracing::warn!(check = self.name, reason, "not ready"),
            State { reason, .. } => tracing::debug!(check = self.name, reason, "not ready yet"),
        }
    }
}
