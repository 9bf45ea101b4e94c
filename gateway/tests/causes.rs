//! Everything by which a chain takes an admission back, on a real node: live sessions end, the tunnel is shut, the audit trail
//! names the block, and when the chain allows it again everything comes back without a restart.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

#[cfg(test)]
mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gateway::audit::verify::Verify;
use gateway::audit::{Audit, AuditSettings};
use postern_allowlist::{BootInfo, Proven};
use postern_devnet::Governance;
use postern_identity::{AppId, ComposeHash, OsImageHash};
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::Tasks;
use postern_watch::abi::app::AppAuth::{
    addComposeHashCall, addDeviceCall, pauseCall, removeComposeHashCall, removeDeviceCall, setAllowAnyDeviceCall,
    setRequireTcbUpToDateCall, unpauseCall,
};
use postern_watch::abi::kms::KmsAuth::{
    addOsImageHashCall, deregisterAppCall, pauseCall as pauseKmsCall, registerAppCall, removeOsImageHashCall,
    unpauseCall as unpauseKmsCall,
};
use postern_watch::{Watch, WatchConfig};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

use common::chain::TestChain;
use common::hello::hello;
use common::instance::{Instance, boot};
use common::{House, PATIENCE, alert, limits, rest, session_at};

const OS_IMAGE: [u8; 32] = [6; 32];
const COMPOSE: [u8; 32] = [7; 32];

/// A gateway that follows a real chain, and an instance that the chain allows.
struct Site {
    chain: Governance,
    house: House,
    instance: Instance,
    audit: Audit,
    folder: TempDir,
    _shutdown: Shutdown,
}

impl Site {
    /// With an instance that is as `adjust` makes it.
    async fn open(adjust: impl FnOnce(&mut BootInfo)) -> Self {
        let chain = Governance::start(&["--block-time=1", "--mixed-mining"], OS_IMAGE).await.unwrap();
        chain.add(COMPOSE).await.unwrap();
        let mut config = WatchConfig::new(vec![chain.anvil.url().clone()], chain.kms);
        config.poll_interval = Duration::from_millis(50);
        let shutdown = Shutdown::new();
        let watch = Watch::start(config, &Tasks::new(), shutdown.clone()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings =
            AuditSettings { file: folder.path().join("audit.jsonl"), rotate_at: 1 << 20, sync: true, sessions: true };
        let audit = Audit::open(settings).unwrap();
        let followed = Arc::new(watch.clone());
        let house = House::on(limits(), Arc::new(TestChain::default()), followed, audit.clone()).await;
        let mut boot = BootInfo {
            app_id: AppId(chain.app.into_array()),
            compose_hash: ComposeHash(COMPOSE),
            os_image_hash: OsImageHash(OS_IMAGE),
            ..boot(1, 1)
        };
        adjust(&mut boot);
        watch.evaluate(Proven { boot: &boot, until: u64::MAX }, PATIENCE).await.unwrap();
        let instance = Instance::join_as(&house, boot).await;
        Self { chain, house, instance, audit, folder, _shutdown: shutdown }
    }

    fn name(&self) -> String {
        format!("{}s.postern.test", self.instance.boot.app_id)
    }

    fn trail(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn is_in_tunnel(&self) -> bool {
        self.house.edge.tunnel.peer(&self.instance.tunnel.public_key()).is_some()
    }

    /// The last line of the trail that tells of an event, once there is one.
    async fn line(&self, event: &str) -> Value {
        let line = async {
            loop {
                let text = std::fs::read_to_string(self.trail()).unwrap();
                let lines = text.lines().rev().map(|line| serde_json::from_str::<Value>(line).unwrap());
                if let Some(line) = lines.into_iter().find(|line| line["event"] == event) {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, line).await.expect("the trail does not tell")
    }

    /// Something happens at a block that takes the admission back for this reason.
    async fn revoked_at(&self, block: Option<u64>, reason: &str, session: &mut tokio::net::TcpStream) {
        assert_eq!(rest(session).await, b"", "the session ends");
        assert_eq!(self.house.answer_to(&hello(&self.name())).await, alert(49), "a new one is refused");
        let allowed = self.line("session").await;
        assert!(allowed["block"]["number"].as_u64() < block, "it was allowed at a block before that");
        assert_eq!(allowed["block"]["hash"].as_str().map(str::len), Some(64));
        let refused = self.line("session_refused").await;
        assert_eq!((&refused["reason"], &refused["block"]["number"]), (&reason.into(), &block.into()));
        for line in [allowed, refused] {
            assert_eq!(
                (&line["evidence"], line["connection"].as_str().map(str::len)),
                (&"09".repeat(32).into(), Some(16))
            );
        }
        let line = self.line("revoked").await;
        assert_eq!((&line["reason"], line["block"]["number"].as_u64()), (&Value::from(reason), block));
        assert_eq!((&line["sessions_cut"], &line["evidence"]), (&1.into(), &"09".repeat(32).into()));
        assert!(!self.is_in_tunnel());
    }

    /// Waits until the app is served again, and checks that the trail has said so before.
    async fn restored(&self) {
        let served = async {
            while !self.is_in_tunnel() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            session_at(self.house.clients, &self.name()).await
        };
        drop(timeout(PATIENCE, served).await.expect("the restored instance serves again"));
        self.line("restored").await;
        self.house.settle().await;
        self.audit.close().await;
        let sound = Verify { files: vec![self.trail()], ..Verify::default() }.run().unwrap();
        assert_eq!(sound.anchored, Some(sound.head.count));
    }
}

/// Takes an admission back and gives it again, by a call of each to the contract that `tell` names.
macro_rules! cause {
    ($site:expr, $tell:ident, $revoke:expr, $restore:expr, $reason:literal) => {{
        let site = $site;
        let mut session = session_at(site.house.clients, &site.name()).await;
        let receipt = site.chain.$tell(&$revoke).await.unwrap();
        site.revoked_at(receipt.block_number, $reason, &mut session).await;
        site.chain.$tell(&$restore).await.unwrap();
        site.restored().await;
    }};
}

#[tokio::test]
async fn a_removed_compose_hash() {
    let compose = COMPOSE.into();
    let (remove, add) = (removeComposeHashCall { composeHash: compose }, addComposeHashCall { composeHash: compose });
    cause!(Site::open(|_| ()).await, tell_app, remove, add, "compose_hash_not_allowed");
}

#[tokio::test]
async fn a_removed_device() {
    let site = Site::open(|_| ()).await;
    let device = site.instance.boot.device_id.0.into();
    site.chain.tell_app(&addDeviceCall { deviceId: device }).await.unwrap();
    site.chain.tell_app(&setAllowAnyDeviceCall { anyDevice: false }).await.unwrap();
    let (remove, add) = (removeDeviceCall { deviceId: device }, addDeviceCall { deviceId: device });
    cause!(site, tell_app, remove, add, "device_not_allowed");
}

#[tokio::test]
async fn any_device_no_longer_allowed() {
    let (no, yes) = (setAllowAnyDeviceCall { anyDevice: false }, setAllowAnyDeviceCall { anyDevice: true });
    cause!(Site::open(|_| ()).await, tell_app, no, yes, "device_not_allowed");
}

#[tokio::test]
async fn a_removed_os_image() {
    let image = OS_IMAGE.into();
    let (remove, add) = (removeOsImageHashCall { osImageHash: image }, addOsImageHashCall { osImageHash: image });
    cause!(Site::open(|_| ()).await, tell_kms, remove, add, "os_image_not_allowed");
}

#[tokio::test]
async fn a_tcb_requirement_that_is_switched_on() {
    let behind = |boot: &mut BootInfo| boot.tcb_status = "OutOfDate".to_owned();
    let (on, off) = (setRequireTcbUpToDateCall { upToDate: true }, setRequireTcbUpToDateCall { upToDate: false });
    cause!(Site::open(behind).await, tell_app, on, off, "tcb_not_up_to_date");
}

#[tokio::test]
async fn a_deregistered_app() {
    let site = Site::open(|_| ()).await;
    let app = site.chain.app;
    let (out, back) = (deregisterAppCall { appId: app }, registerAppCall { appId: app });
    cause!(site, tell_kms, out, back, "app_not_registered");
}

#[tokio::test]
async fn a_paused_app() {
    cause!(Site::open(|_| ()).await, tell_app, pauseCall {}, unpauseCall {}, "refused_on_chain");
}

#[tokio::test]
async fn a_paused_kms() {
    cause!(Site::open(|_| ()).await, tell_kms, pauseKmsCall {}, unpauseKmsCall {}, "refused_on_chain");
}
