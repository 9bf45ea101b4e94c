use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use alloy::primitives::Address;
use futures_util::FutureExt as _;
use postern_allowlist::{Answer, Decision, FreshnessPolicy, Link, PeerPolicy};
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};

use super::*;

const NOW: u64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// A watch that nobody keeps up to date, with room for `max_workloads`.
fn watch(max_workloads: usize, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Watch {
    let mut config = WatchConfig::new(vec!["http://127.0.0.1:1".parse().unwrap()], Address::ZERO);
    (config.max_workloads, config.clock) = (max_workloads, Arc::new(clock));
    Watch(Arc::new(Shared::new(config).unwrap()))
}

fn boot(number: u8) -> BootInfo {
    BootInfo {
        app_id: AppId([number; 20]),
        compose_hash: ComposeHash([1; 32]),
        instance_id: InstanceId([2; 20]),
        device_id: DeviceId([3; 32]),
        mr_aggregated: [4; 32],
        mr_system: [5; 32],
        os_image_hash: OsImageHash([6; 32]),
        tcb_status: "UpToDate".to_owned(),
        advisory_ids: Vec::new(),
    }
}

fn proven(boot: &BootInfo) -> Proven<'_> {
    Proven { boot, until: u64::MAX }
}

fn block(number: u8) -> Block {
    Block { number: number.into(), hash: [number; 32], timestamp: NOW }
}

/// Lets the chain allow a workload at a block.
fn allow(watch: &Watch, boot: &BootInfo, number: u8) {
    watch.0.change(|view| {
        let policy = FreshnessPolicy::default();
        let answer = Answer { block: block(number), latest: Decision::Allowed, confirmed: Some(Decision::Allowed) };
        view.follow(&Arc::new(boot.clone()), NOW);
        view.on_head(block(number), &Link::Extends(BTreeSet::new()), NOW).unwrap();
        view.on_answer(boot, answer, &policy, NOW);
    });
}

#[tokio::test]
async fn a_settled_answer_is_given_at_once_and_changes_nothing() {
    let watch = watch(1, || NOW);
    allow(&watch, &boot(7), 1);
    let before = watch.0.view();
    let verdict = watch.evaluate(proven(&boot(7)), PATIENCE).now_or_never().expect("it need not wait");
    assert_eq!(verdict.unwrap().block, block(1));
    assert!(Arc::ptr_eq(&before, &watch.0.view()));
}

#[tokio::test]
async fn a_newcomer_takes_the_place_of_a_workload_that_nobody_asks_about() {
    static CLOCK: AtomicU64 = AtomicU64::new(NOW);
    let watch = watch(1, || CLOCK.load(Ordering::Relaxed));
    allow(&watch, &boot(7), 1);
    let evaluate = async |number| watch.evaluate(proven(&boot(number)), Duration::ZERO).await;

    CLOCK.store(NOW + 170, Ordering::Relaxed);
    assert!(watch.current(proven(&boot(7))).is_ok());
    CLOCK.store(NOW + 350, Ordering::Relaxed);
    assert_eq!(evaluate(8).await, Err(NotAdmitted::TooManyWorkloads), "somebody asked 180 s ago");
    CLOCK.store(NOW + 351, Ordering::Relaxed);
    assert_eq!(evaluate(8).await, Err(NotAdmitted::ViewTooOld { age: 351 }), "it is followed, but nobody answers");
    assert_eq!(watch.workloads(), 1);
    assert_eq!(watch.current(proven(&boot(7))), Err(NotAdmitted::NotEvaluated));
}

#[tokio::test]
async fn the_chain_is_not_asked_about_those_who_are_not_welcome() {
    let mut config = WatchConfig::new(vec!["http://127.0.0.1:1".parse().unwrap()], Address::ZERO);
    (config.clock, config.welcome) = (Arc::new(|| NOW), PeerPolicy::app(AppId([7; 20])));
    let watch = Watch(Arc::new(Shared::new(config).unwrap()));
    let refused = watch.evaluate(proven(&boot(8)), PATIENCE).now_or_never().expect("it need not wait");
    assert_eq!(refused.unwrap_err().label(), "app_not_expected");
    let seven = boot(7);
    let over = watch.evaluate(Proven { boot: &seven, until: NOW }, PATIENCE).now_or_never().expect("nor this one");
    assert_eq!(over, Err(NotAdmitted::EvidenceExpired { until: NOW }));
    assert_eq!(watch.workloads(), 0);
    assert_eq!(watch.evaluate(proven(&seven), Duration::ZERO).await, Err(NotAdmitted::NoView));
}
