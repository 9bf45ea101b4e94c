//! Collateral that somebody renews on disk while the gateway runs.

use std::convert::Infallible;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postern_attest_io::Attestor;
use postern_plumbing::tasks::{Task, maintenance};
use tokio::time::sleep;

use super::start::{self, StartError};

/// How often the file is looked at. Collateral is renewed daily at most.
const LOOK: Duration = Duration::from_secs(30);

/// Takes over the file's content whenever it has changed. A file that cannot be read changes nothing: the collateral in
/// force goes on until it expires.
pub(super) fn keep_current(attestor: Arc<Attestor>, path: PathBuf) -> Task<Infallible> {
    let mut seen = Stamp::of(&path);
    maintenance("collateral", move || {
        // Started again after a failure, it takes nothing for seen.
        watch(Arc::clone(&attestor), path.clone(), seen.take())
    })
}

async fn watch(attestor: Arc<Attestor>, path: PathBuf, mut last: Option<Stamp>) -> Result<Infallible, StartError> {
    loop {
        sleep(LOOK).await;
        take_over(&attestor, &path, &mut last)?;
    }
}

fn take_over(attestor: &Attestor, path: &Path, last: &mut Option<Stamp>) -> Result<(), StartError> {
    let stamp = Stamp::of(path);
    if stamp == *last {
        return Ok(());
    }
    attestor.replace_collateral(start::collateral(path)?);
    tracing::info!(path = %path.display(), "collateral renewed");
    *last = stamp;
    Ok(())
}

/// What tells one version of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata: Metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok(), length: metadata.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postern_attest::{Appraiser, Collateral, TcbPolicy, TrustRoot};
    use postern_simulator::Tee;

    #[test]
    fn a_renewed_file_is_taken_over_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("collateral.json");
        let bundle = |seed: u8| Tee::new([seed; 32]).unwrap().collateral_bundle_json(1_800_000_000).unwrap();
        let parsed = |seed: u8| Collateral::from_json(bundle(seed).as_bytes()).unwrap();
        std::fs::write(&path, bundle(1)).unwrap();
        let attestor = Attestor::new(Appraiser::new(TrustRoot::intel(), TcbPolicy::default()), parsed(1));
        let mut last = Stamp::of(&path);

        take_over(&attestor, &path, &mut last).unwrap();
        assert_eq!(*attestor.collateral(), parsed(1));
        std::fs::write(&path, "{").unwrap();
        take_over(&attestor, &path, &mut last).unwrap_err();
        assert_eq!(*attestor.collateral(), parsed(1));
        std::fs::write(&path, format!("{} ", bundle(2))).unwrap();
        take_over(&attestor, &path, &mut last).unwrap();
        assert_eq!(*attestor.collateral(), parsed(2));
    }
}
