use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};

use super::*;
use crate::{Decision, LocalRules, PeerPolicy, PolicyRefusal, Proven, Refusal, Why, admit, standing, welcome};

const NOW: u64 = 1_000_000;
const POLICY: FreshnessPolicy = FreshnessPolicy { max_view_age: 60, view_grace: 900 };

fn boot(app: u8) -> Arc<BootInfo> {
    Arc::new(BootInfo {
        app_id: AppId([app; 20]),
        compose_hash: ComposeHash([1; 32]),
        // Whose turn to be swept comes last.
        instance_id: InstanceId([0; 20]),
        device_id: DeviceId([3; 32]),
        mr_aggregated: [4; 32],
        mr_system: [5; 32],
        os_image_hash: OsImageHash([6; 32]),
        tcb_status: "UpToDate".to_owned(),
        advisory_ids: Vec::new(),
    })
}

fn block(number: u64) -> Block {
    fork(number, 0)
}

fn fork(number: u64, branch: u8) -> Block {
    let mut hash = [branch; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    Block { number, hash, timestamp: NOW + number }
}

fn both(block: Block, decision: Decision) -> Answer {
    Answer { block, latest: decision.clone(), confirmed: Some(decision) }
}

fn no() -> Decision {
    Decision::refused("Compose hash not allowed")
}

fn nothing() -> Link {
    Link::Extends(BTreeSet::new())
}

fn logs_of(app: u8) -> Link {
    Link::Extends([AppId([app; 20])].into())
}

/// A view at block 1 that has admitted the app 7.
fn admitted() -> (View, Arc<BootInfo>) {
    let mut view = View::new(ViewRules::default());
    let boot = boot(7);
    view.follow(&boot, NOW);
    view.on_head(block(1), &Link::Replaces, NOW + 1).unwrap();
    let change = view.on_answer(&boot, both(block(1), Decision::Allowed), &POLICY, NOW + 1).unwrap();
    assert!(change.verdict.is_ok());
    (view, boot)
}

/// A head two blocks above the confirmed one.
fn two_above(block: Block) -> Head {
    Head { block, confirmed: block.number - 2 }
}

fn verdict(view: &View, boot: &BootInfo, already: bool, now: u64) -> Result<Admission, NotAdmitted> {
    let rules = LocalRules { freshness: POLICY, ..LocalRules::default() };
    admit(Proven { boot, until: u64::MAX }, view, &rules, already, now)
}

#[test]
fn nothing_is_admitted_before_the_chain_was_seen_and_asked() {
    let mut view = View::new(ViewRules::default());
    let boot = boot(7);
    assert_eq!(verdict(&view, &boot, true, NOW), Err(NotAdmitted::NoView));
    assert!(view.to_evaluate(NOW).is_empty(), "there is no block to ask at");

    view.on_head(block(1), &Link::Replaces, NOW + 1).unwrap();
    assert_eq!(verdict(&view, &boot, true, NOW + 1), Err(NotAdmitted::NotEvaluated));
    assert!(view.follow(&boot, NOW + 1));
    assert!(!view.follow(&boot, NOW + 1), "the second time it is not new");
    assert_eq!(verdict(&view, &boot, true, NOW + 1), Err(NotAdmitted::NotEvaluated));
    assert_eq!(view.to_evaluate(NOW + 1), [boot]);
}

#[test]
fn an_admission_names_its_block_and_when_it_ends() {
    let (view, boot) = admitted();
    let first = verdict(&view, &boot, false, NOW + 1).unwrap();
    assert_eq!(first, Admission { block: block(1), expires: NOW + 1 + 60 });
    let held = verdict(&view, &boot, true, NOW + 1).unwrap();
    assert_eq!(held.expires, NOW + 1 + 900);
    assert!(view.to_evaluate(NOW + 2).is_empty());
}

#[test]
fn an_answer_stays_good_while_its_contract_is_silent() {
    let (mut view, boot) = admitted();
    for number in 2..200 {
        view.on_head(block(number), &logs_of(8), NOW + number).unwrap();
    }
    assert_eq!(verdict(&view, &boot, false, NOW + 199).unwrap().block, block(1));
}

#[test]
fn a_log_of_the_app_asks_again_and_a_refusal_is_a_change() {
    let (mut view, boot) = admitted();
    view.on_head(block(2), &logs_of(7), NOW + 2).unwrap();
    assert_eq!(view.to_evaluate(NOW + 2), [Arc::clone(&boot)]);
    assert_eq!(verdict(&view, &boot, false, NOW + 2), Err(NotAdmitted::AwaitingAnswer));
    assert!(verdict(&view, &boot, true, NOW + 2).is_ok(), "what is admitted goes on until the answer is here");

    let change = view.on_answer(&boot, both(block(2), no()), &POLICY, NOW + 2).unwrap();
    let Err(NotAdmitted::Refused { refusal: Refusal { why, .. }, block: at }) = change.verdict else {
        panic!("it was refused")
    };
    assert_eq!((why, at, change.boot), (Why::ComposeHashNotAllowed, block(2), Arc::clone(&boot)));
    assert!(!view.is_admitted(&boot));

    view.on_head(block(3), &logs_of(7), NOW + 3).unwrap();
    let change = view.on_answer(&boot, both(block(3), Decision::Allowed), &POLICY, NOW + 3).unwrap();
    assert_eq!(change.verdict, Ok(Admission { block: block(3), expires: NOW + 3 + 60 }));
}

#[test]
fn a_log_of_the_kms_or_another_chain_asks_about_everything() {
    for link in [Link::ExtendsWithNewRules, Link::Replaces] {
        let (mut view, boot) = admitted();
        view.on_head(fork(2, 9), &link, NOW + 2).unwrap();
        assert_eq!(view.to_evaluate(NOW + 2), [boot], "{link:?}");
    }
}

#[test]
fn a_lower_head_is_another_chain_whatever_its_link_says() {
    let (mut view, boot) = admitted();
    view.on_head(block(5), &nothing(), NOW + 5).unwrap();
    assert!(view.to_evaluate(NOW + 5).is_empty());
    view.on_head(fork(5, 1), &nothing(), NOW + 5).unwrap();
    assert_eq!(view.to_evaluate(NOW + 5), [boot]);
}

#[test]
fn the_same_head_again_changes_nothing() {
    let (mut view, _) = admitted();
    view.on_head(block(1), &Link::Replaces, NOW + 50).unwrap();
    assert!(view.to_evaluate(NOW + 50).is_empty());
    assert_eq!(view.freshness(&POLICY, NOW + 62), Freshness::Grace, "seeing it again does not make it younger");
}

#[test]
fn a_head_from_the_future_is_refused_and_one_slightly_ahead_does_not_live_longer() {
    let (mut view, _) = admitted();
    let early = Block { timestamp: NOW + 31, ..block(2) };
    assert_eq!(view.on_head(early, &nothing(), NOW), Err(HeadRefused::FromTheFuture { lead: 31 }));
    assert_eq!(view.head(), Some(&block(1)));
    let ahead = Block { timestamp: NOW + 30, ..block(2) };
    view.on_head(ahead, &nothing(), NOW).unwrap();
    assert_eq!(view.freshness(&POLICY, NOW + 61), Freshness::Grace);
}

#[test]
fn a_stalled_chain_refuses_newcomers_first_and_then_everyone() {
    let (view, boot) = admitted();
    let seen = NOW + 1;
    assert_eq!(verdict(&view, &boot, false, seen + 61), Err(NotAdmitted::ViewTooOld { age: 61 }));
    assert!(verdict(&view, &boot, true, seen + 900).is_ok());
    assert_eq!(verdict(&view, &boot, true, seen + 901), Err(NotAdmitted::ViewTooOld { age: 901 }));
    assert_eq!(view.freshness(&POLICY, seen + 60), Freshness::Fresh);
    assert_eq!(view.freshness(&POLICY, seen + 61), Freshness::Grace);
    assert_eq!(view.freshness(&POLICY, seen + 901), Freshness::Stale);
}

#[test]
fn who_comes_while_the_chain_stands_still_is_told_that_it_does() {
    let (mut view, _) = admitted();
    let newcomer = boot(8);
    view.follow(&newcomer, NOW + 61);
    assert_eq!(verdict(&view, &newcomer, false, NOW + 61), Err(NotAdmitted::NotEvaluated));
    assert_eq!(verdict(&view, &newcomer, false, NOW + 62), Err(NotAdmitted::ViewTooOld { age: 61 }));
}

#[test]
fn a_doubt_that_nobody_resolves_ages_from_when_the_answer_was_last_known_to_hold() {
    let (mut view, boot) = admitted();
    view.on_head(block(2), &logs_of(7), NOW + 2).unwrap();
    for number in 3..1_200 {
        view.on_head(block(number), &nothing(), NOW + number).unwrap();
    }
    assert!(verdict(&view, &boot, true, NOW + 901).is_ok());
    assert_eq!(verdict(&view, &boot, true, NOW + 902), Err(NotAdmitted::ViewTooOld { age: 901 }));
}

#[test]
fn the_sweep_asks_about_silent_contracts_and_bounds_their_silence() {
    let (mut view, boot) = admitted();
    view.on_head(block(301), &nothing(), NOW + 301).unwrap();
    assert!(view.to_evaluate(NOW + 300).is_empty());
    assert_eq!(view.to_evaluate(NOW + 301), [Arc::clone(&boot)]);
    assert!(verdict(&view, &boot, false, NOW + 361).is_ok(), "being due is not being in doubt");
    view.on_head(block(362), &nothing(), NOW + 362).unwrap();
    assert_eq!(verdict(&view, &boot, false, NOW + 362), Err(NotAdmitted::ViewTooOld { age: 61 }));
}

#[test]
fn what_was_answered_together_is_not_swept_together() {
    let mut view = View::new(ViewRules::default());
    let boots: Vec<Arc<BootInfo>> = (0..3_000_u16)
        .map(|number| {
            let mut boot = boot(7).as_ref().clone();
            // As if it were a digest.
            boot.instance_id.0[..8]
                .copy_from_slice(&u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            Arc::new(boot)
        })
        .collect();
    view.on_head(block(1), &Link::Replaces, NOW).unwrap();
    for boot in &boots {
        view.follow(boot, NOW);
        view.on_answer(boot, both(block(1), Decision::Allowed), &POLICY, NOW);
    }
    let due: Vec<usize> = (NOW + 149..=NOW + 300).map(|now| view.to_evaluate(now).len()).collect();
    assert_eq!((due.first(), due.last()), (Some(&0), Some(&boots.len())), "nobody early, and everybody in time");
    let most = due.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(most < 60, "{most} of 3000 in one of 150 seconds");
}

#[test]
fn what_waits_longest_for_a_first_answer_goes_first() {
    let (mut view, doubted) = admitted();
    let (first, second) = (boot(9), boot(1));
    view.follow(&first, NOW + 1);
    view.follow(&second, NOW + 2);
    view.on_head(block(2), &logs_of(7), NOW + 2).unwrap();
    assert_eq!(view.to_evaluate(NOW + 2), [first, second, doubted]);
}

#[test]
fn an_answer_from_another_head_is_ignored() {
    let (mut view, boot) = admitted();
    view.on_head(block(2), &logs_of(7), NOW + 2).unwrap();
    assert_eq!(view.on_answer(&boot, both(block(1), no()), &POLICY, NOW + 2), None);
    assert!(!view.is_settled(&boot));
    assert!(view.is_admitted(&boot));
}

#[test]
fn an_allowance_heard_while_the_chain_stands_still_counts_with_the_next_fresh_head() {
    let mut view = View::new(ViewRules::default());
    let boot = boot(7);
    let late = NOW + 500;
    view.follow(&boot, late);
    view.on_head(block(1), &Link::Replaces, late).unwrap();
    assert_eq!(view.on_answer(&boot, both(block(1), Decision::Allowed), &POLICY, late), None);
    assert!(!view.is_admitted(&boot));
    assert!(view.to_evaluate(late).is_empty(), "asking the same block again would not help");

    view.on_head(block(501), &nothing(), late + 1).unwrap();
    assert_eq!(view.to_evaluate(late + 1), [Arc::clone(&boot)]);
    let change = view.on_answer(&boot, both(block(501), Decision::Allowed), &POLICY, late + 1).unwrap();
    assert!(change.verdict.is_ok());
}

#[test]
fn a_stale_view_does_not_turn_an_admission_into_a_revocation() {
    let (mut view, boot) = admitted();
    view.on_head(block(2), &logs_of(7), NOW + 2_000).unwrap();
    assert_eq!(view.on_answer(&boot, both(block(2), Decision::Allowed), &POLICY, NOW + 2_000), None);
    assert!(view.is_admitted(&boot));
    assert!(matches!(verdict(&view, &boot, true, NOW + 2_000), Err(NotAdmitted::ViewTooOld { .. })));
}

#[test]
fn an_allowance_needs_its_confirmations_and_a_refusal_needs_none() {
    let mut view = View::new(ViewRules::default());
    let boot = boot(7);
    view.follow(&boot, NOW);
    view.on_head(two_above(block(10)), &Link::Replaces, NOW + 10).unwrap();
    let young = |number| Answer { block: block(number), latest: Decision::Allowed, confirmed: Some(no()) };
    for number in [10, 11] {
        assert_eq!(view.on_answer(&boot, young(number), &POLICY, NOW + number), None);
        assert_eq!(verdict(&view, &boot, false, NOW + number), Err(NotAdmitted::Unconfirmed { block: block(number) }));
        view.on_head(two_above(block(number + 1)), &nothing(), NOW + number + 1).unwrap();
        assert_eq!(view.to_evaluate(NOW + number + 1), [Arc::clone(&boot)], "it is not settled yet");
    }
    let change = view.on_answer(&boot, both(block(12), Decision::Allowed), &POLICY, NOW + 12).unwrap();
    assert!(change.verdict.is_ok());
    view.on_head(two_above(block(13)), &nothing(), NOW + 13).unwrap();
    assert!(view.to_evaluate(NOW + 13).is_empty(), "now it is");

    view.on_head(two_above(block(14)), &logs_of(7), NOW + 14).unwrap();
    let answer = Answer { block: block(14), latest: no(), confirmed: Some(Decision::Allowed) };
    let change = view.on_answer(&boot, answer, &POLICY, NOW + 14).unwrap();
    assert!(matches!(change.verdict, Err(NotAdmitted::Refused { .. })));
}

/// Plays blocks 9 to 14 to a view with two confirmations that had admitted the app 7 long before. The app's rule is
/// removed at block 10 and added again at block 11. Only the heads in `seen` are seen. Returns what each of them gave: the
/// verdict's label, and whether it was a change.
fn removed_and_added(seen: &[u64]) -> Vec<(u64, &'static str, bool)> {
    let mut view = View::new(ViewRules::default());
    let boot = boot(7);
    let says = |number| if number == 10 { no() } else { Decision::Allowed };
    let mut last = 8;
    view.follow(&boot, NOW);
    view.on_head(two_above(block(8)), &Link::Replaces, NOW + 8).unwrap();
    view.on_answer(&boot, both(block(8), Decision::Allowed), &POLICY, NOW + 8).unwrap();
    let mut verdicts = Vec::new();
    for &number in seen {
        let logged = (last + 1..=number).any(|number| number == 10 || number == 11);
        let link = if logged { logs_of(7) } else { nothing() };
        view.on_head(two_above(block(number)), &link, NOW + number).unwrap();
        last = number;
        let mut changed = false;
        if view.to_evaluate(NOW + number).contains(&boot) {
            let answer = Answer { block: block(number), latest: says(number), confirmed: Some(says(number - 2)) };
            changed = view.on_answer(&boot, answer, &POLICY, NOW + number).is_some();
        }
        let verdict = verdict(&view, &boot, view.is_admitted(&boot), NOW + number);
        verdicts.push((number, verdict.map_or_else(|reason| reason.label(), |_| "admitted"), changed));
    }
    verdicts
}

#[test]
fn a_refusal_that_was_seen_ends_an_admission_once_and_the_next_one_waits_for_all_confirmations() {
    let expected = [
        (9, "admitted", false),
        (10, "compose_hash_not_allowed", true),
        (11, "unconfirmed", false),
        (12, "unconfirmed", false),
        (13, "admitted", true),
        (14, "admitted", false),
    ];
    assert_eq!(removed_and_added(&[9, 10, 11, 12, 13, 14]), expected);
    assert_eq!(removed_and_added(&[9, 10, 12, 13]), [expected[0], expected[1], expected[3], expected[4]]);
}

#[test]
fn a_refusal_that_is_over_when_it_is_learnt_of_ends_nothing() {
    for seen in [&[9, 11, 12, 13, 14][..], &[11, 12, 13], &[12, 13, 14], &[13, 14]] {
        for (number, verdict, changed) in removed_and_added(seen) {
            assert_eq!((verdict, changed), ("admitted", false), "at block {number} of {seen:?}");
        }
    }
}

#[test]
fn a_refusal_on_a_chain_that_was_replaced_by_a_shorter_one_is_not_waited_out_above_it() {
    let mut view = View::new(ViewRules::default());
    let boot = boot(7);
    view.follow(&boot, NOW);
    view.on_head(two_above(block(100)), &Link::Replaces, NOW + 100).unwrap();
    assert_eq!(view.on_answer(&boot, both(block(100), no()), &POLICY, NOW + 100), None);
    for number in [50, 51] {
        let head = fork(number, 1);
        view.on_head(two_above(head), &Link::Replaces, NOW + number).unwrap();
        assert_eq!(view.on_answer(&boot, both(head, Decision::Allowed), &POLICY, NOW + number), None);
        assert_eq!(verdict(&view, &boot, false, NOW + number), Err(NotAdmitted::Unconfirmed { block: head }));
    }
    let head = fork(52, 1);
    view.on_head(two_above(head), &nothing(), NOW + 52).unwrap();
    let change = view.on_answer(&boot, both(head, Decision::Allowed), &POLICY, NOW + 52).unwrap();
    assert!(change.verdict.is_ok());
}

#[test]
fn without_confirmations_a_refusal_is_over_when_the_chain_says_so() {
    let (mut view, boot) = admitted();
    view.on_head(block(2), &logs_of(7), NOW + 2).unwrap();
    assert!(view.on_answer(&boot, both(block(2), no()), &POLICY, NOW + 2).unwrap().verdict.is_err());
    let sibling = fork(2, 1);
    view.on_head(sibling, &Link::Replaces, NOW + 2).unwrap();
    let change = view.on_answer(&boot, both(sibling, Decision::Allowed), &POLICY, NOW + 2).unwrap();
    assert!(change.verdict.is_ok());
}

#[test]
fn what_nobody_asks_about_is_abandoned_admitted_or_not() {
    let (mut view, admitted) = admitted();
    let (refused, kept) = (boot(8), boot(9));
    view.follow(&refused, NOW + 1);
    view.follow(&kept, NOW + 1);
    view.on_answer(&refused, both(block(1), no()), &POLICY, NOW + 1);
    assert!(view.ask(&admitted, NOW + 2));
    assert!(view.clone().ask(&kept, NOW + 500), "asking one copy counts for all");
    view.forget_abandoned(&POLICY, NOW + 901);
    assert_eq!(view.len(), 3);
    assert!(view.any_abandoned(&POLICY, NOW + 902));
    view.forget_abandoned(&POLICY, NOW + 902);
    assert_eq!([&admitted, &refused, &kept].map(|boot| view.follows(boot)), [true, false, true]);
    view.forget_abandoned(&POLICY, NOW + 903);
    assert!(!view.follows(&admitted) && view.follows(&kept) && !view.ask(&admitted, NOW + 903));
    assert_eq!(verdict(&view, &admitted, true, NOW + 903), Err(NotAdmitted::NotEvaluated));
    assert!(view.forget(&kept) && !view.forget(&kept));
}

#[test]
fn a_short_grace_abandons_nobody_who_is_asked_about_each_minute() {
    let policy = FreshnessPolicy { max_view_age: 5, view_grace: 10 };
    let (mut view, boot) = admitted();
    view.forget_abandoned(&policy, NOW + 600);
    assert!(view.follows(&boot));
    view.forget_abandoned(&policy, NOW + 601);
    assert!(!view.follows(&boot));
}

#[test]
fn room_is_made_by_those_whom_nobody_asks_about() {
    let (mut view, dead) = admitted();
    let live = boot(8);
    view.follow(&live, NOW + 60);
    view.make_room(NOW + 180);
    assert_eq!(view.len(), 2);
    view.make_room(NOW + 181);
    assert!(!view.follows(&dead) && view.follows(&live));
}

#[test]
fn asking_about_what_is_known_copies_nothing() {
    let (mut view, boot) = admitted();
    let before = view.clone();
    assert!(!view.follow(&boot, NOW + 100));
    assert!(view.ask(&boot, NOW + 200));
    view.forget_abandoned(&POLICY, NOW + 300);
    view.make_room(NOW + 300);
    assert!(before.subjects.ptr_eq(&view.subjects));
}

#[test]
fn a_clone_keeps_what_it_saw() {
    let (mut view, boot) = admitted();
    let before = view.clone();
    view.on_head(block(2), &logs_of(7), NOW + 2).unwrap();
    view.on_answer(&boot, both(block(2), no()), &POLICY, NOW + 2);
    assert!(before.is_admitted(&boot) && !view.is_admitted(&boot));
}

#[test]
fn the_chain_lets_nobody_in_whom_our_own_rules_keep_out() {
    let (view, boot) = admitted();
    let proven = Proven { boot: &boot, until: NOW + 50 };
    let other = PeerPolicy::app(AppId([8; 20]));
    let rules = |welcome: &PeerPolicy| LocalRules { welcome: welcome.clone(), freshness: POLICY };
    let unwelcome = NotAdmitted::NotWelcome(PolicyRefusal::App(AppId([7; 20])));
    let over = NotAdmitted::EvidenceExpired { until: NOW + 50 };
    for already in [false, true] {
        assert_eq!(admit(proven, &view, &rules(&other), already, NOW + 1), Err(unwelcome.clone()));
        assert_eq!(admit(proven, &view, &rules(&PeerPolicy::default()), already, NOW + 50), Err(over.clone()));
    }
    assert_eq!(standing(proven, &view, &rules(&other), NOW + 1), Err(unwelcome.clone()));
    assert_eq!(standing(proven, &view, &rules(&PeerPolicy::default()), NOW + 50), Err(over.clone()));
    let admission = standing(proven, &view, &rules(&PeerPolicy::app(AppId([7; 20]))), NOW + 49).unwrap();
    assert_eq!(admission.expires, NOW + 50, "no longer than the evidence holds");
    assert_eq!(welcome(proven, &other, NOW), Err(unwelcome.clone()));
    assert_eq!(welcome(proven, &PeerPolicy::default(), NOW + 50), Err(over.clone()));
    assert_eq!(welcome(proven, &PeerPolicy::default(), NOW + 49), Ok(()));
    assert!([unwelcome, over].iter().all(|reason| !reason.is_temporary() && !reason.is_the_chains_word()));
}

#[test]
fn without_a_confirmed_block_nobody_is_admitted_anew_and_a_refusal_still_counts() {
    let mut view = View::new(ViewRules::default());
    let boot = boot(7);
    let head = |number| Head { block: block(number), confirmed: 0 };
    let answer = |number, latest| Answer { block: block(number), latest, confirmed: None };
    view.follow(&boot, NOW);
    view.on_head(head(10), &Link::Replaces, NOW + 10).unwrap();
    assert_eq!(view.on_answer(&boot, answer(10, Decision::Allowed), &POLICY, NOW + 10), None);
    assert_eq!(verdict(&view, &boot, false, NOW + 10), Err(NotAdmitted::Unconfirmed { block: block(10) }));
    view.on_head(head(11), &logs_of(7), NOW + 11).unwrap();
    assert_eq!(view.on_answer(&boot, answer(11, no()), &POLICY, NOW + 11), None);
    assert!(matches!(verdict(&view, &boot, true, NOW + 11), Err(NotAdmitted::Refused { .. })));
}

#[test]
fn a_block_that_is_confirmed_later_than_its_head_was_seen_admits_then() {
    let mut view = View::new(ViewRules::default());
    let boot = boot(7);
    view.follow(&boot, NOW);
    view.on_head(Head { block: block(10), confirmed: 5 }, &Link::Replaces, NOW + 10).unwrap();
    let young = Answer { block: block(10), latest: Decision::Allowed, confirmed: Some(no()) };
    assert_eq!(view.on_answer(&boot, young, &POLICY, NOW + 10), None);
    view.on_confirmed(5);
    assert!(view.to_evaluate(NOW + 10).is_empty());
    view.on_confirmed(10);
    assert_eq!(view.to_evaluate(NOW + 10), [Arc::clone(&boot)]);
    let change = view.on_answer(&boot, both(block(10), Decision::Allowed), &POLICY, NOW + 10).unwrap();
    assert_eq!(change.verdict.unwrap().block, block(10));
}

#[test]
fn a_confirmed_block_that_stands_still_asks_nobody_again() {
    let mut view = View::new(ViewRules::default());
    let boot = boot(7);
    view.follow(&boot, NOW);
    view.on_head(block(10), &Link::Replaces, NOW + 10).unwrap();
    view.on_answer(&boot, both(block(10), Decision::Allowed), &POLICY, NOW + 10).unwrap();
    // The app logs something at block 11, which is confirmed when the head is block 20.
    view.on_head(Head { block: block(11), confirmed: 10 }, &logs_of(7), NOW + 11).unwrap();
    assert_eq!(view.on_answer(&boot, both(block(11), Decision::Allowed), &POLICY, NOW + 11), None);
    for number in 12..20 {
        view.on_head(Head { block: block(number), confirmed: 10 }, &nothing(), NOW + number).unwrap();
        assert!(view.to_evaluate(NOW + number).is_empty(), "at block {number}");
    }
    view.on_head(Head { block: block(20), confirmed: 16 }, &nothing(), NOW + 20).unwrap();
    assert_eq!(view.to_evaluate(NOW + 20), [Arc::clone(&boot)]);
    view.on_answer(&boot, both(block(20), Decision::Allowed), &POLICY, NOW + 20);
    view.on_head(Head { block: block(28), confirmed: 24 }, &nothing(), NOW + 28).unwrap();
    assert!(view.to_evaluate(NOW + 28).is_empty(), "now it is settled");
}

#[test]
fn every_reason_has_its_own_label_and_a_sentence() {
    let at = block(1);
    let Decision::Refused(refusal) = no() else { panic!("it refuses") };
    let reasons = [
        NotAdmitted::NotWelcome(PolicyRefusal::App(AppId([7; 20]))),
        NotAdmitted::EvidenceExpired { until: NOW },
        NotAdmitted::Refused { refusal, block: at },
        NotAdmitted::Unconfirmed { block: at },
        NotAdmitted::NotEvaluated,
        NotAdmitted::AwaitingAnswer,
        NotAdmitted::NoView,
        NotAdmitted::ViewTooOld { age: 1 },
        NotAdmitted::TooManyWorkloads,
    ];
    let labels: BTreeSet<_> = reasons.iter().map(NotAdmitted::label).collect();
    assert_eq!(labels.len(), reasons.len());
    assert!(reasons.iter().all(|reason| !reason.public().is_empty() && !reason.public().contains("0x")));
}
