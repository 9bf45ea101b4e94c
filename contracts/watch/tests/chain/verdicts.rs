//! What one honest node says, and what follows from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes};
use postern_allowlist::{Freshness, NotAdmitted, Why};
use postern_plumbing::clock::unix_now;
use postern_watch::Confirmed;
use postern_watch::abi::app::AppAuth;
use postern_watch::abi::kms::KmsAuth;
use serde_json::json;

use crate::bad_company::{Manner, Node};
use crate::log::Counter;
use crate::scenery::{Chain, PATIENCE, boot, next, until, why};

#[tokio::test]
async fn a_removal_revokes_and_adding_again_restores() {
    let chain = Chain::start().await;
    let watching = chain.watch();
    let mut changes = watching.watch.changes();
    let boot = chain.boot(7);
    assert_eq!(why(&watching.evaluate(&boot).await), Why::ComposeHashNotAllowed);

    let added = chain.add(7).await;
    let change = next(&mut changes).await;
    assert_eq!((change.boot.as_ref(), change.block.number), (&boot, added));
    assert_eq!(change.verdict.unwrap().block.number, added);
    assert!(watching.current(&boot).is_ok());

    let removed = chain.remove(7).await;
    let change = next(&mut changes).await;
    assert_eq!((why(&change.verdict), change.block.number), (Why::ComposeHashNotAllowed, removed));
    assert!(change.seen.elapsed() < PATIENCE);
    assert_eq!(why(&watching.current(&boot)), Why::ComposeHashNotAllowed);

    chain.add(7).await;
    assert!(next(&mut changes).await.verdict.is_ok());
    assert!(watching.current(&boot).is_ok());
    watching.stop().await;
}

#[tokio::test]
async fn every_rule_of_both_contracts_is_heard() {
    let chain = Chain::start().await;
    chain.add(7).await;
    let watching = chain.watch();
    let mut changes = watching.watch.changes();
    let good = chain.boot(7);
    assert!(watching.evaluate(&good).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());

    assert_eq!(why(&watching.evaluate(&boot(Address::repeat_byte(9), 7)).await), Why::AppNotRegistered);
    let other_image =
        postern_allowlist::BootInfo { os_image_hash: postern_identity::OsImageHash([9; 32]), ..good.clone() };
    assert_eq!(why(&watching.evaluate(&other_image).await), Why::OsImageNotAllowed);

    chain.tell_app(AppAuth::setAllowAnyDeviceCall { anyDevice: false }).await;
    assert_eq!(why(&next(&mut changes).await.verdict), Why::DeviceNotAllowed);
    chain.tell_app(AppAuth::addDeviceCall { deviceId: good.device_id.0.into() }).await;
    assert!(next(&mut changes).await.verdict.is_ok());

    chain.tell_kms(KmsAuth::removeOsImageHashCall { osImageHash: good.os_image_hash.0.into() }).await;
    assert_eq!(why(&next(&mut changes).await.verdict), Why::OsImageNotAllowed);
    chain.tell_kms(KmsAuth::addOsImageHashCall { osImageHash: good.os_image_hash.0.into() }).await;
    assert!(next(&mut changes).await.verdict.is_ok());

    let behind = postern_allowlist::BootInfo { tcb_status: "OutOfDate".to_owned(), ..good.clone() };
    assert!(watching.evaluate(&behind).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());
    chain.tell_app(AppAuth::setRequireTcbUpToDateCall { upToDate: true }).await;
    let change = next(&mut changes).await;
    assert_eq!((why(&change.verdict), change.boot.as_ref()), (Why::TcbNotUpToDate, &behind));
    assert!(watching.current(&good).is_ok());
}

#[tokio::test]
async fn new_code_behind_a_proxy_is_noticed_by_its_log() {
    let chain = Chain::start().await;
    chain.add(7).await;
    let url = chain.anvil.url().clone();
    let watching = chain.watch_through(vec![url], |config| config.rules.sweep_interval = 3_600);
    let mut changes = watching.watch.changes();
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());
    // The KMS contract's code fits into the proxy, and knows no app there.
    let other = chain.anvil.deploy(KmsAuth::BYTECODE.clone()).await.unwrap();
    let upgrade = AppAuth::upgradeToAndCallCall { newImplementation: other, data: Bytes::new() };
    let upgraded = chain.tell_app(upgrade).await;
    let change = next(&mut changes).await;
    assert_eq!((why(&change.verdict), change.block.number), (Why::AppNotRegistered, upgraded));
}

#[tokio::test]
async fn a_contract_that_misbehaves_is_refused_and_holds_nobody_up() {
    let chain = Chain::start().await;
    chain.add(7).await;
    // JUMPDEST PUSH1 0 JUMP: it never ends. PUSH1 0 PUSH1 0 REVERT. STOP: an empty answer.
    let loops = chain.anvil.deploy(alloy::hex!("635b600056600052" "6004601cf3")).await.unwrap();
    let reverts = chain.anvil.deploy(alloy::hex!("6460006000fd600052" "6005601bf3")).await.unwrap();
    let silent = chain.anvil.deploy(alloy::hex!("6000600053" "60016000f3")).await.unwrap();
    let watching = chain.watch();
    let mut bad = Vec::new();
    for contract in [loops, reverts, silent] {
        let registered = chain.tell_kms(KmsAuth::registerAppCall { appId: contract }).await;
        watching.has_seen(registered.block_number.expect("it is mined")).await;
        bad.push(boot(contract, 7));
    }
    let good = chain.boot(7);
    let (verdict, a, b, c) = tokio::join!(
        watching.evaluate(&good),
        watching.evaluate(&bad[0]),
        watching.evaluate(&bad[1]),
        watching.evaluate(&bad[2]),
    );
    assert!(verdict.is_ok());
    for verdict in [a, b, c] {
        assert!(matches!(why(&verdict), Why::Reverted | Why::NoContract), "{verdict:?}");
    }
}

#[tokio::test]
async fn without_a_kms_contract_nothing_is_allowed() {
    let chain = Chain::start().await;
    chain.add(7).await;
    let url = chain.anvil.url().clone();
    let watching = chain.watch_through(vec![url], |config| config.kms = Address::repeat_byte(0x77));
    assert_eq!(why(&watching.evaluate(&chain.boot(7)).await), Why::NoContract);
}

#[tokio::test]
async fn many_workloads_are_followed_at_once_and_asked_about_together() {
    let chain = Chain::start().await;
    chain.add(7).await;
    let node = Node::start(chain.anvil.url(), Manner::Honest).await;
    let watching = chain.watch_through(vec![node.url()], |_| ());
    let mut changes = watching.watch.changes();
    let boots: Vec<_> = (0..900_u16)
        .map(|number| {
            let mut boot = chain.boot(7);
            boot.instance_id.0[..2].copy_from_slice(&number.to_be_bytes());
            boot
        })
        .collect();
    let verdicts = futures_util::future::join_all(boots.iter().map(|boot| watching.evaluate(boot))).await;
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(watching.watch.workloads(), 900);
    for _ in 0..900 {
        assert!(next(&mut changes).await.verdict.is_ok());
    }
    let asked = node.calls();
    chain.remove(7).await;
    for _ in 0..900 {
        assert!(next(&mut changes).await.verdict.is_err());
    }
    assert_eq!(node.calls() - asked, 18, "requests, each with fifty questions");
    for boot in &boots {
        watching.watch.forget(boot);
    }
    assert_eq!(watching.watch.workloads(), 0);
    assert_eq!(watching.current(&boots[0]), Err(NotAdmitted::NotEvaluated));
}

#[tokio::test]
async fn no_more_workloads_than_configured_are_followed() {
    let chain = Chain::start().await;
    chain.add(7).await;
    let watching = chain.watch_through(vec![chain.anvil.url().clone()], |config| config.max_workloads = 1);
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok());
    assert_eq!(watching.evaluate(&chain.boot(8)).await, Err(NotAdmitted::TooManyWorkloads));
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok(), "what is followed already is none too many");
}

#[tokio::test]
async fn an_allowance_waits_for_its_confirmations() {
    let chain = Chain::start().await;
    let watching =
        chain.watch_through(vec![chain.anvil.url().clone()], |config| config.confirmed = Confirmed::Depth(2));
    let mut changes = watching.watch.changes();
    let boot = chain.boot(7);
    let added = chain.add(7).await;
    watching.has_seen(added).await;
    assert!(matches!(watching.evaluate(&boot).await, Err(NotAdmitted::Unconfirmed { .. })));
    chain.anvil.mine(2).await.unwrap();
    let change = next(&mut changes).await;
    assert_eq!(change.verdict.unwrap().block.number, added + 2);
    chain.remove(7).await;
    assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
}

#[tokio::test]
async fn an_allowance_waits_until_its_block_is_safe_and_a_refusal_does_not() {
    // Four slots are an epoch here: the block four below the head is safe.
    let chain = Chain::with(&["--slots-in-an-epoch", "4"]).await;
    let url = chain.anvil.url().clone();
    let watching = chain.watch_through(vec![url], |config| config.confirmed = Confirmed::Safe);
    let mut changes = watching.watch.changes();
    let boot = chain.boot(7);
    let added = chain.add(7).await;
    watching.has_seen(added).await;
    assert!(matches!(watching.evaluate(&boot).await, Err(NotAdmitted::Unconfirmed { .. })));
    chain.anvil.mine(3).await.unwrap();
    watching.has_seen(added + 3).await;
    assert!(matches!(watching.evaluate(&boot).await, Err(NotAdmitted::Unconfirmed { .. })), "the block before is safe");
    chain.anvil.mine(1).await.unwrap();
    let change = next(&mut changes).await;
    assert_eq!(change.verdict.unwrap().block.number, added + 4);
    let removed = chain.remove(7).await;
    let change = next(&mut changes).await;
    assert_eq!((why(&change.verdict), change.block.number), (Why::ComposeHashNotAllowed, removed));
}

#[tokio::test]
async fn a_chain_that_stands_still_loses_its_authority_in_steps() {
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let chain = Chain::start().await;
    chain.add(7).await;
    let watching = chain.watch_through(vec![chain.anvil.url().clone()], |config| {
        config.clock = Arc::new(|| unix_now() + AHEAD.load(Ordering::Relaxed));
    });
    let (known, unknown) = (chain.boot(7), chain.boot(8));
    assert!(watching.evaluate(&known).await.is_ok());
    assert_eq!(watching.watch.freshness(), Freshness::Fresh);

    AHEAD.store(120, Ordering::Relaxed);
    assert_eq!(watching.watch.freshness(), Freshness::Grace);
    assert!(watching.current(&known).is_ok());
    let newcomer = postern_allowlist::BootInfo { mr_system: [9; 32], ..known.clone() };
    assert!(matches!(watching.evaluate(&newcomer).await, Err(NotAdmitted::ViewTooOld { .. })));
    assert_eq!(why(&watching.evaluate(&unknown).await), Why::ComposeHashNotAllowed, "a refusal needs no freshness");

    AHEAD.store(1_000, Ordering::Relaxed);
    assert_eq!(watching.watch.freshness(), Freshness::Stale);
    assert!(matches!(watching.current(&known), Err(NotAdmitted::ViewTooOld { .. })));

    let now = unix_now() + 1_000;
    chain.anvil.request("evm_setNextBlockTimestamp", json!([now])).await.unwrap();
    chain.anvil.mine(1).await.unwrap();
    until("the view is fresh again", || watching.watch.freshness() == Freshness::Fresh).await;
    assert!(watching.current(&known).is_ok());
    until("the newcomer is admitted, too", || watching.current(&newcomer).is_ok()).await;
}

#[tokio::test]
async fn a_head_from_the_future_is_not_taken_and_not_complained_about_with_each_poll() {
    let complaints = Counter::of("a head of the chain is not taken");
    let _logging = tracing::subscriber::set_default(complaints.clone());
    let chain = Chain::start().await;
    let watching = chain.watch();
    until("there is a head", || watching.watch.head().is_some()).await;
    let before = watching.watch.head();
    chain.anvil.request("evm_setNextBlockTimestamp", json!([unix_now() + 3_600])).await.unwrap();
    chain.anvil.mine(1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(watching.watch.head(), before);
    assert_eq!(complaints.count(), 1);
}

#[tokio::test]
async fn a_contract_whose_rules_change_without_a_log_is_swept() {
    let chain = Chain::start().await;
    chain.add(7).await;
    let watching = chain.watch_through(vec![chain.anvil.url().clone()], |config| config.rules.sweep_interval = 1);
    let mut changes = watching.watch.changes();
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());
    // The slot of allowedComposeHashes[0x0707…] in dstack's layout: keccak256(key, slot 0).
    let slot = alloy::primitives::keccak256([[7; 32], [0; 32]].concat());
    let storage = json!([chain.app, slot, B256::ZERO]);
    chain.anvil.request("anvil_setStorageAt", storage).await.unwrap();
    chain.anvil.mine(1).await.unwrap();
    assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
}
