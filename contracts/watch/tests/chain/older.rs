//! Contracts of other shapes than ours: dstack's first registry, and a cluster whose rules are kept in a diamond.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::{SolCall, SolValue as _};
use postern_allowlist::{BootInfo, Why};
use postern_identity::AppId;
use postern_watch::LogSource;
use serde_json::json;

use crate::scenery::{Chain, OS_IMAGE, Watching, boot, next, why};

mod registry {
    alloy::sol!(OldKmsAuth, "../test/abi/OldKmsAuth.json");
}

mod controller {
    alloy::sol!(OldAppAuth, "../test/abi/OldAppAuth.json");
}

mod diamond {
    alloy::sol!(Cluster, "../test/abi/Cluster.json");
}

mod gate {
    alloy::sol!(ClusterBootGate, "../test/abi/ClusterBootGate.json");
}

use controller::OldAppAuth;
use diamond::Cluster;
use gate::ClusterBootGate;
use registry::OldKmsAuth;

async fn tell(chain: &Chain, contract: Address, call: impl SolCall) {
    chain.anvil.call(contract, Bytes::from(call.abi_encode())).await.unwrap();
}

/// The address that a call returns.
async fn address(chain: &Chain, contract: Address, call: impl SolCall) -> Address {
    let data = Bytes::from(call.abi_encode());
    let call = json!([{ "from": postern_devnet::FIRST_ACCOUNT, "to": contract, "data": data }, "latest"]);
    let word: B256 = chain.anvil.request("eth_call", call).await.unwrap().as_str().unwrap().parse().unwrap();
    Address::from_word(word)
}

/// With so long a sweep that whatever is noticed was told by a log.
fn watch(chain: &Chain, kms: Address, sources: Vec<LogSource>) -> Watching {
    chain.watch_through(vec![chain.anvil.url().clone()], |config| {
        (config.kms, config.log_contracts) = (kms, sources);
        config.rules.sweep_interval = 3_600;
    })
}

#[tokio::test]
async fn an_app_of_the_first_registry_is_followed_by_the_logs_of_its_controller() {
    let chain = Chain::start().await;
    let kms = chain.anvil.deploy(OldKmsAuth::BYTECODE.clone()).await.unwrap();
    let app = address(&chain, kms, OldKmsAuth::nextAppIdCall {}).await;
    let code = [OldAppAuth::BYTECODE.to_vec(), app.abi_encode()].concat();
    let controller = chain.anvil.deploy(code).await.unwrap();
    tell(&chain, kms, OldKmsAuth::registerAppCall { controller }).await;
    tell(&chain, kms, OldKmsAuth::registerImageCall { image: OS_IMAGE.into() }).await;

    let source = format!("{controller}={app}").parse().unwrap();
    let watching = watch(&chain, kms, vec![source]);
    let mut changes = watching.watch.changes();
    let boot = boot(app, 7);
    assert_eq!(why(&watching.evaluate(&boot).await), Why::ComposeHashNotAllowed);
    tell(&chain, controller, OldAppAuth::addComposeHashCall { composeHash: B256::repeat_byte(7) }).await;
    assert!(next(&mut changes).await.verdict.is_ok());
    tell(&chain, controller, OldAppAuth::removeComposeHashCall { composeHash: B256::repeat_byte(7) }).await;
    assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
    // Whatever its registry logs is a rule for all.
    tell(&chain, controller, OldAppAuth::addComposeHashCall { composeHash: B256::repeat_byte(7) }).await;
    assert!(next(&mut changes).await.verdict.is_ok());
    tell(&chain, kms, OldKmsAuth::deregisterImageCall { image: OS_IMAGE.into() }).await;
    assert_eq!(why(&next(&mut changes).await.verdict), Why::OsImageNotAllowed);
    watching.stop().await;
}

#[tokio::test]
async fn the_members_of_a_cluster_are_followed_by_the_logs_of_its_diamond() {
    let chain = Chain::start().await;
    let cluster = chain.anvil.deploy(Cluster::BYTECODE.clone()).await.unwrap();
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(address(&chain, cluster, ClusterBootGate::mintCall {}).await);
        tell(&chain, cluster, ClusterBootGate::mintCall {}).await;
    }
    for member in &members {
        chain.tell_kms(postern_watch::abi::kms::KmsAuth::registerAppCall { appId: *member }).await;
    }
    let watching = watch(&chain, chain.kms, vec![LogSource { contract: cluster, app: None }]);
    let mut changes = watching.watch.changes();
    let boots: Vec<BootInfo> = members.iter().map(|member| boot(*member, 7)).collect();
    for boot in &boots {
        assert_eq!(why(&watching.evaluate(boot).await), Why::ComposeHashNotAllowed);
    }
    let mut both = async |call: Bytes| {
        chain.anvil.call(cluster, call).await.unwrap();
        let (one, other) = (next(&mut changes).await, next(&mut changes).await);
        let apps: BTreeSet<AppId> = [one.boot.app_id, other.boot.app_id].into();
        assert_eq!(apps, members.iter().map(|member| AppId(member.into_array())).collect(), "both are concerned");
        one.verdict
    };
    tell(&chain, cluster, ClusterBootGate::setAllowAnyDeviceCall { allowAny: true }).await;
    let compose = B256::repeat_byte(7);
    assert!(both(ClusterBootGate::addComposeHashCall { composeHash: compose }.abi_encode().into()).await.is_ok());
    let removed = both(ClusterBootGate::removeComposeHashCall { composeHash: compose }.abi_encode().into()).await;
    assert_eq!(why(&removed), Why::ComposeHashNotAllowed);
    assert!(both(ClusterBootGate::addComposeHashCall { composeHash: compose }.abi_encode().into()).await.is_ok());
    let paused = both(ClusterBootGate::pauseCall {}.abi_encode().into()).await;
    assert_eq!(why(&paused), Why::Other, "a cluster has reasons of its own");
}
