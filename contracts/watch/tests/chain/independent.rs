//! Several nodes that know nothing of each other: each makes the same chain by itself, until it is told something else.

use std::time::Duration;

use alloy::primitives::Address;
use postern_allowlist::{BootInfo, Why};
use postern_devnet::{Anvil, Governance};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_watch::abi::kms::KmsAuth;
use postern_watch::{Url, Watch, WatchConfig};
use serde_json::json;

use crate::scenery::{Chain, OS_IMAGE, Watching, boot, next, until, watch_through, why};

/// Nodes whose blocks have the same hashes as long as the same is done on each.
struct Nodes {
    nodes: Vec<Governance>,
    start: String,
}

impl Nodes {
    async fn start(count: usize) -> Self {
        let mut nodes = Self { nodes: Vec::new(), start: (unix_now() - 30).to_string() };
        for _ in 0..count {
            let node = nodes.node(&[]).await;
            nodes.nodes.push(node);
        }
        nodes
    }

    /// Another one, with the contracts on it.
    async fn node(&self, arguments: &[&str]) -> Governance {
        let anvil = Anvil::start(&[&["--timestamp", &self.start], arguments].concat()).unwrap();
        // The time of a block follows from the one before, and from nothing else.
        anvil.request("anvil_setBlockTimestampInterval", json!([1])).await.unwrap();
        Governance::on(anvil, OS_IMAGE).await.unwrap()
    }

    fn url(&self, node: usize) -> Url {
        self.nodes[node].anvil.url().clone()
    }

    fn watch(&self) -> Watching {
        let endpoints = (0..self.nodes.len()).map(|node| self.url(node)).collect();
        watch_through(endpoints, self.nodes[0].kms, |config: &mut WatchConfig| {
            config.call_deadline = Duration::from_secs(2);
        })
    }

    fn boot(&self, number: u8) -> BootInfo {
        boot(self.nodes[0].app, number)
    }

    async fn add(&self, nodes: &[usize], number: u8) {
        for &node in nodes {
            self.nodes[node].add([number; 32]).await.unwrap();
        }
    }

    async fn remove(&self, nodes: &[usize], number: u8) {
        for &node in nodes {
            self.nodes[node].remove([number; 32]).await.unwrap();
        }
    }

    async fn height(&self, node: usize) -> u64 {
        let head = self.nodes[node].anvil.request("eth_blockNumber", json!([])).await.unwrap();
        u64::from_str_radix(head.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }
}

fn names(watch: &Watch) -> Vec<bool> {
    watch.endpoints().iter().map(|endpoint| endpoint.contradictions > 0).collect()
}

#[tokio::test]
async fn two_of_three_decide_and_one_that_lags_neither_hides_a_removal_nor_undoes_it() {
    let nodes = Nodes::start(3).await;
    let watching = nodes.watch();
    let mut changes = watching.watch.changes();
    nodes.add(&[0, 1, 2], 7).await;
    watching.has_seen(nodes.height(0).await).await;
    assert!(watching.evaluate(&nodes.boot(7)).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());

    nodes.remove(&[0], 7).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(watching.current(&nodes.boot(7)).is_ok(), "one node alone says nothing");
    nodes.remove(&[2], 7).await;
    assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
    nodes.remove(&[1], 7).await;
    watching.has_seen(nodes.height(1).await).await;
    assert_eq!(names(&watching.watch), [false; 3]);
    watching.stop().await;
}

#[tokio::test]
async fn an_allowance_on_a_branch_of_one_node_admits_nobody_and_the_branch_is_found_out() {
    let nodes = Nodes::start(3).await;
    let watching = nodes.watch();
    let mut changes = watching.watch.changes();
    assert_eq!(why(&watching.evaluate(&nodes.boot(7)).await), Why::ComposeHashNotAllowed);
    // The branch is longer, too.
    nodes.add(&[2], 7).await;
    nodes.nodes[2].anvil.mine(3).await.unwrap();
    nodes.add(&[0, 1], 8).await;
    watching.has_seen(nodes.height(0).await).await;
    assert!(watching.evaluate(&nodes.boot(8)).await.is_ok());
    assert_eq!(next(&mut changes).await.boot.compose_hash.0, [8; 32]);
    assert_eq!(why(&watching.current(&nodes.boot(7))), Why::ComposeHashNotAllowed);
    until("the branch is found out", || names(&watching.watch) == [false, false, true]).await;
    watching.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_restarts_is_done_without_and_taken_up_again() {
    let mut nodes = Nodes::start(3).await;
    let watching = nodes.watch();
    let mut changes = watching.watch.changes();
    nodes.add(&[0, 1, 2], 7).await;
    watching.has_seen(nodes.height(0).await).await;
    assert!(watching.evaluate(&nodes.boot(7)).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());

    let port = nodes.url(2).port().unwrap().to_string();
    drop(nodes.nodes.pop());
    nodes.remove(&[0, 1], 7).await;
    assert!(next(&mut changes).await.verdict.is_err());
    until("it is away", || !watching.watch.endpoints()[2].answering).await;

    // It has lost everything, and comes to the same again.
    let again = nodes.node(&["--port", &port]).await;
    nodes.nodes.push(again);
    nodes.add(&[2], 7).await;
    nodes.remove(&[2], 7).await;
    until("it answers", || watching.watch.endpoints()[2].answering).await;
    drop(nodes.nodes.remove(0));
    // Without it there is no quorum any more.
    nodes.add(&[0, 1], 7).await;
    assert!(next(&mut changes).await.verdict.is_ok());
    watching.stop().await;
}

#[tokio::test]
async fn thousands_of_apps_are_followed_and_a_rule_for_all_reaches_each() {
    const APPS: u16 = 2_000;
    // PUSH1 1 PUSH0 MSTORE PUSH1 64 PUSH1 32 MSTORE PUSH0 PUSH1 64 MSTORE PUSH1 96 PUSH0 RETURN: (true, "").
    let yes = "0x60015f5260406020525f60405260605ff3";
    let chain = Chain::start().await;
    let app = |number: u16| Address::left_padding_from(&[&[0xa9, 0x9a][..], &number.to_be_bytes()].concat());
    for number in 0..APPS {
        // The slot of registeredApps[app] in dstack's layout: keccak256(key, slot 5).
        let slot =
            alloy::primitives::keccak256([app(number).into_word(), alloy::primitives::U256::from(5).into()].concat());
        let registered = json!([chain.kms, slot, alloy::primitives::B256::with_last_byte(1)]);
        let code = chain.anvil.request("anvil_setCode", json!([app(number), yes]));
        let storage = chain.anvil.request("anvil_setStorageAt", registered);
        let (code, storage) = tokio::join!(code, storage);
        code.and(storage).unwrap();
    }
    chain.anvil.mine(1).await.unwrap();
    let watching = chain.watch();
    let mut changes = watching.watch.changes();
    let boots: Vec<BootInfo> = (0..APPS).map(|number| boot(app(number), 7)).collect();
    let verdicts = futures_util::future::join_all(boots.iter().map(|boot| watching.evaluate(boot))).await;
    assert!(verdicts.iter().all(Result::is_ok), "{:?}", verdicts.iter().find(|verdict| verdict.is_err()));
    for _ in 0..APPS {
        assert!(next(&mut changes).await.verdict.is_ok());
    }
    let image = OS_IMAGE.into();
    chain.tell_kms(KmsAuth::removeOsImageHashCall { osImageHash: image }).await;
    let mut revoked: Vec<AppId> = Vec::new();
    for _ in 0..APPS {
        let change = next(&mut changes).await;
        assert_eq!(why(&change.verdict), Why::OsImageNotAllowed);
        revoked.push(change.boot.app_id);
    }
    revoked.sort();
    revoked.dedup();
    assert_eq!(revoked.len(), usize::from(APPS));
}
