use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn hottest(outcome: &Outcome) -> &'static str {
    outcome.parts.first().unwrap().name
}

#[test]
fn a_seed_decides_everything() {
    let control = Control::small();
    let scenario = Scenario::ColdStart(SECOND);
    let once = simulate(&control, scenario, 7);
    assert_eq!(simulate(&control, scenario, 7), once);
    assert_ne!(simulate(&control, scenario, 8), once);
    assert_eq!(once.reached, (1_000, 1_000));
    assert_eq!(once.failed.len(), 0);
}

#[test]
fn a_start_takes_as_long_as_its_hottest_part() {
    // 1,000 CVMs over two gateways of one core each, 1.4 ms of work for each CVM.
    let control = Control { gateways: 1, cores: 1, ..Control::small() };
    let outcome = simulate(&control, Scenario::ColdStart(Duration::ZERO), 1);
    let converged = outcome.converged.unwrap();
    assert!((1.4..1.6).contains(&converged.as_secs_f64()), "{converged:?}");
    assert_eq!(hottest(&outcome), "processors of a gateway");
    assert!(outcome.parts.first().unwrap().busy > 0.9);

    let mut control = Control { gateways: 10, cores: 8, ..control };
    control.chain.questions_per_second = 200.0;
    let outcome = simulate(&control, Scenario::ColdStart(Duration::ZERO), 1);
    let converged = outcome.converged.unwrap();
    assert!((4.9..7.0).contains(&converged.as_secs_f64()), "1,000 questions at 200 a second: {converged:?}");
    assert!(hottest(&outcome).contains("chain"), "{outcome:?}");

    control.chain.questions_per_second = 1e6;
    control.registry_writes = 100.0;
    let outcome = simulate(&control, Scenario::ColdStart(Duration::ZERO), 1);
    assert!((10.0..10.5).contains(&outcome.converged.unwrap().as_secs_f64()));
    assert_eq!(hottest(&outcome), "the registry");
    assert!(outcome.half.unwrap() < outcome.most.unwrap() && outcome.most.unwrap() < outcome.converged.unwrap());
}

#[test]
fn cvms_that_wait_too_long_come_again_and_are_judged_from_memory() {
    // Ten seconds of questions, and each CVM waits for five.
    let mut control = Control::small();
    control.chain.questions_per_second = 100.0;
    control.bounds.give_up = 5 * SECOND;
    let outcome = simulate(&control, Scenario::ColdStart(Duration::ZERO), 1);
    assert!(outcome.failed.get(&Failure::ChainLate).is_some_and(|&late| late > 100), "{outcome:?}");
    let converged = outcome.converged.unwrap();
    assert!((10.0..14.0).contains(&converged.as_secs_f64()), "nobody is asked about twice: {converged:?}");
}

#[test]
fn what_the_registry_was_asked_for_is_there_when_a_cvm_comes_again() {
    let mut control = Control::small();
    control.registry_writes = 20.0;
    let outcome = simulate(&control, Scenario::ColdStart(Duration::ZERO), 1);
    let converged = outcome.converged.unwrap();
    assert!((50.0..60.0).contains(&converged.as_secs_f64()), "1,000 writes, each of them once: {converged:?}");
    assert!(outcome.failed.get(&Failure::RegistryLate).is_some_and(|&late| late > 500), "{outcome:?}");
}

#[test]
fn a_fleet_without_room_does_not_come_to_rest_and_says_why() {
    let mut control = Control::small();
    control.bounds.registrations = 240;
    let outcome = simulate(&control, Scenario::ColdStart(SECOND), 1);
    assert_eq!((outcome.converged, outcome.reached), (None, (960, 1_000)));
    assert_eq!(hottest(&outcome), "places for registrations at a gateway");
    assert!(outcome.failed.get(&Failure::GatewayFull).is_some_and(|&full| full > 0));
    assert!(outcome.half.is_some() && outcome.most.is_none(), "99 of 100 never were there");
}

#[test]
fn the_cvms_of_a_lost_region_notice_at_their_next_renewal() {
    let control = Control::small();
    let outcome = simulate(&control, Scenario::RegionLost(1), 1);
    let converged = outcome.converged.unwrap();
    let (refresh, give_up) = (control.bounds.refresh, control.bounds.give_up);
    assert!(converged > give_up && converged < refresh + give_up + 2 * SECOND, "{converged:?}");
    assert_eq!(outcome.reached, (250, 250), "the others are not disturbed");
    assert_eq!(outcome.failed.get(&Failure::GatewaySilent), Some(&250));
    let half = outcome.half.unwrap().as_secs_f64();
    assert!((30.0..60.0).contains(&half), "renewals are spread over a minute: {half}");
}

#[test]
fn a_revocation_reaches_everybody_within_a_poll_and_a_round_and_the_revoked_keep_knocking() {
    let control = Control::small();
    let outcome = simulate(&control, Scenario::Revocation { revoked: 100, rules: false }, 1);
    let converged = outcome.converged.unwrap();
    assert!(converged < control.chain.poll + Duration::from_millis(100), "{converged:?}");
    assert_eq!(outcome.reached, (100, 100));
    // Pauses are fifteen seconds on average once they have grown to thirty.
    let knocks = outcome.aftermath.unwrap();
    assert!((5.0..9.0).contains(&knocks), "{knocks}");

    let everybody = simulate(&control, Scenario::Revocation { revoked: 100, rules: true }, 1);
    assert!(everybody.converged.unwrap() > converged, "ten times as many questions");
    assert_eq!(everybody.reached, (100, 100));
}

#[test]
fn an_endpoint_that_is_too_slow_for_one_request_answers_nobody() {
    let mut control = Control::small();
    control.chain.questions_per_second = 5.0;
    let outcome = simulate(&control, Scenario::ColdStart(Duration::ZERO), 1);
    assert_eq!(outcome.converged, None);
    assert!(hottest(&outcome).contains("chain"), "{outcome:?}");
}
