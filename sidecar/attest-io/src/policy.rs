use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_attest::policy::{MAX_POLICY_BYTES, MAX_SIGNATURE_BYTES, Policy, PolicyError, PolicyKey, PolicyMark};
use postern_plumbing::tasks::Tasks;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::attestor::{Attestor, Clock};
use crate::durable;

const MAX_MARK_BYTES: usize = 1024;

/// Where a signed policy lies.
#[derive(Clone, Debug)]
pub struct PolicyFiles {
    /// The document.
    pub policy: PathBuf,
    /// Its signature, minisign's `policy.toml.minisig`.
    pub signature: PathBuf,
    /// Who signs it.
    pub key: PolicyKey,
    /// Where the mark of the newest policy is kept, in a folder that survives restarts. Without the mark, any policy that
    /// was ever signed and has not expired counts.
    pub mark: PathBuf,
}

/// Where minisign puts the signature of a file.
#[must_use]
pub fn signature_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}

/// Why a policy is not put in force. The last good one stays.
#[derive(Debug, thiserror::Error)]
pub enum PolicyLoadError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The mark is not one.
    #[error(
        "{path} does not hold the mark of a policy; if it was damaged, remove it, and any policy counts again: {detail}"
    )]
    Mark {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The policy is not good.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The reading broke off.
    #[error("the reading of the policy broke off")]
    BrokeOff,
}

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The files are as they were.
    Unchanged,
    /// Another policy is in force.
    Replaced,
}

/// Keeps the policy in force: loads it at start, looks for a new one now and then, and keeps the last good one.
pub struct PolicyKeeper {
    files: PolicyFiles,
    clock: Clock,
    current: watch::Sender<Arc<Policy>>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// SHA-256 of both files as they were judged last.
    files: [u8; 32],
    mark: PolicyMark,
}

impl PolicyKeeper {
    /// Loads the policy and, as a task of `tasks`, looks for another one every `poll`.
    ///
    /// # Errors
    /// When there is no good policy: nobody can be judged without one.
    pub async fn start(
        files: PolicyFiles,
        clock: Clock,
        poll: Duration,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, PolicyLoadError> {
        let keeper = Arc::new(blocking(move || Self::open(files, clock)).await?);
        let polling = Arc::clone(&keeper);
        tasks.spawn("policy", async move {
            loop {
                tokio::time::sleep(poll).await;
                if let Err(error) = polling.reload().await {
                    tracing::error!(%error, "the new policy is not good; the last good one stays");
                }
            }
        });
        Ok(keeper)
    }

    /// Looks whether the policy would be put in force at `now`, and leaves everything as it is.
    ///
    /// # Errors
    /// When it would not.
    pub fn check(files: &PolicyFiles, now: u64) -> Result<Policy, PolicyLoadError> {
        let (text, signature, _) = read_files(files)?;
        Ok(Policy::verify(&text, &signature, &files.key, read_mark(files)?, now)?)
    }

    fn open(files: PolicyFiles, clock: Clock) -> Result<Self, PolicyLoadError> {
        let last = read_mark(&files)?;
        let (text, signature, digest) = read_files(&files)?;
        let policy = Policy::verify(&text, &signature, &files.key, last, clock())?;
        write_mark(&files, last, &policy)?;
        announce(&policy);
        let seen = Mutex::new(Seen { files: digest, mark: policy.mark() });
        Ok(Self { files, clock, current: watch::Sender::new(Arc::new(policy)), seen })
    }

    /// The policy in force.
    #[must_use]
    pub fn current(&self) -> Arc<Policy> {
        Arc::clone(&self.current.borrow())
    }

    /// The policy in force, and those that will be.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Policy>> {
        self.current.subscribe()
    }

    /// Has `attestor` judge by the policy in force, now and, as a task of `tasks`, whenever it changes.
    pub fn govern(&self, attestor: &Arc<Attestor>, tasks: &Tasks) {
        let (attestor, mut policies) = (Arc::clone(attestor), self.subscribe());
        attestor.replace_policy(Arc::clone(&policies.borrow_and_update()));
        tasks.spawn("policy-in-force", async move {
            while policies.changed().await.is_ok() {
                attestor.replace_policy(Arc::clone(&policies.borrow_and_update()));
            }
        });
    }

    /// Looks for another policy.
    ///
    /// # Errors
    /// When the files changed and hold no good policy. A refusal is told once for each state of the files; what may pass by
    /// itself, such as a disk that is full, is told every time.
    pub async fn reload(self: &Arc<Self>) -> Result<Reloaded, PolicyLoadError> {
        let keeper = Arc::clone(self);
        let outcome = blocking(move || keeper.reload_now()).await;
        let label = match &outcome {
            Ok(Reloaded::Unchanged) => return outcome,
            Ok(Reloaded::Replaced) => "replaced",
            Err(PolicyLoadError::Policy(error)) => error.label(),
            Err(_) => "failed",
        };
        metrics::counter!("attest_policy_reloads_total", "outcome" => label).increment(1);
        outcome
    }

    fn reload_now(&self) -> Result<Reloaded, PolicyLoadError> {
        // Held throughout, so that two reloads do not overtake each other.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, signature, digest) = read_files(&self.files)?;
        if digest == seen.files {
            return Ok(Reloaded::Unchanged);
        }
        let verdict = Policy::verify(&text, &signature, &self.files.key, Some(seen.mark), (self.clock)());
        if let Ok(policy) = &verdict {
            // Before it is in force: otherwise a crash could bring the old one back.
            write_mark(&self.files, Some(seen.mark), policy)?;
        }
        seen.files = digest;
        let policy = verdict?;
        if policy.mark() == seen.mark {
            return Ok(Reloaded::Unchanged);
        }
        seen.mark = policy.mark();
        announce(&policy);
        self.current.send_replace(Arc::new(policy));
        Ok(Reloaded::Replaced)
    }
}

impl std::fmt::Debug for PolicyKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyKeeper").field("files", &self.files).finish_non_exhaustive()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PolicyLoadError> + Send + 'static,
) -> Result<T, PolicyLoadError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(PolicyLoadError::BrokeOff))
}

type Read = (Vec<u8>, String, [u8; 32]);

fn read_files(files: &PolicyFiles) -> Result<Read, PolicyLoadError> {
    let read = |path: &PathBuf, limit| {
        let content = durable::read(path, limit).and_then(|content| content.ok_or(io::ErrorKind::NotFound.into()));
        content.map_err(|source| PolicyLoadError::File { path: path.clone(), source })
    };
    let text = read(&files.policy, MAX_POLICY_BYTES)?;
    let signature = read(&files.signature, MAX_SIGNATURE_BYTES)?;
    let digest = Sha256::new().chain_update(Sha256::digest(&text)).chain_update(&signature).finalize().into();
    // What is not text is no signature either, and refused as one.
    Ok((text, String::from_utf8_lossy(&signature).into_owned(), digest))
}

fn read_mark(files: &PolicyFiles) -> Result<Option<PolicyMark>, PolicyLoadError> {
    let path = &files.mark;
    let content =
        durable::read(path, MAX_MARK_BYTES).map_err(|source| PolicyLoadError::File { path: path.clone(), source })?;
    let Some(content) = content else { return Ok(None) };
    serde_json::from_slice(&content)
        .map(Some)
        .map_err(|error| PolicyLoadError::Mark { path: path.clone(), detail: error.to_string() })
}

fn write_mark(files: &PolicyFiles, last: Option<PolicyMark>, policy: &Policy) -> Result<(), PolicyLoadError> {
    let path = &files.mark;
    let mark = policy.mark();
    if last == Some(mark) {
        return Ok(());
    }
    serde_json::to_vec(&mark)
        .map_err(io::Error::other)
        .and_then(|content| durable::replace(path, &content))
        .map_err(|source| PolicyLoadError::File { path: path.clone(), source })
}

#[expect(clippy::cast_precision_loss, reason = "versions and dates are far below 2^53")]
fn announce(policy: &Policy) {
    metrics::gauge!("attest_policy_version").set(policy.version as f64);
    metrics::gauge!("attest_policy_expires_timestamp_seconds").set(policy.expires as f64);
    tracing::info!(
        version = policy.version,
        expires = policy.expires,
        digest = hex::encode(policy.mark().digest),
        "a policy is in force"
    );
    if policy.cohorts.is_none() {
        tracing::warn!("the policy says insecure_any_image: event logs prove nothing, since any image may write them");
    }
}
