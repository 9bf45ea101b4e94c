//! Random histories of a chain, played to a view and to a slow, obvious model that only ever looks back over all that
//! happened. Both must give the same verdicts, and neither may admit what the chain forbids.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that finds its own scenery broken should stop"
)]

mod chain;
mod model;

use std::sync::Arc;

use chain::{Chain, boots};
use model::Model;
use postern_allowlist::{
    Admission, BootInfo, Decision, FreshnessPolicy, Head, LocalRules, NotAdmitted, Proven, View, ViewRules, admit,
    standing,
};
use proptest::collection::vec;
use proptest::prelude::*;

const POLICY: FreshnessPolicy = FreshnessPolicy { max_view_age: 60, view_grace: 300 };
const SWEEP: u64 = 100;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A block: what it sets for which app, and whether the KMS contract logs something.
    Mine { rules: Vec<(usize, bool)>, kms_logs: bool },
    /// The chain loses its last blocks.
    Rollback { depth: usize },
    /// Time passes without a block.
    Wait { seconds: u64 },
    /// A quorum agrees on the head.
    Observe,
    /// The contract answers for those workloads that are due and in the mask.
    Answer { mask: u8 },
    /// Somebody asks about a workload.
    Follow { boot: usize },
    /// Nobody wants to know about it any more.
    Forget { boot: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (vec((0..chain::APPS, any::<bool>()), 0..3), prop::bool::weighted(0.1))
            .prop_map(|(rules, kms_logs)| Step::Mine { rules, kms_logs }),
        1 => (1..6_usize).prop_map(|depth| Step::Rollback { depth }),
        2 => prop_oneof![1..5_u64, 30..400_u64].prop_map(|seconds| Step::Wait { seconds }),
        6 => Just(Step::Observe),
        5 => prop_oneof![Just(u8::MAX), any::<u8>()].prop_map(|mask| Step::Answer { mask }),
        3 => (0..chain::BOOTS).prop_map(|boot| Step::Follow { boot }),
        1 => (0..chain::BOOTS).prop_map(|boot| Step::Forget { boot }),
    ]
}

/// How far below a head the chain is confirmed: the height of the confirmed block by that of the head.
type Confirmed = fn(u64) -> u64;

/// A view and its model, side by side.
struct Play {
    now: u64,
    confirmed: Confirmed,
    chain: Chain,
    view: View,
    model: Model,
    boots: Vec<Arc<BootInfo>>,
}

impl Play {
    fn new(confirmed: Confirmed) -> Self {
        let rules = ViewRules { sweep_interval: SWEEP, max_lead: 30 };
        let boots = boots();
        let (view, model) = (View::new(rules), Model::new(rules, POLICY));
        Self { now: chain::START, confirmed, chain: Chain::new(), view, model, boots }
    }

    fn perform(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Mine { rules, kms_logs } => {
                self.now += 2;
                self.chain.mine(rules, *kms_logs, self.now);
            }
            Step::Rollback { depth } => self.chain.rollback(*depth),
            Step::Wait { seconds } => self.now += seconds,
            Step::Observe => self.observe()?,
            Step::Answer { mask } => self.answer(*mask)?,
            Step::Follow { boot } => {
                self.view.follow(&self.boots[*boot], self.now);
                self.model.follow(&self.boots[*boot]);
            }
            Step::Forget { boot } => {
                self.view.forget(&self.boots[*boot]);
                self.model.forget(&self.boots[*boot]);
            }
        }
        self.compare()
    }

    fn observe(&mut self) -> Result<(), TestCaseError> {
        let (block, link) = self.chain.observe(self.view.head());
        let head = Head { block, confirmed: (self.confirmed)(block.number) };
        self.view.on_head(head, &link, self.now).map_err(|refused| TestCaseError::fail(refused.to_string()))?;
        self.model.head(head, link, self.now);
        Ok(())
    }

    fn answer(&mut self, mask: u8) -> Result<(), TestCaseError> {
        for boot in self.view.to_evaluate(self.now) {
            let position = self.boots.iter().position(|known| *known == boot).expect("it is one of ours");
            if mask & (1 << position) == 0 {
                continue;
            }
            let head = *self.view.head().expect("there is something to evaluate");
            let answer = self.chain.ask(&head, position, (self.confirmed)(head.number));
            let change = self.view.on_answer(&boot, answer.clone(), &POLICY, self.now);
            if change.as_ref().is_some_and(|change| change.verdict.is_err()) {
                prop_assert!(answer.latest != Decision::Allowed, "only a refusal at the head ends an admission");
            }
            let expected = self.model.answer(&boot, answer, self.now);
            prop_assert_eq!(change.map(|change| change.verdict), expected);
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        let due = self.view.to_evaluate(self.now);
        for (position, boot) in self.boots.iter().enumerate() {
            prop_assert_eq!(self.view.is_admitted(boot), self.model.is_admitted(boot));
            prop_assert_eq!(due.contains(boot), self.model.is_due(boot, self.now));
            let standing = standing(Proven { boot, until: u64::MAX }, &self.view, &rules(), self.now);
            prop_assert_eq!(standing, self.model.verdict(boot, self.model.is_admitted(boot), self.now));
            for already in [false, true] {
                let verdict = self.verdict(boot, already);
                prop_assert_eq!(
                    &verdict,
                    &self.model.verdict(boot, already, self.now),
                    "already admitted: {}",
                    already
                );
                // What logs its changes is never admitted anew against the word of the head that was seen.
                if verdict.is_ok() && !already && !chain::is_silent(position) {
                    prop_assert!(self.allows(position), "{:?} at {:?}", boot.app_id, self.view.head());
                }
            }
        }
        Ok(())
    }

    /// After as many silent blocks as it takes to confirm what happened, each of them seen and every question answered, the
    /// verdicts are the chain's.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        // The next head may be the first that shows what happened.
        let change = self.chain.height() + 1;
        loop {
            self.perform(&Step::Mine { rules: Vec::new(), kms_logs: false })?;
            self.perform(&Step::Observe)?;
            self.perform(&Step::Answer { mask: u8::MAX })?;
            if (self.confirmed)(self.chain.height()) >= change {
                break;
            }
        }
        for (position, boot) in self.boots.iter().enumerate() {
            if self.view.follows(boot) && !chain::is_silent(position) {
                let verdict = self.verdict(boot, false);
                prop_assert_eq!(verdict.is_ok(), self.allows(position), "{:?}", verdict);
            }
        }
        Ok(())
    }

    /// What the head that was seen says, and the block as far below it as is asked for.
    fn allows(&self, position: usize) -> bool {
        let head = self.view.head().expect("an admission has a head");
        let answer = self.chain.ask(head, position, (self.confirmed)(head.number));
        answer.latest == Decision::Allowed && answer.confirmed == Some(Decision::Allowed)
    }

    fn verdict(&self, boot: &BootInfo, already: bool) -> Result<Admission, NotAdmitted> {
        admit(Proven { boot, until: u64::MAX }, &self.view, &rules(), already, self.now)
    }
}

fn rules() -> LocalRules {
    LocalRules { freshness: POLICY, ..LocalRules::default() }
}

/// Plays a history to its end.
fn play(confirmed: Confirmed, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut play = Play::new(confirmed);
    for step in steps {
        play.perform(step)?;
    }
    play.settle()
}

// Twenty-five thousand histories in all: a fifth of them for each way to confirm a block.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn every_history_gives_the_verdicts_of_the_slow_model(steps in vec(step(), 1..80)) {
        play(|head| head, &steps)?;
    }

    #[test]
    fn so_it_does_with_one_confirmation(steps in vec(step(), 1..80)) {
        play(|head| head.saturating_sub(1), &steps)?;
    }

    #[test]
    fn so_it_does_with_two_confirmations(steps in vec(step(), 1..80)) {
        play(|head| head.saturating_sub(2), &steps)?;
    }

    #[test]
    fn so_it_does_with_three_confirmations(steps in vec(step(), 1..80)) {
        play(|head| head.saturating_sub(3), &steps)?;
    }

    /// As a tag moves: by several blocks at once, and then not for a while.
    #[test]
    fn so_it_does_where_blocks_are_confirmed_four_at_a_time(steps in vec(step(), 1..80)) {
        play(|head| (head / 4 * 4).saturating_sub(4), &steps)?;
    }
}

proptest! {
    #[test]
    fn a_silent_contract_is_found_out_by_the_sweep(steps in vec(step(), 1..60)) {
        let mut play = Play::new(|head| head);
        for step in &steps {
            play.perform(step)?;
        }
        play.perform(&Step::Wait { seconds: SWEEP })?;
        play.settle()?;
        for position in (0..chain::BOOTS).filter(|&position| chain::is_silent(position)) {
            let boot = &play.boots[position];
            if play.view.follows(boot) {
                let verdict = play.verdict(boot, false);
                prop_assert_eq!(verdict.is_ok(), play.allows(position));
            }
        }
    }
}
