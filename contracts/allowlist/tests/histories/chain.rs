//! A chain whose every block is kept, also those that a reorganisation took away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use postern_allowlist::{Answer, Block, BootInfo, Decision, Link};
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};

/// When the first block was made.
pub(crate) const START: u64 = 1_000_000;
/// How many apps there are. The last one keeps its rules in a contract elsewhere, so that its changes log nothing here.
pub(crate) const APPS: usize = 3;
/// How many workloads there are: two of each app.
pub(crate) const BOOTS: usize = 2 * APPS;

/// Whether a workload's app is the one whose changes log nothing.
pub(crate) const fn is_silent(boot: usize) -> bool {
    boot / 2 == APPS - 1
}

/// Every workload.
pub(crate) fn boots() -> Vec<Arc<BootInfo>> {
    let boot = |position: u8| BootInfo {
        app_id: AppId([position / 2; 20]),
        compose_hash: ComposeHash([1; 32]),
        instance_id: InstanceId([position; 20]),
        device_id: DeviceId([2; 32]),
        mr_aggregated: [3; 32],
        mr_system: [4; 32],
        os_image_hash: OsImageHash([5; 32]),
        tcb_status: "UpToDate".to_owned(),
        advisory_ids: Vec::new(),
    };
    (0..BOOTS).map(|position| Arc::new(boot(u8::try_from(position).unwrap()))).collect()
}

#[derive(Clone)]
struct Mined {
    block: Block,
    parent: [u8; 32],
    allowed: [bool; APPS],
    logged: BTreeSet<AppId>,
    kms_logged: bool,
}

/// The blocks ever made, and the hash of the last one that counts.
pub(crate) struct Chain {
    made: BTreeMap<[u8; 32], Mined>,
    tip: [u8; 32],
    counter: u64,
}

impl Chain {
    pub(crate) fn new() -> Self {
        let block = Block { number: 0, hash: [0; 32], timestamp: START };
        let logged = BTreeSet::new();
        let genesis = Mined { block, parent: [0; 32], allowed: [false; APPS], logged, kms_logged: false };
        Self { made: [([0; 32], genesis)].into(), tip: [0; 32], counter: 0 }
    }

    pub(crate) fn mine(&mut self, rules: &[(usize, bool)], kms_logged: bool, timestamp: u64) {
        self.counter += 1;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&self.counter.to_be_bytes());
        let parent = self.made[&self.tip].clone();
        let mut mined = Mined {
            block: Block { number: parent.block.number + 1, hash, timestamp },
            parent: self.tip,
            logged: BTreeSet::new(),
            kms_logged,
            ..parent
        };
        for &(app, allow) in rules {
            mined.allowed[app] = allow;
            if app != APPS - 1 {
                mined.logged.insert(AppId([u8::try_from(app).unwrap(); 20]));
            }
        }
        self.made.insert(hash, mined);
        self.tip = hash;
    }

    pub(crate) fn rollback(&mut self, depth: usize) {
        for _ in 0..depth {
            self.tip = self.made[&self.tip].parent;
        }
    }

    /// The tip, and how it follows the head that was seen before.
    pub(crate) fn observe(&self, seen: Option<&Block>) -> (Block, Link) {
        let tip = &self.made[&self.tip];
        let (mut apps, mut kms) = (BTreeSet::new(), false);
        let mut at = tip;
        while seen.is_some_and(|seen| at.block.hash != seen.hash) && at.block.number > 0 {
            apps.extend(at.logged.iter().copied());
            kms |= at.kms_logged;
            at = &self.made[&at.parent];
        }
        let descends = seen.is_some_and(|seen| at.block.hash == seen.hash);
        let link = match (descends, kms) {
            (false, _) => Link::Replaces,
            (true, true) => Link::ExtendsWithNewRules,
            (true, false) => Link::Extends(apps),
        };
        (tip.block, link)
    }

    /// How long it is now.
    pub(crate) fn height(&self) -> u64 {
        self.made[&self.tip].block.number
    }

    /// What the contract says about a workload at a head, and at the confirmed block below it.
    pub(crate) fn ask(&self, head: &Block, boot: usize, confirmed_at: u64) -> Answer {
        let latest = &self.made[&head.hash];
        let mut confirmed = latest;
        while confirmed.block.number > confirmed_at {
            confirmed = &self.made[&confirmed.parent];
        }
        let decision = |mined: &Mined| {
            if mined.allowed[boot / 2] { Decision::Allowed } else { Decision::refused("Compose hash not allowed") }
        };
        Answer { block: *head, latest: decision(latest), confirmed: Some(decision(confirmed)) }
    }
}
