//! The contracts' interfaces, from the artifacts that the Solidity build checks in.
//!
//! Each contract has a module of its own, because both interfaces name the same struct.

/// `KmsAuth`: which apps and OS images exist, and the one question whether a workload may boot.
pub mod kms {
    alloy::sol!(
        #[sol(rpc)]
        #[derive(Debug)]
        KmsAuth,
        "../abi/KmsAuth.json"
    );
}

/// `AppAuth`: what one app allows.
pub mod app {
    alloy::sol!(
        #[sol(rpc)]
        #[derive(Debug)]
        AppAuth,
        "../abi/AppAuth.json"
    );
}

/// `ERC1967Proxy`: the address that stays while the code behind it can be replaced.
pub mod proxy {
    alloy::sol!(
        #[sol(rpc)]
        #[derive(Debug)]
        ERC1967Proxy,
        "../abi/ERC1967Proxy.json"
    );
}

/// What dstack's first registries have in the place of what `KmsAuth` has: apps that are no contracts, each with a contract
/// that controls it, and a gateway by its former name. The question whether a workload may boot is the same.
pub mod first {
    alloy::sol! {
        #[sol(rpc)]
        interface FirstRegistry {
            /// Whether an app is known, and the contract that keeps its rules.
            function apps(address appId) external view returns (bool isRegistered, address controller);
            /// The app id of the trusted gateway.
            function tproxyAppId() external view returns (string memory appId);
        }
    }
}

use alloy::primitives::{Address, B256};
use postern_allowlist::BootInfo;

/// The question about a workload, as the contract takes it.
#[must_use]
pub fn boot_info(boot: &BootInfo) -> kms::IAppAuth::AppBootInfo {
    kms::IAppAuth::AppBootInfo {
        appId: Address::from(boot.app_id.0),
        composeHash: B256::from(boot.compose_hash.0),
        instanceId: Address::from(boot.instance_id.0),
        deviceId: B256::from(boot.device_id.0),
        mrAggregated: B256::from(boot.mr_aggregated),
        mrSystem: B256::from(boot.mr_system),
        osImageHash: B256::from(boot.os_image_hash.0),
        tcbStatus: boot.tcb_status.clone(),
        advisoryIds: boot.advisory_ids.clone(),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::hex;
    use alloy::sol_types::{SolCall as _, SolEvent as _};

    use super::{app::AppAuth, first::FirstRegistry, kms::KmsAuth};

    #[test]
    fn selectors_and_topics_are_dstacks() {
        assert_eq!(KmsAuth::isAppAllowedCall::SELECTOR, hex!("1e079198"));
        assert_eq!(AppAuth::isAppAllowedCall::SELECTOR, hex!("1e079198"));
        assert_eq!(KmsAuth::registerAppCall::SELECTOR, hex!("17a1d80f"));
        assert_eq!(AppAuth::addComposeHashCall::SELECTOR, hex!("dfc77223"));
        assert_eq!(AppAuth::removeComposeHashCall::SELECTOR, hex!("67b3f22c"));
        assert_eq!(FirstRegistry::tproxyAppIdCall::SELECTOR, hex!("652a2997"));
        assert_eq!(AppAuth::ComposeHashAdded::SIGNATURE_HASH.0[..4], hex!("fecb3430"));
        assert_eq!(KmsAuth::AppRegistered::SIGNATURE_HASH.0[..4], hex!("0d540ad8"));
    }
}
