//! Collateral from services that are slow, broken or lying, from disk, and from files that were carried in.

use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Collateral, TrustRoot};
use postern_attest_io::collateral::{
    self, BundleError, CollateralKeeper, FetchError, Fetcher, Keeping, SourceFailure, Sources,
};
use postern_attest_io::{Attestor, HighWater};
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Tasks;
use postern_simulator::{Faults, Tee};
use rustls_pki_types::CertificateDer;

use crate::pccs::{Mood, Pccs, fmspc, issued_at};
use crate::world::{APP, Guest, TEE, appraiser};

const TIMEOUT: Duration = Duration::from_millis(500);
const DAY: u64 = 86_400;

fn fetcher(services: &[&Pccs]) -> Fetcher {
    let urls: Vec<String> = services.iter().map(|pccs| pccs.url()).collect();
    let sources = Sources::new(urls.iter().map(String::as_str)).unwrap();
    let (first, longest) = (Duration::from_millis(1), Duration::from_millis(5));
    Fetcher::new(sources, TIMEOUT).unwrap().with_attempts(2, first, longest)
}

fn root() -> TrustRoot {
    TrustRoot::from_pem(TEE.root_pem().as_bytes()).unwrap()
}

async fn fetch(services: &[&Pccs]) -> Result<Collateral, FetchError> {
    fetcher(services).fetch(fmspc(), &root(), unix_now(), |_| Ok(())).await
}

async fn failure(pccs: &Pccs, mood: Mood) -> SourceFailure {
    pccs.behave(mood);
    match fetch(&[pccs]).await {
        Err(FetchError::AllFailed { failures, .. }) => failures.into_iter().next().unwrap().1,
        other => panic!("{mood:?}: {other:?}"),
    }
}

fn attestor(collateral: Collateral) -> Arc<Attestor> {
    Attestor::new(appraiser(&TEE), collateral)
}

async fn chain() -> [CertificateDer<'static>; 1] {
    [Guest::of(APP).keeper().await.current().certificate().clone()]
}

/// A wait that ends a test which would hang.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.unwrap()
}

#[tokio::test]
async fn what_an_honest_service_gives_is_what_was_issued() {
    let pccs = Pccs::start(Mood::Honest).await;
    let mut expected = Collateral::default();
    let now = unix_now();
    pccs.give(&TEE, now);
    expected.insert(TEE.collateral(now).unwrap()).unwrap();
    assert_eq!(fetch(&[&pccs]).await.unwrap(), expected);
    assert_eq!(pccs.requests(), 4);
}

#[tokio::test]
async fn each_way_to_fail_has_its_name() {
    let pccs = Pccs::start(Mood::Honest).await;
    for (mood, label) in [
        (Mood::Status(500), "status"),
        (Mood::Status(404), "status"),
        (Mood::Redirecting, "status"),
        (Mood::Truncated, "transport"),
        (Mood::Silent, "transport"),
        (Mood::Garbage, "transport"),
        (Mood::Oversized, "too_large"),
        (Mood::NoJson, "malformed"),
        (Mood::NoChain, "malformed"),
        (Mood::Lying, "unverified"),
        (Mood::OtherPlatform, "other_platform"),
    ] {
        let failure = soon(failure(&pccs, mood)).await;
        assert_eq!(failure.label(), label, "{mood:?}: {failure}");
    }
}

#[tokio::test]
async fn collateral_under_another_root_or_out_of_date_is_refused() {
    let pccs = Pccs::start(Mood::Honest).await;
    pccs.give(&Tee::new([8; 32]).unwrap(), unix_now());
    assert_eq!(failure(&pccs, Mood::Honest).await.label(), "unverified");
    let expired = Faults { expired_collateral: true, ..Faults::default() };
    pccs.give(&Tee::with_faults([7; 32], expired).unwrap(), unix_now());
    assert_eq!(failure(&pccs, Mood::Honest).await.label(), "unverified");
}

#[tokio::test]
async fn what_may_pass_is_asked_again_and_what_will_not_is_not() {
    let pccs = Pccs::start(Mood::Status(503)).await;
    assert!(fetch(&[&pccs]).await.is_err());
    let twice = pccs.requests();
    pccs.behave(Mood::Lying);
    assert!(fetch(&[&pccs]).await.is_err());
    let once = pccs.requests() - twice;
    assert!((2..=8).contains(&twice) && once == 4, "{twice} and {once}");
}

#[tokio::test]
async fn the_next_service_is_asked_when_one_is_of_no_use() {
    let (bad, good) = (Pccs::start(Mood::Silent).await, Pccs::start(Mood::Honest).await);
    for mood in [Mood::Silent, Mood::Status(404), Mood::Lying, Mood::Oversized] {
        bad.behave(mood);
        assert!(soon(fetch(&[&bad, &good])).await.is_ok(), "{mood:?}");
    }
}

#[tokio::test]
async fn an_unknown_platform_is_fetched_once_for_everybody_who_waits() {
    let pccs = Pccs::start(Mood::Slow(Duration::from_millis(50))).await;
    let (attestor, tasks, chain) = (attestor(Collateral::default()), Tasks::new(), chain().await);
    assert_eq!(attestor.appraise_chain(&chain).await.unwrap_err().label(), "unknown_platform");
    let _keeper = CollateralKeeper::start(&attestor, fetcher(&[&pccs]), Keeping::default(), &tasks).await;
    let (a, b, c) =
        tokio::join!(attestor.appraise_chain(&chain), attestor.appraise_chain(&chain), attestor.appraise_chain(&chain));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(pccs.requests(), 4);
    assert!(attestor.appraise_chain(&chain).await.is_ok());
    assert_eq!(pccs.requests(), 4, "what is known does not wait for the network");
}

#[tokio::test]
async fn a_handshake_waits_only_so_long_and_the_next_one_finds_what_it_asked_for() {
    let pccs = Pccs::start(Mood::Slow(Duration::from_millis(200))).await;
    let (attestor, tasks, chain) = (attestor(Collateral::default()), Tasks::new(), chain().await);
    let keeping = Keeping { wait: Duration::from_millis(20), ..Keeping::default() };
    let _keeper = CollateralKeeper::start(&attestor, fetcher(&[&pccs]), keeping, &tasks).await;
    let mut changes = attestor.changes();
    let refused = attestor.appraise_chain(&chain).await.unwrap_err();
    assert_eq!(refused.label(), "collateral_pending");
    assert!(refused.public().contains("try again"));
    soon(changes.changed()).await.unwrap();
    assert!(attestor.appraise_chain(&chain).await.is_ok());
    assert_eq!(pccs.requests(), 4);
}

#[tokio::test]
async fn services_that_failed_are_left_alone_for_a_while() {
    let pccs = Pccs::start(Mood::Status(404)).await;
    let (attestor, tasks, chain) = (attestor(Collateral::default()), Tasks::new(), chain().await);
    let _keeper = CollateralKeeper::start(&attestor, fetcher(&[&pccs]), Keeping::default(), &tasks).await;
    assert_eq!(attestor.appraise_chain(&chain).await.unwrap_err().label(), "unknown_platform");
    let asked = pccs.requests();
    for _ in 0..3 {
        assert_eq!(attestor.appraise_chain(&chain).await.unwrap_err().label(), "unknown_platform");
    }
    assert_eq!(pccs.requests(), asked);
}

#[tokio::test]
async fn newer_collateral_takes_the_place_of_old_before_that_expires() {
    let pccs = Pccs::start(Mood::Honest).await;
    let (attestor, tasks) = (attestor(issued_at(unix_now() - 10 * DAY)), Tasks::new());
    let old = attestor.collateral().windows().next().unwrap().1;
    let mut changes = attestor.changes();
    let _keeper = CollateralKeeper::start(&attestor, fetcher(&[&pccs]), Keeping::default(), &tasks).await;
    soon(changes.changed()).await.unwrap();
    let new = attestor.collateral().windows().next().unwrap().1;
    assert!(new.from >= old.from + 9 * DAY && new.until >= old.until + 9 * DAY);
}

#[tokio::test]
async fn the_same_collateral_again_makes_nobody_be_judged_again() {
    let (pccs, now) = (Pccs::start(Mood::Honest).await, unix_now());
    pccs.give(&TEE, now);
    let (attestor, tasks) = (attestor(issued_at(now)), Tasks::new());
    let keeping = Keeping { refresh_after: Duration::ZERO, ..Keeping::default() };
    let changes = attestor.changes();
    let _keeper = CollateralKeeper::start(&attestor, fetcher(&[&pccs]), keeping, &tasks).await;
    soon(async {
        while pccs.requests() < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(!changes.has_changed().unwrap());
}

#[tokio::test]
async fn collateral_survives_a_restart_while_every_service_is_away() {
    let (pccs, folder) = (Pccs::start(Mood::Honest).await, tempfile::tempdir().unwrap());
    let (chain, fmspc) = (chain().await, fmspc());
    let keeping = || Keeping { folder: Some(folder.path().join("collateral")), ..Keeping::default() };
    let (first, tasks) = (attestor(Collateral::default()), Tasks::new());
    let keeper = CollateralKeeper::start(&first, fetcher(&[&pccs]), keeping(), &tasks).await;
    keeper.ensure(fmspc).await.unwrap();
    let file = folder.path().join(format!("collateral/{fmspc}.json"));
    tasks.close_and_wait(Duration::ZERO).await;

    pccs.behave(Mood::Silent);
    let second = attestor(Collateral::default());
    drop(CollateralKeeper::start(&second, fetcher(&[&pccs]), keeping(), &Tasks::new()).await);
    assert!(second.appraise_chain(&chain).await.is_ok());

    // What was changed on the disk is of no use.
    let edited = std::fs::read_to_string(&file).unwrap().replace("OutOfDate", "UpToDate");
    std::fs::write(&file, edited).unwrap();
    let third = attestor(Collateral::default());
    drop(CollateralKeeper::start(&third, fetcher(&[&pccs]), keeping(), &Tasks::new()).await);
    assert!(third.collateral().is_empty());
}

#[tokio::test]
async fn collateral_from_before_the_mark_is_refused_wherever_it_comes_from() {
    let (pccs, folder, now) = (Pccs::start(Mood::Honest).await, tempfile::tempdir().unwrap(), unix_now());
    let start = || HighWater::open(folder.path().join("high-water"), Arc::new(unix_now)).unwrap();
    let keeping = |high_water| Keeping { high_water: Some(high_water), ..Keeping::default() };
    let first = attestor(issued_at(now));
    let _keeper = CollateralKeeper::start(&first, fetcher(&[&pccs]), keeping(start()), &Tasks::new()).await;
    assert!(!first.collateral().is_empty());

    // After a restart, with a bundle and a service from before.
    pccs.give(&TEE, now - 2 * DAY);
    let second = attestor(issued_at(now - 2 * DAY));
    let keeper = CollateralKeeper::start(&second, fetcher(&[&pccs]), keeping(start()), &Tasks::new()).await;
    assert!(second.collateral().is_empty(), "the bundle is not used");
    let Err(FetchError::AllFailed { failures, .. }) = keeper.ensure(fmspc()).await else { panic!("it was accepted") };
    assert_eq!(failures[0].1.label(), "rolled_back");
    let refused = second.appraise_chain(&chain().await).await.unwrap_err();
    assert_eq!(refused.label(), "unknown_platform");
}

#[tokio::test]
async fn without_a_mark_on_disk_what_is_in_use_is_not_rolled_back_either() {
    let (pccs, now) = (Pccs::start(Mood::Honest).await, unix_now());
    pccs.give(&TEE, now - 2 * DAY);
    let attestor = attestor(issued_at(now));
    let keeper = CollateralKeeper::start(&attestor, fetcher(&[&pccs]), Keeping::default(), &Tasks::new()).await;
    assert!(matches!(keeper.ensure(fmspc()).await, Err(FetchError::AllFailed { .. })));
    assert_eq!(*attestor.collateral(), issued_at(now));
}

#[tokio::test]
async fn a_bundle_is_carried_into_a_closed_network() {
    let (folder, now) = (tempfile::tempdir().unwrap(), unix_now());
    let path = folder.path().join("bundle.json");
    let collateral = issued_at(now);
    collateral::export(&collateral, &path).unwrap();
    assert_eq!(collateral::import(&path, &root(), now).unwrap(), collateral);

    let refused = collateral::import(&path, &TrustRoot::intel(), now).unwrap_err();
    assert!(matches!(refused, BundleError::Collateral { .. }), "{refused}");
    assert!(collateral::import(&path, &root(), now + 60 * DAY).is_err());
    let missing = collateral::import(&folder.path().join("other.json"), &root(), now).unwrap_err();
    assert!(matches!(missing, BundleError::File { .. }), "{missing}");
}
