//! Simulated CVMs: one platform, and a guest agent per CVM.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_simulator::{Cvm, Measurements, Tee};
use tokio::net::UnixStream;

use crate::groundwork::Foundation;
use crate::{Process, Recipe, State, WorldError};

const READY: Duration = Duration::from_secs(20);

/// The simulated platform on which all CVMs of a world run.
#[derive(Debug)]
pub struct Platform {
    tee: Arc<Tee>,
    seed_file: PathBuf,
    root: PathBuf,
    kms_root: PathBuf,
    collateral: PathBuf,
}

impl Platform {
    /// A platform with a new root, whose files lie in `tee/`.
    pub(crate) fn new(state: &State) -> Result<Self, WorldError> {
        let seed: [u8; 32] = rand::random();
        let tee = Arc::new(Tee::new(seed)?);
        Ok(Self {
            seed_file: state.write("tee/seed", hex::encode(seed))?,
            root: state.write("tee/root.pem", tee.root_pem())?,
            kms_root: state.write("tee/kms-root.pem", tee.kms_root_pem())?,
            collateral: state.write("tee/collateral.json", tee.collateral_bundle_json(unix_now())?)?,
            tee,
        })
    }

    /// The platform itself, to make further CVMs on.
    #[must_use]
    pub fn tee(&self) -> &Arc<Tee> {
        &self.tee
    }

    pub(crate) fn seed_file(&self) -> &Path {
        &self.seed_file
    }

    /// The file with the root certificate that takes the place of Intel's.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file with the root certificate of the simulated KMS, which issues what guest agents hand out.
    #[must_use]
    pub fn kms_root(&self) -> &Path {
        &self.kms_root
    }

    /// The file with the collateral.
    #[must_use]
    pub fn collateral(&self) -> &Path {
        &self.collateral
    }
}

/// One simulated CVM and its guest agent.
#[derive(Debug)]
pub struct Guest {
    name: String,
    folder: PathBuf,
    cvm: Cvm,
    agent: Process,
    socket: PathBuf,
}

impl Guest {
    /// Boots `compose` as an instance of `app_id`. The folder (relative to the state folder) is the CVM's disk.
    pub(crate) async fn boot(
        foundation: Foundation<'_>,
        folder: &str,
        app_id: AppId,
        compose: Vec<u8>,
        measurements: Measurements,
    ) -> Result<Self, WorldError> {
        let Foundation { state, programs, platform, .. } = foundation;
        let name = folder.replace('/', "-");
        let compose_file = state.write(Path::new(folder).join("app-compose.json"), &compose)?;
        let socket = state.path(folder).join("agent.sock");
        let mut recipe = Recipe::new(format!("{name}-agent"), &programs.simulator).arguments([
            "agent".to_owned(),
            format!("--seed-file={}", platform.seed_file.display()),
            format!("--app-id={app_id}"),
            format!("--compose={}", compose_file.display()),
            format!("--instance={name}"),
            format!("--socket={}", socket.display()),
        ]);
        if measurements.debug {
            recipe = recipe.arguments(["--debug-td"]);
        }
        let mut agent = recipe.start(state)?;
        let probe = async || UnixStream::connect(&socket).await.map(drop).map_err(|error| error.to_string());
        agent.ready(READY, probe).await?;
        let cvm = Cvm::with_measurements(Arc::clone(platform.tee()), app_id, compose, &name, measurements);
        Ok(Self { folder: state.path(folder), name, cvm, agent, socket })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its disk.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What runs in it. The simulator is deterministic, so this value makes the same quotes and keys as the agent.
    #[must_use]
    pub fn cvm(&self) -> &Cvm {
        &self.cvm
    }

    /// The Unix socket of its guest agent.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The file that it booted.
    #[must_use]
    pub fn compose_file(&self) -> PathBuf {
        self.folder.join("app-compose.json")
    }

    /// The guest agent's process.
    pub fn agent(&mut self) -> &mut Process {
        &mut self.agent
    }
}
