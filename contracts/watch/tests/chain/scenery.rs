//! A chain with our contracts on it, and a watch that looks at it.

use std::ops::Deref;
use std::time::Duration;

use alloy::primitives::Address;
use alloy::sol_types::SolCall;
use postern_allowlist::{Admission, BootInfo, NotAdmitted, Proven, Why};
use postern_devnet::Governance;
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use postern_watch::{Change, Url, Watch, WatchConfig};
use tokio::sync::broadcast::Receiver;

/// How long anything may take before the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The OS image that the KMS contract allows.
pub(crate) const OS_IMAGE: [u8; 32] = [0x05; 32];

/// A node with a KMS contract and an app that allows any device and no compose hash yet.
pub(crate) struct Chain(Governance);

impl Deref for Chain {
    type Target = Governance;

    fn deref(&self) -> &Governance {
        &self.0
    }
}

impl Chain {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With further arguments of anvil's command line.
    pub(crate) async fn with(arguments: &[&str]) -> Self {
        Self(Governance::start(arguments, OS_IMAGE).await.unwrap())
    }

    pub(crate) async fn create_app(&self) -> Address {
        self.0.create_app().await.unwrap()
    }

    pub(crate) async fn tell_kms(&self, call: impl SolCall) -> alloy::rpc::types::TransactionReceipt {
        self.0.tell_kms(&call).await.unwrap()
    }

    pub(crate) async fn tell_app(&self, call: impl SolCall) -> u64 {
        self.0.tell_app(&call).await.unwrap().block_number.expect("it is mined")
    }

    /// Adds the compose hash made of `number`, and returns the block's height.
    pub(crate) async fn add(&self, number: u8) -> u64 {
        self.0.add([number; 32]).await.unwrap().block_number.expect("it is mined")
    }

    /// Removes it.
    pub(crate) async fn remove(&self, number: u8) -> u64 {
        self.0.remove([number; 32]).await.unwrap().block_number.expect("it is mined")
    }

    /// A workload of the app, with the compose hash made of `number`.
    pub(crate) fn boot(&self, number: u8) -> BootInfo {
        boot(self.app, number)
    }

    /// A watch through several endpoints.
    pub(crate) fn watch_through(&self, endpoints: Vec<Url>, adjust: impl FnOnce(&mut WatchConfig)) -> Watching {
        watch_through(endpoints, self.kms, adjust)
    }

    /// A watch through this node alone.
    pub(crate) fn watch(&self) -> Watching {
        self.watch_through(vec![self.anvil.url().clone()], |_| ())
    }
}

/// A watch of a KMS contract through several endpoints.
pub(crate) fn watch_through(endpoints: Vec<Url>, kms: Address, adjust: impl FnOnce(&mut WatchConfig)) -> Watching {
    let mut config = WatchConfig::new(endpoints, kms);
    config.poll_interval = Duration::from_millis(25);
    config.call_deadline = Duration::from_secs(2);
    adjust(&mut config);
    let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
    let watch = Watch::start(config, &tasks, shutdown.clone()).unwrap();
    Watching { watch, tasks, shutdown }
}

/// A workload.
pub(crate) fn boot(app: Address, number: u8) -> BootInfo {
    BootInfo {
        app_id: AppId(app.into_array()),
        compose_hash: ComposeHash([number; 32]),
        instance_id: InstanceId([1; 20]),
        device_id: DeviceId([2; 32]),
        mr_aggregated: [3; 32],
        mr_system: [4; 32],
        os_image_hash: OsImageHash(OS_IMAGE),
        tcb_status: "UpToDate".to_owned(),
        advisory_ids: vec!["INTEL-SA-00001".to_owned()],
    }
}

/// A watch that stops with its test.
pub(crate) struct Watching {
    pub(crate) watch: Watch,
    tasks: Tasks,
    shutdown: Shutdown,
}

impl Watching {
    pub(crate) async fn evaluate(&self, boot: &BootInfo) -> Result<Admission, NotAdmitted> {
        self.evaluate_within(boot, PATIENCE).await
    }

    /// The same, on evidence that does not end, within a time.
    pub(crate) async fn evaluate_within(&self, boot: &BootInfo, time: Duration) -> Result<Admission, NotAdmitted> {
        self.watch.evaluate(Proven { boot, until: u64::MAX }, time).await
    }

    /// What is known now.
    pub(crate) fn current(&self, boot: &BootInfo) -> Result<Admission, NotAdmitted> {
        self.watch.current(Proven { boot, until: u64::MAX })
    }

    /// Waits until the block at a height is the head, or is below it.
    pub(crate) async fn has_seen(&self, number: u64) {
        until("the block is seen", || self.watch.head().is_some_and(|head| head.number >= number)).await;
    }

    /// Stops, and sees that nothing is left running.
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        assert!(self.tasks.close_and_wait(PATIENCE).await.clean);
    }
}

/// The next change.
pub(crate) async fn next(changes: &mut Receiver<Change>) -> Change {
    tokio::time::timeout(PATIENCE, changes.recv()).await.expect("a verdict must change").unwrap()
}

/// The kind of a refusal by the contract.
pub(crate) fn why(verdict: &Result<Admission, NotAdmitted>) -> Why {
    match verdict {
        Err(NotAdmitted::Refused { refusal, .. }) => refusal.why,
        other => panic!("the contract must refuse, and not: {other:?}"),
    }
}

/// Waits until something is true.
pub(crate) async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_true() {
        assert!(tokio::time::Instant::now() < deadline, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
