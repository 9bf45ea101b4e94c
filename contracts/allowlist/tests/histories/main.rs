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
use postern_allowlist::{BootInfo, Decision, FreshnessPolicy, View, ViewRules, admit};
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

/// A view and its model, side by side.
struct Play {
    now: u64,
    chain: Chain,
    view: View,
    model: Model,
    boots: Vec<Arc<BootInfo>>,
}

impl Play {
    fn new(confirmations: u64) -> Self {
        let rules = ViewRules { confirmations, sweep_interval: SWEEP, max_lead: 30 };
        let boots = boots();
        let (view, model) = (View::new(rules), Model::new(rules, POLICY));
        Self { now: chain::START, chain: Chain::new(), view, model, boots }
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
        self.view.on_head(block, &link, self.now).map_err(|refused| TestCaseError::fail(refused.to_string()))?;
        self.model.head(block, link, self.now);
        Ok(())
    }

    fn answer(&mut self, mask: u8) -> Result<(), TestCaseError> {
        for boot in self.view.to_evaluate(self.now) {
            let position = self.boots.iter().position(|known| *known == boot).expect("it is one of ours");
            if mask & (1 << position) == 0 {
                continue;
            }
            let head = *self.view.head().expect("there is something to evaluate");
            let answer = self.chain.ask(&head, position, self.view.rules().confirmations);
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
            let standing = postern_allowlist::standing(boot, &self.view, &POLICY, self.now);
            prop_assert_eq!(standing, self.model.verdict(boot, self.model.is_admitted(boot), self.now));
            for already in [false, true] {
                let verdict = admit(boot, &self.view, &POLICY, already, self.now);
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

    /// After as many silent blocks as an allowance has to wait, each of them seen and every question answered, the verdicts
    /// are the chain's.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..=self.view.rules().confirmations {
            self.perform(&Step::Mine { rules: Vec::new(), kms_logs: false })?;
            self.perform(&Step::Observe)?;
            self.perform(&Step::Answer { mask: u8::MAX })?;
        }
        for (position, boot) in self.boots.iter().enumerate() {
            if self.view.follows(boot) && !chain::is_silent(position) {
                let verdict = admit(boot, &self.view, &POLICY, false, self.now);
                prop_assert_eq!(verdict.is_ok(), self.allows(position), "{:?}", verdict);
            }
        }
        Ok(())
    }

    /// What the head that was seen says, and the block as far below it as is asked for.
    fn allows(&self, position: usize) -> bool {
        let head = self.view.head().expect("an admission has a head");
        let answer = self.chain.ask(head, position, self.view.rules().confirmations);
        answer.latest == Decision::Allowed && answer.confirmed == Decision::Allowed
    }
}

/// Plays a history to its end, with so many confirmations asked for.
fn play(confirmations: u64, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut play = Play::new(confirmations);
    for step in steps {
        play.perform(step)?;
    }
    play.settle()
}

// Twenty thousand histories in all: a quarter of them for each depth.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn every_history_gives_the_verdicts_of_the_slow_model(steps in vec(step(), 1..80)) {
        play(0, &steps)?;
    }

    #[test]
    fn so_it_does_with_one_confirmation(steps in vec(step(), 1..80)) {
        play(1, &steps)?;
    }

    #[test]
    fn so_it_does_with_two_confirmations(steps in vec(step(), 1..80)) {
        play(2, &steps)?;
    }

    #[test]
    fn so_it_does_with_three_confirmations(steps in vec(step(), 1..80)) {
        play(3, &steps)?;
    }
}

proptest! {
    #[test]
    fn a_silent_contract_is_found_out_by_the_sweep(steps in vec(step(), 1..60)) {
        let mut play = Play::new(0);
        for step in &steps {
            play.perform(step)?;
        }
        play.perform(&Step::Wait { seconds: SWEEP })?;
        play.settle()?;
        for position in (0..chain::BOOTS).filter(|&position| chain::is_silent(position)) {
            let boot = &play.boots[position];
            if play.view.follows(boot) {
                let verdict = admit(boot, &play.view, &POLICY, false, play.now);
                prop_assert_eq!(verdict.is_ok(), play.allows(position));
            }
        }
    }
}
