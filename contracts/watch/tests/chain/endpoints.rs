//! Several endpoints, some of them bad company.

use std::time::Duration;

use postern_allowlist::{Freshness, NotAdmitted, Why};
use postern_watch::{EndpointStatus, Watch};
use serde_json::json;

use crate::bad_company::{Manner, Node};
use crate::scenery::{Chain, PATIENCE, next, until, why};

fn status(watch: &Watch, position: usize) -> EndpointStatus {
    watch.endpoints()[position].clone()
}

/// Two honest endpoints and a third one: everything must go on as if that one were not there.
async fn two_honest_and_one(manner: Manner) -> EndpointStatus {
    let chain = Chain::start().await;
    let honest = chain.anvil.url().clone();
    let third = Node::start(&honest, manner).await;
    let watching = chain.watch_through(vec![honest.clone(), honest, third.url()], |config| {
        config.call_deadline = Duration::from_millis(500);
    });
    let mut changes = watching.watch.changes();
    let boot = chain.boot(7);
    assert_eq!(why(&watching.evaluate(&boot).await), Why::ComposeHashNotAllowed);
    for _ in 0..3 {
        let added = chain.add(7).await;
        let change = next(&mut changes).await;
        assert_eq!(change.verdict.unwrap().block.number, added);
        chain.remove(7).await;
        assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
    }
    let mut third = status(&watching.watch, 2);
    for other in 100..=255 {
        if third.failures + third.contradictions > 0 {
            break;
        }
        assert_eq!(why(&watching.evaluate(&chain.boot(other)).await), Why::ComposeHashNotAllowed);
        tokio::time::sleep(Duration::from_millis(50)).await;
        third = status(&watching.watch, 2);
    }
    assert!(third.failures + third.contradictions > 0, "the third endpoint is found out");
    for position in [0, 1] {
        let honest = status(&watching.watch, position);
        assert_eq!((honest.answering, honest.contradictions), (true, 0));
    }
    watching.stop().await;
    third
}

#[tokio::test]
async fn an_endpoint_that_allows_everything_admits_nobody_and_is_named() {
    let third = two_honest_and_one(Manner::AllowsAll).await;
    assert!(third.contradictions > 0);
    assert!(third.name.starts_with("127.0.0.1:") && !third.name.contains("secret"));
}

#[tokio::test]
async fn an_endpoint_that_forges_headers_is_found_out() {
    let third = two_honest_and_one(Manner::ForgesHeaders).await;
    assert!(third.contradictions > 0);
    assert!(!third.answering);
}

#[tokio::test]
async fn an_endpoint_that_errs_is_done_without() {
    assert!(!two_honest_and_one(Manner::Errs).await.answering);
}

#[tokio::test]
async fn an_overloaded_endpoint_is_done_without() {
    assert!(!two_honest_and_one(Manner::Overloaded).await.answering);
}

#[tokio::test]
async fn a_black_hole_is_done_without() {
    assert!(!two_honest_and_one(Manner::BlackHole).await.answering);
}

#[tokio::test]
async fn an_endpoint_that_floods_is_done_without() {
    assert!(!two_honest_and_one(Manner::Floods).await.answering);
}

#[tokio::test]
async fn neither_a_slow_endpoint_nor_one_that_boasts_slows_a_revocation() {
    let delay = Duration::from_secs(10);
    for manner in [Manner::Slow(delay), Manner::Boasts(delay)] {
        let chain = Chain::start().await;
        let honest = chain.anvil.url().clone();
        // In front of the others, where it would be asked first.
        let slow = Node::start(&honest, manner).await;
        let watching = chain.watch_through(vec![slow.url(), honest.clone(), honest], |config| {
            config.call_deadline = 2 * delay;
        });
        let mut changes = watching.watch.changes();
        watching.has_seen(chain.add(7).await).await;
        assert!(watching.evaluate(&chain.boot(7)).await.is_ok());
        assert!(next(&mut changes).await.verdict.is_ok());
        let removed = std::time::Instant::now();
        // With a block in between, whose header has to be had.
        chain.anvil.mine(2).await.unwrap();
        chain.remove(7).await;
        assert!(next(&mut changes).await.verdict.is_err());
        assert!(removed.elapsed() < delay / 2, "{:?}", removed.elapsed());
    }
}

#[tokio::test]
async fn who_contradicts_is_left_out_and_still_heard_where_there_is_no_quorum_without_it() {
    let chain = Chain::start().await;
    let honest = chain.anvil.url().clone();
    let (second, third) = (Node::start(&honest, Manner::Honest).await, Node::start(&honest, Manner::AllowsAll).await);
    let watching = chain.watch_through(vec![honest, second.url(), third.url()], |_| ());
    let mut changes = watching.watch.changes();
    // Two answers are enough, so it may not have been asked when the first ones are decided about.
    for number in 7..=u8::MAX {
        assert_eq!(why(&watching.evaluate(&chain.boot(number)).await), Why::ComposeHashNotAllowed);
        if status(&watching.watch, 2).excluded {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(status(&watching.watch, 2).excluded, "it is left out");
    assert!(!status(&watching.watch, 0).excluded && !status(&watching.watch, 1).excluded);

    let contradictions = status(&watching.watch, 2).contradictions;
    for _ in 0..3 {
        chain.add(7).await;
        assert!(next(&mut changes).await.verdict.is_ok());
        chain.remove(7).await;
        assert!(next(&mut changes).await.verdict.is_err());
    }
    assert_eq!(status(&watching.watch, 2).contradictions, contradictions, "it is not asked any more");

    // It mends its ways, and is needed.
    third.become_(Manner::Honest);
    second.become_(Manner::Errs);
    chain.add(7).await;
    assert!(next(&mut changes).await.verdict.is_ok());
}

#[tokio::test]
async fn hidden_logs_hide_no_removal() {
    let chain = Chain::start().await;
    let honest = chain.anvil.url().clone();
    let liar = Node::start(&honest, Manner::HidesLogs).await;
    let watching = chain.watch_through(vec![liar.url(), honest.clone(), honest], |_| ());
    let mut changes = watching.watch.changes();
    watching.has_seen(chain.add(7).await).await;
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());
    for _ in 0..5 {
        chain.remove(7).await;
        assert!(next(&mut changes).await.verdict.is_err());
        chain.add(7).await;
        assert!(next(&mut changes).await.verdict.is_ok());
    }
}

#[tokio::test]
async fn an_old_head_does_not_undo_a_removal_even_when_an_honest_endpoint_is_away() {
    let chain = Chain::start().await;
    let honest = chain.anvil.url().clone();
    let second = Node::start(&honest, Manner::Honest).await;
    let third = Node::start(&honest, Manner::Honest).await;
    let watching = chain.watch_through(vec![honest, second.url(), third.url()], |_| ());
    let mut changes = watching.watch.changes();
    let boot = chain.boot(7);
    watching.has_seen(chain.add(7).await).await;
    assert!(watching.evaluate(&boot).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());
    let old = chain.anvil.request("eth_getBlockByNumber", json!(["latest", false])).await.unwrap();
    let removed = chain.remove(7).await;
    assert!(next(&mut changes).await.verdict.is_err());

    third.become_(Manner::OldHead(old));
    second.become_(Manner::Errs);
    until("the second endpoint is away", || !status(&watching.watch, 1).answering).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(why(&watching.current(&boot)), Why::ComposeHashNotAllowed);
    assert_eq!(watching.watch.head().map(|head| head.number), Some(removed));

    second.become_(Manner::Honest);
    let added = chain.add(7).await;
    assert_eq!(next(&mut changes).await.block.number, added);
}

#[tokio::test]
async fn without_a_quorum_there_is_no_view_and_what_was_admitted_is_kept() {
    let chain = Chain::start().await;
    let honest = chain.anvil.url().clone();
    let second = Node::start(&honest, Manner::Errs).await;
    let watching = chain.watch_through(vec![honest, second.url()], |config| config.quorum = 2);
    let boot = chain.boot(7);
    let added = chain.add(7).await;
    let verdict = watching.evaluate_within(&boot, Duration::from_millis(300)).await;
    assert_eq!(verdict, Err(NotAdmitted::NoView));
    assert_eq!(watching.watch.freshness(), Freshness::Stale);

    second.become_(Manner::Honest);
    watching.has_seen(added).await;
    assert!(watching.evaluate(&boot).await.is_ok());
    second.become_(Manner::AllowsAll);
    let verdict = watching.evaluate_within(&chain.boot(8), Duration::from_millis(300)).await;
    assert_eq!(verdict, Err(NotAdmitted::NotEvaluated), "one against one is no answer");
    assert!(watching.current(&boot).is_ok());
}

#[tokio::test]
async fn an_endpoint_of_another_chain_does_not_count() {
    let chain = Chain::start().await;
    let watching = chain.watch_through(vec![chain.anvil.url().clone()], |config| config.chain_id = Some(1));
    let verdict = watching.evaluate_within(&chain.boot(7), Duration::from_millis(200)).await;
    assert_eq!(verdict, Err(NotAdmitted::NoView));
    assert!(status(&watching.watch, 0).contradictions > 0);
    let right = chain.watch_through(vec![chain.anvil.url().clone()], |config| config.chain_id = Some(31_337));
    until("the right chain is taken", || right.watch.head().is_some()).await;
}

#[tokio::test]
async fn a_node_that_comes_back_is_taken_up_again() {
    let chain = Chain::start().await;
    let node = Node::start(chain.anvil.url(), Manner::Overloaded).await;
    let watching = chain.watch_through(vec![node.url()], |_| ());
    until("it is noticed", || status(&watching.watch, 0).failures > 2).await;
    chain.add(7).await;
    node.become_(Manner::Honest);
    assert!(watching.evaluate_within(&chain.boot(7), PATIENCE).await.is_ok());
}

#[tokio::test]
async fn what_happened_while_no_endpoint_answered_is_read_afterwards() {
    let chain = Chain::start().await;
    let node = Node::start(chain.anvil.url(), Manner::Honest).await;
    // With so long a sweep that nothing is noticed by it.
    let watching = chain.watch_through(vec![node.url()], |config| config.rules.sweep_interval = 3_600);
    let mut changes = watching.watch.changes();
    watching.has_seen(chain.add(7).await).await;
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok());
    assert!(next(&mut changes).await.verdict.is_ok());
    // Blocks before the change and after it: some, and more than are followed one by one.
    for (before, after) in [(0, 0), (5, 0), (3, 20), (150, 30), (10, 150)] {
        for allowed in [false, true] {
            node.become_(Manner::Overloaded);
            until("it is away", || !status(&watching.watch, 0).answering).await;
            chain.anvil.mine(before).await.unwrap();
            let changed = if allowed { chain.add(7).await } else { chain.remove(7).await };
            chain.anvil.mine(after).await.unwrap();
            node.become_(Manner::IndexesLate);
            let change = next(&mut changes).await;
            assert_eq!((change.verdict.is_ok(), change.block.number), (allowed, changed + after));
        }
    }
}

#[tokio::test]
async fn a_workload_that_spoils_its_request_costs_nobody_else_a_revocation() {
    let chain = Chain::start().await;
    chain.add(7).await;
    let mut spoiler = chain.boot(7);
    spoiler.instance_id.0 = [0xee; 20];
    let node = Node::start(chain.anvil.url(), Manner::FloodsAbout("ee".repeat(20))).await;
    let watching = chain.watch_through(vec![node.url()], |_| ());
    let boots: Vec<_> = (0..20_u8)
        .map(|number| {
            let mut boot = chain.boot(7);
            boot.instance_id.0 = [number; 20];
            boot
        })
        .collect();
    let mut changes = watching.watch.changes();
    let verdict = watching.evaluate_within(&spoiler, Duration::from_millis(1));
    let others = futures_util::future::join_all(boots.iter().map(|boot| watching.evaluate(boot)));
    let (verdict, others) = tokio::join!(verdict, others);
    assert!(verdict.is_err());
    assert!(others.iter().all(Result::is_ok));
    for _ in 0..20 {
        assert!(next(&mut changes).await.verdict.is_ok());
    }
    chain.remove(7).await;
    for _ in 0..20 {
        assert_eq!(why(&next(&mut changes).await.verdict), Why::ComposeHashNotAllowed);
    }
    assert_eq!(watching.current(&spoiler), Err(NotAdmitted::NotEvaluated));
}

#[tokio::test]
async fn an_app_that_anybody_creates_costs_others_no_question() {
    let chain = Chain::start().await;
    chain.add(7).await;
    let node = Node::start(chain.anvil.url(), Manner::Honest).await;
    let watching = chain.watch_through(vec![node.url()], |_| ());
    assert!(watching.evaluate(&chain.boot(7)).await.is_ok());

    // From here on, a question would be seen to fail.
    node.become_(Manner::FloodsAbout("eth_call".to_owned()));
    chain.create_app().await;
    // Questions about one head are put before the next one is taken.
    for _ in 0..2 {
        let before = watching.watch.head();
        chain.anvil.mine(1).await.unwrap();
        until("the next head is taken", || watching.watch.head() != before).await;
    }
    assert_eq!(status(&watching.watch, 0).failures, 0);

    let image = alloy::primitives::B256::repeat_byte(9);
    chain.tell_kms(postern_watch::abi::kms::KmsAuth::addOsImageHashCall { osImageHash: image }).await;
    until("a rule for all is asked about", || status(&watching.watch, 0).failures > 0).await;
}
