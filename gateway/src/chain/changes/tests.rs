use std::collections::BTreeMap;
use std::pin::pin;

use postern_allowlist::{Block, Decision, Freshness};
use postern_gateway_core::packets::PacketSizes;
use postern_gateway_core::pool::AddressPool;
use postern_gateway_core::registration::{Claim, Link, Register};
use postern_gateway_core::table::Standing;
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Tasks;
use postern_wireguard::{DEFAULT_MTU, Datapath, PrivateKey, Tunnel, TunnelConfig};
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::*;
use crate::chain::Answer;
use crate::sessions::Sessions;

/// A chain that has forgotten everybody, and what it says when it is asked to follow somebody again.
#[derive(Debug)]
struct Forgetful {
    verdicts: BTreeMap<InstanceId, Result<Admission, NotAdmitted>>,
    changes: broadcast::Sender<Change>,
}

impl Forgetful {
    /// The first is admitted, the second refused, and nothing is known about the third.
    fn new() -> Self {
        let Decision::Refused(refusal) = Decision::refused("Compose hash not allowed") else { panic!("it refuses") };
        let block = Block { number: 9, hash: [9; 32], timestamp: 9 };
        let verdicts = BTreeMap::from([
            (boot(1).instance_id, Ok(Admission { block, expires: u64::MAX })),
            (boot(2).instance_id, Err(NotAdmitted::Refused { refusal, block })),
            (boot(3).instance_id, Err(NotAdmitted::NotEvaluated)),
        ]);
        Self { verdicts, changes: broadcast::Sender::new(1) }
    }
}

impl Chain for Forgetful {
    fn evaluate<'a>(&'a self, proven: Proven<'a>, _deadline: Duration) -> Answer<'a> {
        let verdict = self.verdicts[&proven.boot.instance_id].clone();
        Box::pin(async move { verdict })
    }

    fn current(&self, _proven: Proven<'_>) -> Result<Admission, NotAdmitted> {
        Err(NotAdmitted::NotEvaluated)
    }

    fn changes(&self) -> Receiver<Change> {
        self.changes.subscribe()
    }

    fn forget(&self, _boot: &BootInfo) {}

    fn freshness(&self) -> Freshness {
        Freshness::Fresh
    }
}

fn boot(number: u8) -> Arc<BootInfo> {
    Arc::new(BootInfo {
        app_id: AppId([1; 20]),
        compose_hash: ComposeHash([2; 32]),
        instance_id: InstanceId([number; 20]),
        device_id: DeviceId([3; 32]),
        mr_aggregated: [4; 32],
        mr_system: [5; 32],
        os_image_hash: OsImageHash([6; 32]),
        tcb_status: "UpToDate".to_owned(),
        advisory_ids: Vec::new(),
    })
}

/// Members with these numbers.
async fn members(numbers: [u8; 3]) -> Members {
    let listen = "127.0.0.1:0".parse().unwrap();
    let address = "10.74.0.1".parse().unwrap();
    let config =
        TunnelConfig { private_key: PrivateKey::generate(), listen, address, mtu: DEFAULT_MTU, in_batches: false };
    let tunnel = Tunnel::start(config, Datapath::Netstack, &Tasks::new()).await.unwrap();
    let pool = AddressPool::new("10.74.0.0/16".parse().unwrap(), address).unwrap();
    let register = Register::new(pool, *tunnel.public_key().as_bytes(), PacketSizes::new(DEFAULT_MTU, []), 60);
    let members = Members::new(register, tunnel, Sessions::new(1));
    for number in numbers {
        let boot = boot(number);
        let claim = Claim {
            app: boot.app_id,
            instance: boot.instance_id,
            key: *PrivateKey::generate().public().as_bytes(),
            sidecar_port: 5433,
            ports: BTreeMap::new(),
            block: 7,
            fingerprint: [9; 32],
            evidence_until: u64::MAX,
        };
        members.register(claim, boot, (Link(number.into()), Arc::from([])), unix_now()).unwrap();
    }
    members
}

fn refused(members: &Members) -> Vec<InstanceId> {
    let snapshot = members.snapshot();
    snapshot.table.instances().filter(|at| at.standing == Standing::Refused).map(|at| at.id).collect()
}

#[tokio::test]
async fn everybody_is_asked_about_and_who_was_forgotten_is_followed_again() {
    let members = members([1, 2, 3]).await;
    let (chain, audit) = (Arc::new(Forgetful::new()), Audit::log_only());
    Follower { chain, members: members.clone(), audit, clock: Arc::new(unix_now) }.look_after().await;
    assert_eq!(refused(&members), [boot(2).instance_id], "only the chain's own word shuts anybody out");
}

#[tokio::test]
async fn everybody_is_asked_about_once_a_round_and_not_before() {
    const SECOND: Duration = Duration::from_secs(1);
    let members = members([1, 2, 3]).await;
    tokio::time::pause();
    let chain = Arc::new(Forgetful::new());
    let mut following = pin!(follow(chain, members.clone(), Audit::log_only(), Arc::new(unix_now)));
    assert!(timeout(ROUND - SECOND, &mut following).await.is_err(), "it goes on for ever");
    assert_eq!(refused(&members), [], "what changes do not tell is asked about in its turn");
    assert!(timeout(SECOND * 2, &mut following).await.is_err(), "it goes on for ever");
    assert_eq!(refused(&members), [boot(2).instance_id]);
}

/// A chain that allows everybody.
#[derive(Debug)]
struct Generous(broadcast::Sender<Change>);

fn allowed() -> Admission {
    Admission { block: Block { number: 9, hash: [9; 32], timestamp: 9 }, expires: u64::MAX }
}

impl Chain for Generous {
    fn evaluate<'a>(&'a self, proven: Proven<'a>, _deadline: Duration) -> Answer<'a> {
        Box::pin(async move { self.current(proven) })
    }

    fn current(&self, _proven: Proven<'_>) -> Result<Admission, NotAdmitted> {
        Ok(allowed())
    }

    fn changes(&self) -> Receiver<Change> {
        self.0.subscribe()
    }

    fn forget(&self, _boot: &BootInfo) {}

    fn freshness(&self) -> Freshness {
        Freshness::Fresh
    }
}

#[tokio::test]
async fn who_is_allowed_again_comes_back_by_the_clock_that_judges_its_evidence() {
    let members = members([1, 2, 3]).await;
    members.refuse(&boot(1)).unwrap();
    let again = async |now: u64| {
        let chain = Arc::new(Generous(broadcast::Sender::new(1)));
        let follower =
            Follower { chain, members: members.clone(), audit: Audit::log_only(), clock: Arc::new(move || now) };
        follower.allow(vec![(boot(1), allowed())]).await;
        refused(&members)
    };
    assert_eq!(again(u64::MAX).await, [boot(1).instance_id], "by that clock its evidence is over");
    assert_eq!(again(u64::MAX - 1).await, [], "now it is not");
}
