//! Simulated CVMs, and those who judge them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Appraiser, Collateral, TcbPolicy, TrustRoot};
use postern_attest_io::agent::AgentEndpoint;
use postern_attest_io::{Attestor, GuestAgent, Identity, IdentityKeeper};
use postern_identity::{AppId, ComposeHash};
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_simulator::{Cvm, Tee, agent};
use tokio::net::UnixListener;

/// The application that serves.
pub(crate) const SERVER: AppId = AppId([0x5e; 20]);

/// The application that connects.
pub(crate) const CLIENT: AppId = AppId([0xc1; 20]);

/// The name that clients ask for.
pub(crate) const NAME: &str = "db.postern.test";

/// The protocol that both sides speak.
pub(crate) const ALPN: &[&str] = &["postgresql"];

/// For how long certificates are valid: longer than any run.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// How long a guest agent may take for a quote.
const AGENT_TIMEOUT: Duration = Duration::from_secs(30);

/// What guests run.
pub(crate) const COMPOSE: &[u8] = br#"{"name":"db"}"#;

/// The platform on which all guests run, and which everybody trusts.
pub(crate) struct Platform {
    tee: Arc<Tee>,
    collateral: Collateral,
}

impl Platform {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let tee = Tee::new([7; 32])?;
        let collateral = Collateral::from_json(tee.collateral_bundle_json(unix_now())?.as_bytes())?;
        Ok(Self { tee: Arc::new(tee), collateral })
    }

    /// The hash of what an app runs, as the platform measures it.
    pub(crate) fn compose_hash(&self, compose: &[u8]) -> ComposeHash {
        Cvm::new(Arc::clone(&self.tee), SERVER, compose.to_vec(), "one").compose_hash()
    }

    /// What every attestor knows about the platform.
    pub(crate) fn collateral(&self) -> Collateral {
        self.collateral.clone()
    }

    /// The same as a file holds it.
    pub(crate) fn collateral_json(&self) -> anyhow::Result<String> {
        Ok(self.tee.collateral_bundle_json(unix_now())?)
    }

    /// The root under which its quotes are signed.
    pub(crate) fn root_pem(&self) -> &str {
        self.tee.root_pem()
    }

    /// A judge who remembers nobody yet.
    pub(crate) fn attestor(&self) -> anyhow::Result<Arc<Attestor>> {
        let root = TrustRoot::from_der(self.tee.root_der().to_vec())?;
        Ok(Attestor::new(Appraiser::new(root, TcbPolicy::default()), self.collateral()))
    }
}

/// A CVM whose guest agent answers for as long as this value lives.
pub(crate) struct Guest {
    agent: GuestAgent,
    socket: PathBuf,
    _serving: Task<()>,
    _folder: tempfile::TempDir,
}

impl Guest {
    pub(crate) fn start(platform: &Platform, app: AppId) -> anyhow::Result<Self> {
        Self::run(platform, app, COMPOSE, "one")
    }

    /// One instance of an app, with what it runs.
    pub(crate) fn run(platform: &Platform, app: AppId, compose: &[u8], instance: &str) -> anyhow::Result<Self> {
        let cvm = Arc::new(Cvm::new(Arc::clone(&platform.tee), app, compose.to_vec(), instance));
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
            agent: GuestAgent::new(AgentEndpoint::Unix(path.clone()), AGENT_TIMEOUT),
            socket: path,
            _serving: serving,
            _folder: folder,
        })
    }

    /// Where its guest agent answers.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A fresh key with its certificate, as a sidecar issues it.
    pub(crate) async fn identity(&self) -> anyhow::Result<Arc<IdentityKeeper>> {
        Ok(IdentityKeeper::of(Identity::issue(&self.agent, &[NAME.to_owned()], VALIDITY).await?))
    }
}
