//! A view of the chain that follows many instances.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use postern_allowlist::{BootInfo, NotAdmitted, Proven, Why};
use postern_devnet::Governance;
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use postern_watch::abi::kms::KmsAuth::{addOsImageHashCall, removeOsImageHashCall};
use postern_watch::{Change, Url, Watch, WatchConfig};
use tokio::sync::broadcast::Receiver;

use super::liar::{Manner, Node};
use super::{Part, Plan};
use crate::machine;

/// A block each second, so that the view stays fresh, and one for each transaction at once.
pub(crate) const MINING: [&str; 3] = ["--block-time=1", "--mixed-mining", "--prune-history=100"];

const OS_IMAGE: [u8; 32] = [5; 32];
const ALLOWED: [u8; 32] = [7; 32];
const FORBIDDEN: [u8; 32] = [8; 32];

/// How many instances are asked about together at first.
const TOGETHER: usize = 500;
/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the liar's answer may take behind the others'.
const HEARD: Duration = Duration::from_secs(20);

/// What was found.
#[derive(Default)]
pub(super) struct Outcome {
    /// Seconds.
    pub(super) reevaluation_s: Vec<f64>,
    /// Nanoseconds.
    pub(super) check_ns: Vec<f64>,
    /// How many in all.
    pub(super) false_admissions: Vec<f64>,
    /// What others took of the machine's processors, in percent.
    pub(super) others: Option<f64>,
}

/// Measures what the plan says about views.
pub(super) async fn measure(plan: &Plan) -> anyhow::Result<Outcome> {
    let machine = machine::Watch::start();
    let chain = Governance::start(&MINING, OS_IMAGE).await?;
    chain.add(ALLOWED).await?;
    let mut outcome = Outcome::default();
    if plan.has(&[Part::View]) {
        follow(plan, &chain, &mut outcome).await?;
    }
    if plan.has(&[Part::Liar]) {
        let mut admitted = 0.0;
        for _ in 0..plan.lies {
            admitted += lied_to(&chain, plan.followed).await?;
        }
        outcome.false_admissions.push(admitted);
    }
    outcome.others = machine.others();
    Ok(outcome)
}

/// Follows many instances while a rule that concerns them all comes and goes.
async fn follow(plan: &Plan, chain: &Governance, outcome: &mut Outcome) -> anyhow::Result<()> {
    let view = View::open(chain, vec![chain.anvil.url().clone()])?;
    let boots = boots(chain, ALLOWED, plan.followed);
    ensure!(view.evaluate(&boots).await == boots.len(), "not everybody was admitted");
    // Of those who were admitted just now, some may yet be told.
    let mut changes = view.watch.changes();
    outcome.check_ns = (0..5).map(|_| check(&view.watch, &boots, plan.checks)).collect();
    for _ in 0..plan.events {
        let started = Instant::now();
        chain.tell_kms(&removeOsImageHashCall { osImageHash: OS_IMAGE.into() }).await?;
        all_turned(&mut changes, boots.len(), false).await?;
        outcome.reevaluation_s.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        chain.tell_kms(&addOsImageHashCall { osImageHash: OS_IMAGE.into() }).await?;
        all_turned(&mut changes, boots.len(), true).await?;
        outcome.reevaluation_s.push(started.elapsed().as_secs_f64());
    }
    view.close().await;
    Ok(())
}

/// Decides about many who may not run, with a liar among three endpoints. Returns how many were admitted.
async fn lied_to(chain: &Governance, count: usize) -> anyhow::Result<f64> {
    let honest = chain.anvil.url();
    let liar = Node::start(honest, Manner::Lying).await?;
    let (one, other) = (Node::start(honest, Manner::Honest).await?, Node::start(honest, Manner::Honest).await?);
    let view = View::open(chain, vec![liar.url(), one.url(), other.url()])?;
    let boots = boots(chain, FORBIDDEN, count);
    let mut changes = view.watch.changes();
    let admitted = view.evaluate(&boots).await;
    let undecided = boots.iter().filter(|boot| !is_refused(&view.watch, boot)).count();
    ensure!(undecided == admitted, "{undecided} of {count} were not decided about");
    // Two honest answers are enough, so the liar's may come after them.
    let started = Instant::now();
    while view.watch.endpoints().first().is_none_or(|endpoint| endpoint.contradictions == 0) {
        ensure!(started.elapsed() < HEARD, "the liar was not heard");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let turned = std::iter::from_fn(|| changes.try_recv().ok()).filter(|change| change.verdict.is_ok()).count();
    view.close().await;
    Ok(count_of(admitted.max(turned)))
}

fn is_refused(watch: &Watch, boot: &BootInfo) -> bool {
    matches!(watch.current(proven(boot)), Err(NotAdmitted::Refused { refusal, .. }) if refusal.why == Why::ComposeHashNotAllowed)
}

/// The mean time of a check, in nanoseconds.
fn check(watch: &Watch, boots: &[BootInfo], checks: usize) -> f64 {
    // Far from each other, as connections to many apps would be.
    let strides = boots.iter().cycle().step_by(7_919).take(checks);
    let started = Instant::now();
    let admitted = strides.filter(|boot| watch.current(proven(boot)).is_ok()).count();
    let took = started.elapsed();
    std::hint::black_box(admitted);
    took.as_secs_f64() * 1e9 / count_of(checks)
}

/// Waits until so many were admitted, or so many refused.
async fn all_turned(changes: &mut Receiver<Change>, count: usize, admitted: bool) -> anyhow::Result<()> {
    let mut turned = 0;
    while turned < count {
        let change = tokio::time::timeout(PATIENCE, changes.recv()).await;
        let change = change.context("a verdict did not change in time")?.context("changes were missed")?;
        turned += usize::from(change.verdict.is_ok() == admitted);
    }
    Ok(())
}

struct View {
    watch: Watch,
    tasks: Tasks,
    shutdown: Shutdown,
}

impl View {
    fn open(chain: &Governance, endpoints: Vec<Url>) -> anyhow::Result<Self> {
        let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
        let mut config = WatchConfig::new(endpoints, chain.kms);
        // All of them share this machine with us, and a question that is put again is no other one.
        config.call_deadline = PATIENCE / 4;
        let watch = Watch::start(config, &tasks, shutdown.clone())?;
        Ok(Self { watch, tasks, shutdown })
    }

    /// Asks about everybody, and says how many were admitted.
    async fn evaluate(&self, boots: &[BootInfo]) -> usize {
        let mut admitted = 0;
        for boots in boots.chunks(TOGETHER) {
            let verdicts = join_all(boots.iter().map(|boot| self.watch.evaluate(proven(boot), PATIENCE))).await;
            admitted += verdicts.iter().filter(|verdict| verdict.is_ok()).count();
        }
        admitted
    }

    async fn close(self) {
        self.shutdown.trigger();
        self.tasks.close_and_wait(Duration::from_secs(5)).await;
    }
}

/// On evidence that does not end.
fn proven(boot: &BootInfo) -> Proven<'_> {
    Proven { boot, until: u64::MAX }
}

/// Instances of the app that run a composition.
fn boots(chain: &Governance, compose_hash: [u8; 32], count: usize) -> Vec<BootInfo> {
    let boot = |number: u64| {
        let mut instance = [0; 20];
        // As if it were a digest.
        let digest = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        instance.iter_mut().zip(digest.iter().cycle()).for_each(|(to, from)| *to = *from);
        BootInfo {
            app_id: AppId(chain.app.into_array()),
            compose_hash: ComposeHash(compose_hash),
            instance_id: InstanceId(instance),
            device_id: DeviceId([2; 32]),
            mr_aggregated: [3; 32],
            mr_system: [4; 32],
            os_image_hash: OsImageHash(OS_IMAGE),
            tcb_status: "UpToDate".to_owned(),
            advisory_ids: vec!["INTEL-SA-00001".to_owned()],
        }
    };
    (1..).take(count).map(boot).collect()
}

fn count_of(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}
