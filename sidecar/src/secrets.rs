//! Cluster secrets in files that somebody else replaces: read at start, and again when they change or on SIGHUP.

use std::convert::Infallible;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_pgwire::roles::{ClusterSecret, Role, RoleMap, Verifiers};
use postern_plumbing::secret::Secret;
use postern_plumbing::tasks::{Task, maintenance};
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use crate::config::RoleConfig;
use crate::postgres::supervise::Watched;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The roles and secrets that are in force.
#[derive(Debug)]
pub struct Roles {
    known: ArcSwap<Known>,
    /// What salts are made of; the same for as long as the process lives, so that a name's salt never changes.
    salts: Zeroizing<[u8; 32]>,
}

/// One state of the roles and secrets.
#[derive(Debug)]
pub struct Known {
    /// Which secret opens which role.
    pub map: RoleMap,
    /// What proves that a client knows a secret.
    pub verifiers: Verifiers,
}

impl Roles {
    /// Puts the first state in force.
    #[must_use]
    pub fn new(map: RoleMap) -> Self {
        let salts = Zeroizing::new(rand::random());
        let verifiers = Verifiers::new(&map, &salts);
        Self { known: ArcSwap::from_pointee(Known { map, verifiers }), salts }
    }

    /// What is in force now. Who holds on to it sees no later change.
    #[must_use]
    pub fn current(&self) -> Arc<Known> {
        self.known.load_full()
    }

    /// Puts another state in force; says whether it is another.
    fn replace(&self, map: RoleMap) -> bool {
        if map.is_same(&self.current().map) {
            return false;
        }
        let verifiers = Verifiers::new(&map, &self.salts);
        self.known.store(Arc::new(Known { map, verifiers }));
        true
    }
}

/// Reads the secrets of one role: one in each line of the files.
///
/// # Errors
/// What is wrong with each of them.
pub fn read(files: &[PathBuf]) -> Result<Vec<ClusterSecret>, Vec<String>> {
    let (mut secrets, mut mistakes) = (Vec::new(), Vec::new());
    for file in files {
        let text = match Secret::from_file(file) {
            Ok(text) => text,
            Err(error) => {
                mistakes.push(error.to_string());
                continue;
            }
        };
        for line in text.expose().lines() {
            match line.parse() {
                Ok(secret) => secrets.push(secret),
                Err(error) => mistakes.push(format!("{}: {error}", file.display())),
            }
        }
    }
    if mistakes.is_empty() { Ok(secrets) } else { Err(mistakes) }
}

/// Puts new secrets in force whenever a file has changed, and on SIGHUP, which has Postgres' passwords set anew as well. Files that cannot be used leave the old secrets in force.
pub fn follow(roles: Arc<Roles>, configured: &[RoleConfig], postgres: Watched) -> Task<Infallible> {
    let configured: Arc<Vec<Source>> = Arc::new(configured.iter().map(Source::of).collect());
    // Until it is watched for, the signal would end the process.
    let mut hangup = watch_for_hangup();
    maintenance("secrets", move || {
        let (roles, configured) = (Arc::clone(&roles), Arc::clone(&configured));
        // Nothing is taken for seen: the files may have changed since the first state was read from them.
        let follower = Follower { roles, configured, postgres: postgres.clone(), seen: None, complaint: None };
        follower.run(hangup.take().or_else(watch_for_hangup))
    })
}

/// A role, and where its secrets are.
struct Source {
    name: String,
    opens: Vec<String>,
    files: Vec<PathBuf>,
}

impl Source {
    fn of(config: &RoleConfig) -> Self {
        let RoleConfig { role, secret_files, .. } = config;
        Self { name: role.name.clone(), opens: role.opens.clone(), files: secret_files.clone() }
    }
}

struct Follower {
    roles: Arc<Roles>,
    configured: Arc<Vec<Source>>,
    postgres: Watched,
    /// The versions that are in force.
    seen: Option<Vec<Option<Stamp>>>,
    /// What was last said of files that cannot be used. Each look tries again, and the log needs to hear it once.
    complaint: Option<String>,
}

impl Follower {
    async fn run(mut self, mut hangup: Option<Signal>) -> Result<Infallible, Infallible> {
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(LOOK) => false,
                () = hung_up(hangup.as_mut()) => true,
            };
            self.look(asked).await;
            if asked {
                self.postgres.doubt();
            }
        }
    }

    async fn look(&mut self, asked: bool) {
        let (roles, configured, seen) = (Arc::clone(&self.roles), Arc::clone(&self.configured), self.seen.clone());
        let looked = tokio::task::spawn_blocking(move || {
            // Taken before the content, so that a change in between is found by the next look.
            let stamps = stamps(&configured);
            let changed = asked || seen.as_ref() != Some(&stamps);
            changed.then(|| read_map(&configured).map(|map| (stamps, roles.replace(map))))
        });
        match looked.await {
            Ok(None) => self.complaint = None,
            Ok(Some(Ok((stamps, replaced)))) => {
                if replaced {
                    tracing::info!("new secrets are in force");
                } else if asked {
                    tracing::info!("the secrets are as they were");
                }
                count(if replaced { "replaced" } else { "unchanged" });
                (self.seen, self.complaint) = (Some(stamps), None);
            }
            Ok(Some(Err(error))) => self.complain(error, asked),
            Err(error) => self.complain(error.to_string(), asked),
        }
    }

    fn complain(&mut self, error: String, asked: bool) {
        if asked || self.complaint.as_ref() != Some(&error) {
            tracing::error!(error, "the new secrets cannot be used; the old ones stay in force");
            count("failed");
            self.complaint = Some(error);
        }
    }
}

fn watch_for_hangup() -> Option<Signal> {
    let watching = signal(SignalKind::hangup());
    watching.inspect_err(|error| tracing::warn!(%error, "cannot watch for SIGHUP: it will end the process")).ok()
}

async fn hung_up(signal: Option<&mut Signal>) {
    let received = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending().await
    }
}

fn read_map(configured: &[Source]) -> Result<RoleMap, String> {
    let mut roles = Vec::with_capacity(configured.len());
    let mut mistakes = Vec::new();
    for Source { name, opens, files } in configured {
        match read(files) {
            Ok(secrets) => roles.push(Role { name: name.clone(), secrets, opens: opens.clone() }),
            Err(more) => mistakes.extend(more),
        }
    }
    if mistakes.is_empty() { RoleMap::new(roles).map_err(|error| error.to_string()) } else { Err(mistakes.join("; ")) }
}

fn count(outcome: &'static str) {
    metrics::counter!("postern_sidecar_secret_reloads_total", "outcome" => outcome).increment(1);
}

/// What tells one version of a file from the next. A secret is as long as the one that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    length: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        let (modified, changed) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
        Some(Self { inode: file.ino(), modified, changed, length: file.len() })
    }
}

fn stamps(configured: &[Source]) -> Vec<Option<Stamp>> {
    configured.iter().flat_map(|role| &role.files).map(|file| Stamp::of(file)).collect()
}

#[cfg(test)]
mod tests;
