//! Collateral in a file that somebody else renews: read at start, and taken over whenever it changes.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_attest::{Collateral, CollateralError, MAX_BUNDLE_BYTES};
use postern_plumbing::tasks::{Task, maintenance};

use crate::attestor::Attestor;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CollateralFileError {
    /// It cannot be read.
    #[error("cannot read the collateral in {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is larger than collateral can be.
    #[error("the collateral in {} has {bytes} bytes, more than {MAX_BUNDLE_BYTES}", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// It holds something else.
    #[error("the collateral in {}: {source}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: CollateralError,
    },
}

/// Reads the collateral. Whether it is genuine and in force is judged when it is used.
///
/// # Errors
/// Why it cannot be used, naming the file.
pub fn read(path: &Path) -> Result<Collateral, CollateralFileError> {
    let unreadable = |source| CollateralFileError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_BUNDLE_BYTES as u64 {
        return Err(CollateralFileError::TooLarge { path: path.to_owned(), bytes });
    }
    let json = std::fs::read(path).map_err(unreadable)?;
    Collateral::from_json(&json).map_err(|source| CollateralFileError::Wrong { path: path.to_owned(), source })
}

/// Puts new collateral in place whenever the file changes from what it is now. Collateral that cannot be used leaves the old
/// one in force.
pub fn follow(attestor: Arc<Attestor>, path: PathBuf) -> Task<Infallible> {
    let mut seen = Stamp::of(&path);
    maintenance("collateral", move || {
        // Started again after a panic, it takes nothing for seen.
        Follower { attestor: Arc::clone(&attestor), path: path.clone(), seen: seen.take(), complaint: None }.run()
    })
}

struct Follower {
    attestor: Arc<Attestor>,
    path: PathBuf,
    /// The version that is in force.
    seen: Option<Stamp>,
    /// What was last said of a file that cannot be used. Each look tries again, and the log needs to hear it once.
    complaint: Option<String>,
}

impl Follower {
    async fn run(mut self) -> Result<Infallible, Infallible> {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let (path, seen) = (self.path.clone(), self.seen);
        let looked = tokio::task::spawn_blocking(move || {
            // Taken before the content, so that a change in between is found by the next look.
            let stamp = Stamp::of(&path);
            (stamp != seen).then(|| read(&path).map(|collateral| (stamp, collateral)))
        });
        match looked.await {
            Ok(None) => self.complaint = None,
            Ok(Some(Ok((stamp, collateral)))) => {
                self.attestor.replace_collateral(collateral);
                tracing::info!(path = %self.path.display(), "new collateral is in force");
                (self.seen, self.complaint) = (stamp, None);
            }
            Ok(Some(Err(error))) => self.complain(error.to_string()),
            Err(error) => self.complain(error.to_string()),
        }
    }

    fn complain(&mut self, error: String) {
        if self.complaint.as_ref() != Some(&error) {
            tracing::error!(error, "the new collateral cannot be used; the old one stays in force");
            self.complaint = Some(error);
        }
    }
}

/// What tells one version of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok(), length: metadata.len() })
    }
}

#[cfg(test)]
mod tests {
    use postern_attest::{Appraiser, TcbPolicy, TrustRoot};
    use postern_simulator::Tee;

    use super::*;

    fn bundle(seed: u8) -> String {
        Tee::new([seed; 32]).unwrap().collateral_bundle_json(1_800_000_000).unwrap()
    }

    fn parsed(seed: u8) -> Collateral {
        Collateral::from_json(bundle(seed).as_bytes()).unwrap()
    }

    /// A file with the first collateral, and an attestor that has it in force.
    fn in_force(folder: &Path) -> (PathBuf, Arc<Attestor>) {
        let path = folder.join("collateral.json");
        std::fs::write(&path, bundle(1)).unwrap();
        let appraiser = Appraiser::new(TrustRoot::intel(), TcbPolicy::default());
        let attestor = Attestor::new(appraiser, read(&path).unwrap());
        (path, attestor)
    }

    #[tokio::test]
    async fn a_renewed_file_is_taken_over_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, attestor) = in_force(folder.path());
        let mut changes = attestor.changes();
        let mut follower =
            Follower { attestor: Arc::clone(&attestor), seen: Stamp::of(&path), path: path.clone(), complaint: None };

        follower.look().await;
        assert!(!changes.has_changed().unwrap(), "the file is as it was");
        std::fs::write(&path, "{").unwrap();
        follower.look().await;
        assert_eq!(*attestor.collateral(), parsed(1));
        assert!(follower.complaint.as_ref().unwrap().contains("collateral.json"));
        std::fs::remove_file(&path).unwrap();
        follower.look().await;
        assert_eq!(*attestor.collateral(), parsed(1));
        assert!(follower.complaint.as_ref().unwrap().starts_with("cannot read"));
        std::fs::write(&path, format!("{} ", bundle(2))).unwrap();
        follower.look().await;
        assert_eq!(*attestor.collateral(), parsed(2));
        assert_eq!(follower.complaint, None);
        changes.mark_unchanged();
        follower.look().await;
        assert!(!changes.has_changed().unwrap(), "it is taken over once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_followed_from_what_it_is_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let (path, attestor) = in_force(folder.path());
        let mut changes = attestor.changes();
        let _following = follow(Arc::clone(&attestor), path.clone());
        let unchanged = tokio::time::timeout(LOOK * 3, changes.changed()).await;
        assert!(unchanged.is_err());
        std::fs::write(&path, format!("{} ", bundle(2))).unwrap();
        changes.changed().await.unwrap();
        assert_eq!(*attestor.collateral(), parsed(2));
    }

    #[test]
    fn what_is_wrong_with_a_file_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collateral.json");
        let complaint = || read(&path).unwrap_err().to_string();
        let name = path.display();
        assert!(complaint().starts_with(&format!("cannot read the collateral in {name}: ")));
        std::fs::write(&path, "{}").unwrap();
        assert!(complaint().starts_with(&format!("the collateral in {name}: not a collateral bundle")));
        let huge = MAX_BUNDLE_BYTES + 1;
        std::fs::File::create(&path).unwrap().set_len(huge as u64).unwrap();
        assert_eq!(complaint(), format!("the collateral in {name} has {huge} bytes, more than {MAX_BUNDLE_BYTES}"));
    }
}
