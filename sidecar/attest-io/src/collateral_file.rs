//! Collateral in a file that somebody else renews: read at start, and offered to the keeper whenever it changes.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_attest::{Collateral, CollateralError, MAX_BUNDLE_BYTES};
use postern_plumbing::tasks::{Task, maintenance};

use crate::collateral::CollateralKeeper;

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

/// The file, at the version that was read last.
#[derive(Debug)]
pub struct CollateralFile {
    path: PathBuf,
    /// The version that was read; `None` before there was one.
    seen: Option<Stamp>,
    /// What was last said of a file that cannot be read. Each look tries again, and the log needs to hear it once.
    complaint: Option<String>,
}

impl CollateralFile {
    /// Reads the collateral. Whether it is genuine and in force is judged by whoever uses it.
    ///
    /// # Errors
    /// Why it cannot be used, naming the file.
    pub fn read(path: &Path) -> Result<(Self, Collateral), CollateralFileError> {
        // Taken before the content, so that a change in between is found by the next look.
        let seen = Stamp::of(path);
        let collateral = content(path)?;
        Ok((Self { path: path.to_owned(), seen, complaint: None }, collateral))
    }

    /// Offers new collateral to the keeper whenever the file changes from what it was when it was read. What cannot be used
    /// leaves the old one in force.
    pub fn follow(self, keeper: Arc<CollateralKeeper>) -> Task<Infallible> {
        let path = self.path.clone();
        let mut read = Some(self);
        maintenance("collateral file", move || {
            // Started again after a panic, it takes nothing for read.
            let file = read.take().unwrap_or_else(|| Self { path: path.clone(), seen: None, complaint: None });
            file.run(Arc::clone(&keeper))
        })
    }

    async fn run(mut self, keeper: Arc<CollateralKeeper>) -> Result<Infallible, Infallible> {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look(&keeper).await;
        }
    }

    async fn look(&mut self, keeper: &CollateralKeeper) {
        let (path, seen) = (self.path.clone(), self.seen);
        let looked = tokio::task::spawn_blocking(move || {
            // Gone is another version, too.
            (Stamp::of(&path) != seen).then(|| Self::read(&path))
        });
        match looked.await {
            Ok(None) => self.complaint = None,
            Ok(Some(Ok((read, collateral)))) => {
                *self = read;
                self.offer(keeper, &collateral).await;
            }
            Ok(Some(Err(error))) => self.complain(error.to_string()),
            Err(error) => self.complain(error.to_string()),
        }
    }

    async fn offer(&self, keeper: &CollateralKeeper, collateral: &Collateral) {
        let refused = keeper.offer(collateral).await;
        for (fmspc, failure) in &refused {
            tracing::error!(path = %self.path.display(), %fmspc, %failure, "the new collateral is not taken");
        }
        let outcome = if refused.is_empty() { "taken" } else { "refused" };
        metrics::counter!("collateral_file_changes_total", "outcome" => outcome).increment(1);
    }

    fn complain(&mut self, error: String) {
        if self.complaint.as_ref() != Some(&error) {
            tracing::error!(error, "the new collateral cannot be read; the old one stays in force");
            metrics::counter!("collateral_file_changes_total", "outcome" => "unreadable").increment(1);
            self.complaint = Some(error);
        }
    }
}

fn content(path: &Path) -> Result<Collateral, CollateralFileError> {
    let unreadable = |source| CollateralFileError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_BUNDLE_BYTES as u64 {
        return Err(CollateralFileError::TooLarge { path: path.to_owned(), bytes });
    }
    let json = std::fs::read(path).map_err(unreadable)?;
    Collateral::from_json(&json).map_err(|source| CollateralFileError::Wrong { path: path.to_owned(), source })
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
    use postern_plumbing::tasks::Tasks;
    use postern_simulator::Tee;

    use super::*;
    use crate::attestor::Attestor;
    use crate::collateral::Keeping;

    const NOON: u64 = 1_800_000_000;

    fn tee() -> Tee {
        Tee::new([1; 32]).unwrap()
    }

    /// What the platform's collateral was so many seconds after noon.
    fn bundle(seconds: u64) -> String {
        tee().collateral_bundle_json(NOON + seconds).unwrap()
    }

    fn parsed(seconds: u64) -> Collateral {
        Collateral::from_json(bundle(seconds).as_bytes()).unwrap()
    }

    struct InForce {
        folder: tempfile::TempDir,
        file: CollateralFile,
        attestor: Arc<Attestor>,
        keeper: Arc<CollateralKeeper>,
    }

    impl InForce {
        /// A file with the first collateral, and an attestor that has it in force.
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("collateral.json"), bundle(0)).unwrap();
            let root = TrustRoot::from_der(tee().root_der().to_vec()).unwrap();
            let (file, collateral) = CollateralFile::read(&folder.path().join("collateral.json")).unwrap();
            let appraiser = Appraiser::new(root, TcbPolicy::default());
            let attestor = Attestor::with_clock(appraiser, collateral, Arc::new(|| NOON + 3600));
            let keeper = CollateralKeeper::start(&attestor, None, Keeping::default(), &Tasks::new()).await;
            Self { folder, file, attestor, keeper }
        }

        fn put(&self, content: &str) {
            std::fs::write(self.folder.path().join("collateral.json"), content).unwrap();
        }
    }

    #[tokio::test]
    async fn a_renewed_file_is_taken_over_and_a_broken_one_is_not() {
        let mut at = InForce::new().await;
        let mut changes = at.attestor.changes();
        at.file.look(&at.keeper).await;
        assert!(!changes.has_changed().unwrap(), "the file is as it was");
        at.put("{");
        at.file.look(&at.keeper).await;
        assert_eq!(*at.attestor.collateral(), parsed(0));
        assert!(at.file.complaint.as_ref().unwrap().contains("collateral.json"));
        std::fs::remove_file(at.folder.path().join("collateral.json")).unwrap();
        at.file.look(&at.keeper).await;
        assert_eq!(*at.attestor.collateral(), parsed(0));
        assert!(at.file.complaint.as_ref().unwrap().starts_with("cannot read"));
        at.put(&format!("{} ", bundle(60)));
        at.file.look(&at.keeper).await;
        assert_eq!(*at.attestor.collateral(), parsed(60));
        assert_eq!(at.file.complaint, None);
        changes.mark_unchanged();
        at.file.look(&at.keeper).await;
        assert!(!changes.has_changed().unwrap(), "it is taken over once");
    }

    #[tokio::test]
    async fn what_is_older_out_of_date_or_another_roots_is_not_taken_over() {
        let mut at = InForce::new().await;
        let elsewhere = Tee::new([2; 32]).unwrap().collateral_bundle_json(NOON + 60).unwrap();
        at.put(&format!("{} ", bundle(60)));
        at.file.look(&at.keeper).await;
        for (content, why) in [
            (format!("{}  ", bundle(0)), "older"),
            (format!("{}   ", bundle(40 * 86_400)), "not in force yet"),
            (elsewhere, "another root's"),
        ] {
            at.put(&content);
            at.file.look(&at.keeper).await;
            assert_eq!(*at.attestor.collateral(), parsed(60), "{why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_followed_from_what_it_is_at_the_start() {
        let InForce { folder, file, attestor, keeper } = InForce::new().await;
        let mut changes = attestor.changes();
        let _following = file.follow(keeper);
        let unchanged = tokio::time::timeout(LOOK * 3, changes.changed()).await;
        assert!(unchanged.is_err());
        std::fs::write(folder.path().join("collateral.json"), format!("{} ", bundle(60))).unwrap();
        changes.changed().await.unwrap();
        assert_eq!(*attestor.collateral(), parsed(60));
    }

    #[test]
    fn what_is_wrong_with_a_file_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collateral.json");
        let complaint = || CollateralFile::read(&path).unwrap_err().to_string();
        let name = path.display();
        assert!(complaint().starts_with(&format!("cannot read the collateral in {name}: ")));
        std::fs::write(&path, "{}").unwrap();
        assert!(complaint().starts_with(&format!("the collateral in {name}: not a collateral bundle")));
        let huge = MAX_BUNDLE_BYTES + 1;
        std::fs::File::create(&path).unwrap().set_len(huge as u64).unwrap();
        assert_eq!(complaint(), format!("the collateral in {name} has {huge} bytes, more than {MAX_BUNDLE_BYTES}"));
    }
}
