use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use postern_allowlist::{Admission, Block, BootInfo, NotAdmitted, Proven, Refusal, Why};
use postern_attest::{AppIdentity, Appraisal, PeerPolicy};
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash, Register};
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use postern_watch::{Address, Change, Watch, WatchConfig};
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::{Answer, Chain, Clients};

const BLOCK: Block = Block { number: 7, hash: [7; 32], timestamp: 7 };
const ADMITTED: Admission = Admission { block: BLOCK, expires: 100 };
const DEADLINE: Duration = Duration::from_secs(1);

/// A chain that says what it is told to say.
#[derive(Debug)]
struct Table {
    verdict: Mutex<Result<Admission, NotAdmitted>>,
    changes: broadcast::Sender<Change>,
}

impl Table {
    fn new(verdict: Result<Admission, NotAdmitted>) -> Arc<Self> {
        Arc::new(Self { verdict: Mutex::new(verdict), changes: broadcast::Sender::new(1) })
    }

    fn turn(&self, verdict: Result<Admission, NotAdmitted>) {
        *self.verdict.lock().unwrap() = verdict.clone();
        let boot = Arc::new(BootInfo::from(&peer()));
        self.changes.send(Change { boot, verdict, block: BLOCK, seen: Instant::now() }).unwrap();
    }
}

impl Chain for Table {
    fn evaluate<'a>(&'a self, proven: Proven<'a>, _: Duration) -> Answer<'a> {
        Box::pin(async move { self.current(proven) })
    }

    fn current(&self, proven: Proven<'_>) -> Result<Admission, NotAdmitted> {
        assert_eq!(proven.boot.app_id, AppId([1; 20]));
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

fn refused() -> NotAdmitted {
    NotAdmitted::Refused { refusal: Refusal { why: Why::ComposeHashNotAllowed, text: String::new() }, block: BLOCK }
}

pub(in crate::serve) fn peer() -> Appraisal {
    Appraisal {
        identity: AppIdentity {
            app_id: AppId([1; 20]),
            compose_hash: ComposeHash([2; 32]),
            instance_id: InstanceId([3; 20]),
            os_image_hash: Some(OsImageHash([4; 32])),
            key_provider: Vec::new(),
        },
        device_id: DeviceId([5; 32]),
        mrtd: Register([6; 48]),
        rtmr: [Register([7; 48]); 4],
        mr_aggregated: [8; 32],
        mr_system: [9; 32],
        tcb_status: "UpToDate".to_owned(),
        advisory_ids: Vec::new(),
        fingerprint: [10; 32],
        valid_until: 100,
    }
}

fn anybody(chain: &Arc<Table>) -> Clients {
    Clients::new(PeerPolicy::default(), Some(Arc::clone(chain) as Arc<dyn Chain>), Arc::new(|| 99))
}

#[tokio::test]
async fn the_chain_has_a_say_about_attested_clients() {
    assert!(anybody(&Table::new(Ok(ADMITTED))).check(Some(&peer()), DEADLINE).await.is_ok());
    let no = anybody(&Table::new(Err(refused()))).check(Some(&peer()), DEADLINE).await.unwrap_err();
    assert!(!no.is_temporary());
    let unknown = anybody(&Table::new(Err(NotAdmitted::NoView))).check(Some(&peer()), DEADLINE).await.unwrap_err();
    assert!(unknown.is_temporary(), "nobody has judged the client");
    assert!(anybody(&Table::new(Err(refused()))).check(None, DEADLINE).await.is_ok(), "let in by configuration");
}

#[tokio::test]
async fn without_a_chain_the_configuration_and_the_evidence_have_their_say() {
    let policy = PeerPolicy { apps: Some(BTreeSet::from([AppId([9; 20])])), ..PeerPolicy::default() };
    let refused = Clients::new(policy, None, Arc::new(|| 99)).check(Some(&peer()), DEADLINE).await.unwrap_err();
    assert_eq!(refused.label(), "app_not_expected");
    let check = async |now: u64| {
        Clients::new(PeerPolicy::default(), None, Arc::new(move || now)).check(Some(&peer()), DEADLINE).await
    };
    assert_eq!(check(99).await, Ok(()));
    assert_eq!(check(100).await, Err(NotAdmitted::EvidenceExpired { until: 100 }));
}

#[tokio::test(start_paused = true)]
async fn only_the_chains_word_ends_a_session() {
    let chain = Table::new(Ok(ADMITTED));
    let clients = anybody(&chain);
    let peer = peer();
    let mut revoked = std::pin::pin!(clients.revoked(Some(&peer)));
    let mut ended = async || timeout(DEADLINE, revoked.as_mut()).await.is_ok();
    assert!(!ended().await);
    chain.turn(Err(NotAdmitted::NoView));
    assert!(!ended().await, "that too little is known is no revocation");
    chain.turn(Ok(ADMITTED));
    // One change more than the channel holds: it must not be missed that the chain said no.
    chain.turn(Err(refused()));
    assert!(ended().await);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_between_admission_and_session_is_seen() {
    let clients = anybody(&Table::new(Err(refused())));
    assert!(timeout(DEADLINE, clients.revoked(Some(&peer()))).await.is_ok());
    let none = Clients::new(PeerPolicy::default(), None, Arc::new(|| 99));
    assert!(timeout(DEADLINE, none.revoked(Some(&peer()))).await.is_err());
}

/// The runtime's time, which the test lets pass at once.
fn clock() -> u64 {
    static START: OnceLock<tokio::time::Instant> = OnceLock::new();
    1_000_000 + START.get_or_init(tokio::time::Instant::now).elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn the_chain_is_watched_for_a_client_for_as_long_as_it_is_connected() {
    let mut config = WatchConfig::new(vec!["http://127.0.0.1:1".parse().unwrap()], Address::ZERO);
    (config.clock, config.poll_interval) = (Arc::new(clock), Duration::from_secs(5));
    let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
    let watch = Watch::start(config, &tasks, shutdown.clone()).unwrap();
    let clients = Clients::new(PeerPolicy::default(), Some(Arc::new(watch.clone())), Arc::new(clock));
    let peer = Appraisal { valid_until: u64::MAX, ..peer() };
    assert!(clients.check(Some(&peer), Duration::ZERO).await.is_err(), "nobody answers");

    let hours = Duration::from_secs(2 * 3_600);
    assert!(timeout(hours, clients.revoked(Some(&peer))).await.is_err(), "not knowing is no revocation");
    assert_eq!(watch.workloads(), 1);
    tokio::time::sleep(hours).await;
    assert_eq!(watch.workloads(), 0, "it is gone, and nobody asks");
    shutdown.trigger();
}
