//! What a program of a world judges evidence by: rules in its configuration, or a policy that somebody signs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_identity::ComposeHash;
use postern_simulator::{Measurements, PolicySigner};
use tokio::net::TcpStream;

use crate::guest::Platform;
use crate::programs::Programs;
use crate::{Process, Recipe, State, WorldError};

const READY: Duration = Duration::from_secs(20);

/// The service from which programs fetch what Intel would say about the simulated platform.
#[derive(Debug)]
pub struct CollateralService {
    process: Process,
    address: SocketAddr,
}

impl CollateralService {
    pub(crate) async fn start(
        state: &State,
        programs: &Programs,
        platform: &Platform,
        address: SocketAddr,
    ) -> Result<Self, WorldError> {
        let recipe = Recipe::new("collateral-service", &programs.simulator).arguments([
            "collateral-service".to_owned(),
            format!("--seed-file={}", platform.seed_file().display()),
            format!("--listen={address}"),
        ]);
        let mut service = Self { process: recipe.start(state)?, address };
        let probe = async || TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string());
        service.process.ready(READY, probe).await?;
        Ok(service)
    }

    /// Where it is, as a configuration names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A signed policy on a CVM's disk, and whoever signs it.
#[derive(Debug)]
pub struct SignedPolicy {
    signer: PolicySigner,
    path: PathBuf,
    root: String,
}

impl SignedPolicy {
    /// Signs the first version, which welcomes whatever runs the simulated image.
    pub(crate) fn new(folder: &Path, platform: &Platform) -> Result<Self, WorldError> {
        let signer = PolicySigner::new(rand::random())?;
        let root = platform.tee().root_pem().to_owned();
        let policy = Self { signer, path: folder.join("policy.toml"), root };
        policy.sign(1, None)?;
        Ok(policy)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key that a configuration names.
    #[must_use]
    pub fn key(&self) -> String {
        self.signer.public_key()
    }

    /// Signs another version, that welcomes only these compositions, or any, and puts it in place.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn sign(&self, version: u64, compositions: Option<&[ComposeHash]>) -> Result<(), WorldError> {
        let image = Measurements::default();
        let [rtmr0, rtmr1, rtmr2, _] = image.rtmr;
        let compositions = compositions.map(|hashes| {
            let hashes: Vec<String> = hashes.iter().map(|hash| format!("\"{hash}\"")).collect();
            format!("compose_hashes = [{}]", hashes.join(", "))
        });
        let text = format!(
            "version = {version}\nexpires = 2100-01-01T00:00:00Z\ninsecure_root = '''{root}'''\n\n[peers]\n{peers}\n\n\
             [[cohort]]\nname = \"simulated\"\nmrtd = \"{mrtd}\"\nrtmr0 = \"{rtmr0}\"\nrtmr1 = \"{rtmr1}\"\nrtmr2 = \"{rtmr2}\"\n",
            root = self.root,
            peers = compositions.unwrap_or_default(),
            mrtd = image.mrtd,
        );
        let mut signature = self.path.clone().into_os_string();
        signature.push(".minisig");
        // The signature first: a policy under another's signature is refused, and looked at again when it changes.
        for (path, content) in
            [(PathBuf::from(signature), self.signer.sign(text.as_bytes())), (self.path.clone(), text)]
        {
            fs::write(&path, content).map_err(|error| WorldError::file(&path, error))?;
        }
        Ok(())
    }
}

/// The section `[attestation]` of a program that judges by rules in its configuration and a file with collateral.
pub(crate) fn by_file(platform: &Platform) -> String {
    format!(
        "[attestation]\nroot = \"{}\"\nkms_root = \"{}\"\ncollateral = \"{}\"\n",
        platform.root().display(),
        platform.kms_root().display(),
        platform.collateral().display()
    )
}

/// The same, with collateral from the service and a folder for what must survive restarts.
pub(crate) fn by_service(platform: &Platform, service: &CollateralService, state: &Path) -> String {
    format!(
        "[attestation]\nroot = \"{}\"\nkms_root = \"{}\"\ncollateral_urls = [\"{}\"]\nstate_dir = \"{}\"\n",
        platform.root().display(),
        platform.kms_root().display(),
        service.url(),
        state.display()
    )
}

/// The same, with the rules in a signed policy; whose certificates are accepted is still the configuration's to say.
pub(crate) fn by_policy(
    policy: &SignedPolicy,
    platform: &Platform,
    service: &CollateralService,
    state: &Path,
) -> String {
    format!(
        "[attestation]\npolicy = \"{}\"\npolicy_key = \"{}\"\nkms_root = \"{}\"\ncollateral_urls = [\"{}\"]\n\
         state_dir = \"{}\"\n",
        policy.path().display(),
        policy.key(),
        platform.kms_root().display(),
        service.url(),
        state.display()
    )
}
