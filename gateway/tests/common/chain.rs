//! A chain that says what the test wants.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gateway::chain::{Answer, Chain};
use postern_allowlist::{Admission, Block, BootInfo, Decision, Freshness, NotAdmitted, Proven};
use postern_watch::Change;
use tokio::sync::broadcast;

#[derive(Debug)]
pub(crate) struct TestChain {
    verdicts: Mutex<BTreeMap<BootInfo, Result<Admission, NotAdmitted>>>,
    /// What is said about those of whom nothing was said.
    pub(crate) default: Mutex<Result<Admission, NotAdmitted>>,
    /// What is true right after the next question was answered.
    pub(crate) second_thoughts: Mutex<Option<NotAdmitted>>,
    changes: broadcast::Sender<Change>,
}

impl Default for TestChain {
    fn default() -> Self {
        Self {
            verdicts: Mutex::default(),
            default: Mutex::new(Ok(allowed(1))),
            second_thoughts: Mutex::default(),
            changes: broadcast::Sender::new(64),
        }
    }
}

pub(crate) fn block(number: u64) -> Block {
    Block { number, hash: [7; 32], timestamp: 1_800_000_000 + number }
}

pub(crate) fn allowed(number: u64) -> Admission {
    Admission { block: block(number), expires: u64::MAX }
}

pub(crate) fn refused(number: u64) -> NotAdmitted {
    match Decision::refused("Compose hash not allowed") {
        Decision::Refused(refusal) => NotAdmitted::Refused { refusal, block: block(number) },
        Decision::Allowed => unreachable!("a refusal was made"),
    }
}

impl TestChain {
    /// Changes the verdict about somebody, without a word.
    pub(crate) fn say(&self, boot: &BootInfo, verdict: Result<Admission, NotAdmitted>) {
        self.verdicts.lock().unwrap().insert(boot.clone(), verdict);
    }

    /// Changes the verdict about somebody at a block, and tells everybody.
    pub(crate) fn announce(&self, boot: &Arc<BootInfo>, verdict: Result<Admission, NotAdmitted>, number: u64) {
        self.say(boot, verdict.clone());
        let change = Change { boot: Arc::clone(boot), verdict, block: block(number), seen: Instant::now() };
        self.changes.send(change).unwrap();
    }

    /// Waits until somebody wants to hear of changes.
    pub(crate) async fn listened_to(&self) {
        while self.changes.receiver_count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How many workloads are followed.
    pub(crate) fn followed(&self) -> usize {
        self.verdicts.lock().unwrap().len()
    }
}

impl Chain for TestChain {
    fn evaluate<'a>(&'a self, proven: Proven<'a>, _deadline: Duration) -> Answer<'a> {
        let boot = proven.boot;
        let verdict = self.default.lock().unwrap().clone();
        let verdict = self.verdicts.lock().unwrap().entry(boot.clone()).or_insert(verdict).clone();
        match self.second_thoughts.lock().unwrap().take() {
            Some(NotAdmitted::NotEvaluated) => self.forget(boot),
            Some(not_admitted) => self.say(boot, Err(not_admitted)),
            None => {}
        }
        Box::pin(async move { verdict })
    }

    fn current(&self, proven: Proven<'_>) -> Result<Admission, NotAdmitted> {
        self.verdicts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(proven.boot)
            .cloned()
            .unwrap_or(Err(NotAdmitted::NotEvaluated))
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn forget(&self, boot: &BootInfo) {
        self.verdicts.lock().unwrap().remove(boot);
    }

    fn freshness(&self) -> Freshness {
        Freshness::Fresh
    }
}
