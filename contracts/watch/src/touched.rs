//! Whom the logs of a stretch of the chain concern.

use std::collections::BTreeSet;

use alloy::primitives::{Address, Log, keccak256};
use alloy::sol_types::SolEvent as _;
use postern_identity::AppId;

use crate::abi::kms::KmsAuth::{AppDeployedViaFactory, AppDeregistered, AppRegistered, PolicyChanged};
use crate::config::LogSource;

/// The name under which the KMS contract's audit events tell of a registration.
const REGISTRATION: &str = "registered-app";

/// The contracts whose logs matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) kms: Address,
    /// The apps' own ones.
    pub(crate) apps: &'a [Address],
    /// The others.
    pub(crate) others: &'a [LogSource],
}

impl Sources<'_> {
    /// All of them.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let others = self.others.iter().map(|source| source.contract);
        [self.kms].into_iter().chain(others).chain(self.apps.iter().copied()).collect()
    }
}

/// The workloads whose answers may have changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touched {
    /// A rule of the KMS contract may have changed, which is everybody's.
    pub(crate) everybody: bool,
    /// Otherwise, only those of these apps.
    pub(crate) apps: BTreeSet<AppId>,
}

impl Touched {
    /// Adds those whom a log of one of these contracts concerns.
    pub(crate) fn add(&mut self, log: &Log, sources: &Sources<'_>) {
        if log.address == sources.kms {
            return self.add_app(registered(log).map(|app| AppId(app.into_array())));
        }
        // It may be an app's own contract and keep the rules of others, too.
        self.add_app(Some(AppId(log.address.into_array())));
        for source in sources.others.iter().filter(|source| source.contract == log.address) {
            self.add_app(source.app);
        }
    }

    /// Adds an app; `None` is all of them.
    fn add_app(&mut self, app: Option<AppId>) {
        match app {
            Some(app) => {
                self.apps.insert(app);
            }
            None => self.everybody = true,
        }
    }

    /// Adds those whom another stretch concerns.
    pub(crate) fn extend(&mut self, other: Self) {
        self.everybody |= other.everybody;
        self.apps.extend(other.apps);
    }
}

/// The app whose registration, or the end of it, is all that a log of the KMS contract tells of.
///
/// Anybody may create and register apps, so that this must cost nobody else a question. Everything else that the contract
/// logs is a rule for all, or not known here.
fn registered(log: &Log) -> Option<Address> {
    let topic = *log.topics().first()?;
    match topic {
        AppRegistered::SIGNATURE_HASH => Some(AppRegistered::decode_log_validate(log).ok()?.appId),
        AppDeregistered::SIGNATURE_HASH => Some(AppDeregistered::decode_log_validate(log).ok()?.appId),
        AppDeployedViaFactory::SIGNATURE_HASH => Some(AppDeployedViaFactory::decode_log_validate(log).ok()?.appId),
        PolicyChanged::SIGNATURE_HASH => {
            let change = PolicyChanged::decode_log_validate(log).ok()?;
            (change.policy == keccak256(REGISTRATION)).then(|| Address::from_word(change.value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{B256, Bytes, LogData};
    use alloy::sol_types::SolEvent;

    use super::*;
    use crate::abi::kms::KmsAuth::OsImageHashRemoved;

    const KMS: Address = Address::repeat_byte(1);
    const APP: Address = Address::repeat_byte(2);
    const CLUSTER: Address = Address::repeat_byte(4);
    const CONTROLLER: Address = Address::repeat_byte(5);

    fn touched(address: Address, data: LogData) -> Touched {
        let others = [
            LogSource { contract: CLUSTER, app: None },
            LogSource { contract: CONTROLLER, app: Some(AppId([6; 20])) },
            LogSource { contract: CONTROLLER, app: Some(AppId([7; 20])) },
        ];
        let mut touched = Touched::default();
        touched.add(&Log { address, data }, &Sources { kms: KMS, apps: &[APP], others: &others });
        touched
    }

    fn kms(event: &impl SolEvent) -> Touched {
        touched(KMS, event.encode_log_data())
    }

    fn policy(name: &str) -> PolicyChanged {
        PolicyChanged { actor: KMS, policy: keccak256(name), value: APP.into_word(), enabled: true }
    }

    fn only_the_app() -> Touched {
        Touched { everybody: false, apps: [AppId([2; 20])].into() }
    }

    #[test]
    fn a_registration_concerns_its_app_only() {
        assert_eq!(kms(&AppRegistered { appId: APP }), only_the_app());
        assert_eq!(kms(&AppDeregistered { appId: APP }), only_the_app());
        assert_eq!(kms(&AppDeployedViaFactory { appId: APP, deployer: KMS }), only_the_app());
        assert_eq!(kms(&policy(REGISTRATION)), only_the_app());
    }

    #[test]
    fn what_an_app_logs_concerns_it_only_whatever_it_is() {
        assert_eq!(touched(APP, OsImageHashRemoved { osImageHash: B256::ZERO }.encode_log_data()), only_the_app());
        assert_eq!(touched(APP, LogData::empty()), only_the_app());
    }

    #[test]
    fn another_contract_concerns_those_whose_rules_it_keeps() {
        assert!(touched(CLUSTER, LogData::empty()).everybody);
        let controlled = touched(CONTROLLER, LogData::empty());
        assert_eq!(controlled.apps, [CONTROLLER.into_array(), [6; 20], [7; 20]].map(AppId).into());
        assert!(!controlled.everybody);
    }

    #[test]
    fn everything_else_of_the_kms_contract_concerns_everybody() {
        assert!(kms(&OsImageHashRemoved { osImageHash: B256::ZERO }).everybody);
        assert!(kms(&policy("os-image")).everybody);
        assert!(touched(KMS, LogData::empty()).everybody);
        assert!(touched(KMS, LogData::new_unchecked(vec![B256::repeat_byte(9)], Bytes::new())).everybody);
        let garbled = LogData::new_unchecked(vec![AppRegistered::SIGNATURE_HASH], Bytes::from_static(&[1; 7]));
        assert!(touched(KMS, garbled).everybody);
    }

    #[test]
    fn stretches_add_up() {
        let mut all = only_the_app();
        all.extend(Touched { everybody: true, apps: [AppId([3; 20])].into() });
        all.extend(Touched::default());
        assert_eq!(all, Touched { everybody: true, apps: [AppId([2; 20]), AppId([3; 20])].into() });
    }
}
