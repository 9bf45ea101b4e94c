//! Which gateways have us registered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use postern_plumbing::admin::ReadinessCheck;

/// The registrations of all gateways. One of them suffices to be ready.
#[derive(Clone, Debug)]
pub struct Status {
    gateways: Arc<Mutex<BTreeMap<String, Option<String>>>>,
    readiness: ReadinessCheck,
}

impl Status {
    /// None of `gateways` has us registered yet.
    #[must_use]
    pub fn new(gateways: impl IntoIterator<Item = String>, readiness: ReadinessCheck) -> Self {
        let waiting = |name| (name, Some("not registered yet".to_owned()));
        let status = Self { gateways: Arc::new(Mutex::new(gateways.into_iter().map(waiting).collect())), readiness };
        status.report();
        status
    }

    /// The gateway has us registered.
    pub fn registered(&self, gateway: &str) {
        self.set(gateway, None);
    }

    /// The gateway has not, for this reason.
    pub fn failed(&self, gateway: &str, reason: String) {
        self.set(gateway, Some(reason));
    }

    fn set(&self, gateway: &str, reason: Option<String>) {
        let registered = f64::from(u8::from(reason.is_none()));
        metrics::gauge!("postern_sidecar_gateway_registered", "gateway" => gateway.to_owned()).set(registered);
        self.gateways.lock().unwrap_or_else(PoisonError::into_inner).insert(gateway.to_owned(), reason);
        self.report();
    }

    fn report(&self) {
        let gateways = self.gateways.lock().unwrap_or_else(PoisonError::into_inner);
        let reasons: Vec<String> =
            gateways.iter().filter_map(|(name, reason)| Some(format!("{name}: {}", reason.as_ref()?))).collect();
        if reasons.len() < gateways.len() || gateways.is_empty() {
            self.readiness.ready();
        } else {
            self.readiness.not_ready(reasons.join("; "));
        }
    }
}

#[cfg(test)]
mod tests {
    use postern_plumbing::admin::Readiness;

    use super::Status;

    #[test]
    fn one_gateway_is_enough() {
        let readiness = Readiness::new();
        let names = ["a".to_owned(), "b".to_owned()];
        let status = Status::new(names, readiness.register("gateways"));
        assert!(!readiness.is_ready());
        status.registered("b");
        assert!(readiness.is_ready());
        status.failed("b", "closed".to_owned());
        assert!(!readiness.is_ready());
    }

    #[test]
    fn no_gateway_is_nothing_to_wait_for() {
        let readiness = Readiness::new();
        let _status = Status::new([], readiness.register("gateways"));
        assert!(readiness.is_ready());
    }
}
