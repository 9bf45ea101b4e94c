//! Chains that change their mind.

use postern_allowlist::Why;
use serde_json::json;

use crate::scenery::{Chain, next, why};

#[tokio::test]
async fn a_reorganisation_takes_an_allowance_away_and_brings_one_back() {
    let chain = Chain::start().await;
    let watching = chain.watch();
    let mut changes = watching.watch.changes();
    let boot = chain.boot(7);
    watching.has_seen(chain.add(7).await).await;
    assert!(watching.evaluate(&boot).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());

    chain.anvil.request("anvil_reorg", json!([1, []])).await.unwrap();
    assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
    chain.add(7).await;
    assert!(next(&mut changes).await.verdict.is_ok());

    chain.remove(7).await;
    assert!(next(&mut changes).await.verdict.is_err());
    chain.anvil.request("anvil_reorg", json!([1, []])).await.unwrap();
    assert!(next(&mut changes).await.verdict.is_ok());
    watching.stop().await;
}

#[tokio::test]
async fn a_reorganisation_is_noticed_however_far_the_chain_has_gone_since() {
    let chain = Chain::start().await;
    let watching = chain.watch();
    let mut changes = watching.watch.changes();
    watching.has_seen(chain.add(7).await).await;
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());
    chain.anvil.request("anvil_reorg", json!([1, []])).await.unwrap();
    chain.anvil.mine(200).await.unwrap();
    assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
}

#[tokio::test]
async fn a_reorganisation_of_any_depth_takes_back_what_it_replaces() {
    let chain = Chain::start().await;
    let watching = chain.watch();
    let mut changes = watching.watch.changes();
    assert_eq!(why(&watching.evaluate(&chain.boot(7)).await), Why::ComposeHashNotAllowed);
    // Within the blocks that are remembered, at their end, and beyond them.
    for depth in [2, 20, 64, 90] {
        chain.add(7).await;
        assert!(next(&mut changes).await.verdict.is_ok());
        chain.anvil.mine(depth - 1).await.unwrap();
        chain.anvil.request("anvil_reorg", json!([depth, []])).await.unwrap();
        assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed, "{depth} blocks deep");
    }
}

#[tokio::test]
async fn a_chain_set_back_to_a_snapshot_is_followed_back() {
    let chain = Chain::start().await;
    let watching = chain.watch();
    let mut changes = watching.watch.changes();
    watching.has_seen(chain.add(7).await).await;
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());

    let snapshot = chain.anvil.request("evm_snapshot", json!([])).await.unwrap();
    chain.anvil.mine(3).await.unwrap();
    let removed = chain.remove(7).await;
    assert!(next(&mut changes).await.verdict.is_err());
    chain.anvil.request("evm_revert", json!([snapshot])).await.unwrap();
    let change = next(&mut changes).await;
    assert!(change.verdict.is_ok());
    assert!(change.block.number < removed);
}
