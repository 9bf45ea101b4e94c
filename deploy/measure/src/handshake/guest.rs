//! Simulated CVMs, and those who judge them.

use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Appraiser, Collateral, TcbPolicy, TrustRoot};
use postern_attest_io::agent::AgentEndpoint;
use postern_attest_io::{Attestor, GuestAgent, Identity, IdentityKeeper};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_simulator::{Cvm, Tee, agent};
use tokio::net::UnixListener;

/// The application that serves.
pub(super) const SERVER: AppId = AppId([0x5e; 20]);

/// The application that connects.
pub(super) const CLIENT: AppId = AppId([0xc1; 20]);

/// The name that clients ask for.
pub(super) const NAME: &str = "db.postern.test";

/// The protocol that both sides speak.
pub(super) const ALPN: &[&str] = &["postgresql"];

/// For how long certificates are valid: longer than any run.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// How long a guest agent may take for a quote.
const AGENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The platform on which all guests run, and which everybody trusts.
pub(super) struct Platform {
    tee: Arc<Tee>,
    collateral: Collateral,
}

impl Platform {
    pub(super) fn new() -> anyhow::Result<Self> {
        let tee = Tee::new([7; 32])?;
        let collateral = Collateral::from_json(tee.collateral_bundle_json(unix_now())?.as_bytes())?;
        Ok(Self { tee: Arc::new(tee), collateral })
    }

    /// What every attestor knows about the platform.
    pub(super) fn collateral(&self) -> Collateral {
        self.collateral.clone()
    }

    /// A judge who remembers nobody yet.
    pub(super) fn attestor(&self) -> anyhow::Result<Arc<Attestor>> {
        let root = TrustRoot::from_der(self.tee.root_der().to_vec())?;
        Ok(Attestor::new(Appraiser::new(root, TcbPolicy::default()), self.collateral()))
    }
}

/// A CVM whose guest agent answers for as long as this value lives.
pub(super) struct Guest {
    agent: GuestAgent,
    _serving: Task<()>,
    _folder: tempfile::TempDir,
}

impl Guest {
    pub(super) fn start(platform: &Platform, app: AppId) -> anyhow::Result<Self> {
        let cvm = Arc::new(Cvm::new(Arc::clone(&platform.tee), app, br#"{"name":"db"}"#.to_vec(), "one"));
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("dstack.sock");
        let listener = UnixListener::bind(&path)?;
        // If it ends early, whoever asks for a quote hears so.
        let serving =
            Task::spawn(
                "agent",
                async move { drop(agent::serve(listener, cvm, unix_now, std::future::pending()).await) },
            );
        Ok(Self {
            agent: GuestAgent::new(AgentEndpoint::Unix(path), AGENT_TIMEOUT),
            _serving: serving,
            _folder: folder,
        })
    }

    /// A fresh key with its certificate, as a sidecar issues it.
    pub(super) async fn identity(&self) -> anyhow::Result<Arc<IdentityKeeper>> {
        Ok(IdentityKeeper::of(Identity::issue(&self.agent, &[NAME.to_owned()], VALIDITY).await?))
    }
}
