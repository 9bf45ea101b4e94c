//! Simulated CVMs whose guest agents this process serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_simulator::{Cvm, agent};
use tokio::net::UnixListener;

use crate::{Platform, State, WorldError};

/// One simulated CVM and its guest agent, which is a task of this process.
#[derive(Debug)]
pub struct HostedGuest {
    folder: PathBuf,
    socket: PathBuf,
    cvm: Arc<Cvm>,
    _agent: Task<()>,
}

impl HostedGuest {
    /// Boots `compose` as the instance `folder` of an app. The folder (relative to the state folder) is the CVM's disk.
    pub(crate) fn boot(
        state: &State,
        platform: &Platform,
        folder: &str,
        app_id: AppId,
        compose: Vec<u8>,
    ) -> Result<Self, WorldError> {
        let cvm = Arc::new(Cvm::new(Arc::clone(platform.tee()), app_id, compose, folder));
        let folder = state.folder(folder)?;
        let socket = folder.join("agent.sock");
        let listener = UnixListener::bind(&socket).map_err(|error| WorldError::file(&socket, error))?;
        let serving = Arc::clone(&cvm);
        // If it ends early, whoever asks it for a quote hears so.
        let agent = Task::spawn("guest agent", async move {
            drop(agent::serve(listener, serving, unix_now, std::future::pending()).await);
        });
        Ok(Self { folder, socket, cvm, _agent: agent })
    }

    /// Its disk.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The Unix socket of its guest agent.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What runs in it.
    #[must_use]
    pub fn cvm(&self) -> &Cvm {
        &self.cvm
    }
}
