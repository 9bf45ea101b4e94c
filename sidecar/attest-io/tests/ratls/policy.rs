//! The signed policy in force: what it decides, how it is replaced, and what does not replace it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postern_attest::policy::{PolicyError, PolicyKey};
use postern_attest::{CertificateRules, KmsRoot};
use postern_attest_io::{Attestor, Clock, PolicyFiles, PolicyKeeper, PolicyLoadError, Reloaded};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Tasks;
use postern_simulator::certificate::Attestation;
use postern_simulator::{Measurements, PolicySigner};
use rustls_pki_types::CertificateDer;

use crate::issuers::{ders, issued};
use crate::world::{APP, Guest, OTHER_APP, TEE, collateral, cvm};

const SELDOM: Duration = Duration::from_secs(3600);

/// A folder with a policy, as an operator keeps it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn files(&self) -> PolicyFiles {
        PolicyFiles {
            policy: self.path("policy.toml"),
            signature: self.path("policy.toml.minisig"),
            key: key(),
            mark: self.path("policy.mark"),
        }
    }

    fn put(&self, text: &str) {
        std::fs::write(self.path("policy.toml.minisig"), signer().sign(text.as_bytes())).unwrap();
        std::fs::write(self.path("policy.toml"), text).unwrap();
    }

    async fn keeper(&self) -> Result<Arc<PolicyKeeper>, PolicyLoadError> {
        PolicyKeeper::start(self.files(), Arc::new(unix_now), SELDOM, &Tasks::new()).await
    }
}

fn signer() -> PolicySigner {
    PolicySigner::new([5; 32]).unwrap()
}

fn key() -> PolicyKey {
    signer().public_key().parse().unwrap()
}

fn policy(version: u64, apps: &[AppId], cohort: &Measurements) -> String {
    let apps: Vec<String> = apps.iter().map(|app| format!("\"{app}\"")).collect();
    let [rtmr0, rtmr1, rtmr2] = [0, 1, 2].map(|index| cohort.rtmr[index]);
    format!(
        "version = {version}\nexpires = 2031-01-01T00:00:00Z\ninsecure_root = '''{}'''\n[peers]\napps = [{}]\n\
         [[cohort]]\nname = \"one\"\nmrtd = \"{}\"\nrtmr0 = \"{rtmr0}\"\nrtmr1 = \"{rtmr1}\"\nrtmr2 = \"{rtmr2}\"\n",
        TEE.root_pem(),
        apps.join(", "),
        cohort.mrtd,
    )
}

async fn certificate(app: AppId, measurements: Measurements) -> CertificateDer<'static> {
    Guest::start(cvm(&TEE, app, measurements)).keeper().await.current().certificate().clone()
}

fn mark(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn peers_are_judged_by_the_policy_in_force_and_again_when_it_changes() {
    let folder = Folder::new();
    folder.put(&policy(1, &[APP], &Measurements::default()));
    let (keeper, tasks) = (folder.keeper().await.unwrap(), Tasks::new());
    let attestor = Attestor::governed(keeper.current(), collateral(&TEE), Arc::new(unix_now));
    keeper.govern(&attestor, &tasks);
    let (ours, others) =
        ([certificate(APP, Measurements::default()).await], [certificate(OTHER_APP, Measurements::default()).await]);
    assert!(attestor.appraise_chain(&ours).await.is_ok());
    assert_eq!(attestor.appraise_chain(&others).await.unwrap_err().label(), "app_not_expected");

    let mut changes = attestor.changes();
    folder.put(&policy(2, &[OTHER_APP], &Measurements::default()));
    assert_eq!(keeper.reload().await.unwrap(), Reloaded::Replaced);
    changes.changed().await.unwrap();
    assert_eq!(attestor.policy().unwrap().version, 2);
    assert_eq!(attestor.appraise_chain(&ours).await.unwrap_err().label(), "app_not_expected");
    assert!(attestor.appraise_chain(&others).await.is_ok());
}

#[tokio::test]
async fn a_kms_that_is_pinned_stays_so_whatever_policy_is_in_force() {
    let folder = Folder::new();
    folder.put(&policy(1, &[APP], &Measurements::default()));
    let (keeper, tasks) = (folder.keeper().await.unwrap(), Tasks::new());
    let attestor = Attestor::governed(keeper.current(), collateral(&TEE), Arc::new(unix_now));
    let chain = ders(&issued(&cvm(&TEE, APP, Measurements::default()), Attestation::Bound));
    assert_eq!(attestor.appraise_chain(&chain).await.unwrap_err().label(), "issuer_not_pinned");
    let kms_root = Some(KmsRoot::from_pem(TEE.kms_root_pem().as_bytes()).unwrap());
    attestor.hold_certificates_to(CertificateRules { kms_root, ..CertificateRules::default() });
    keeper.govern(&attestor, &tasks);
    assert!(attestor.appraise_chain(&chain).await.is_ok());

    let mut changes = attestor.changes();
    folder.put(&policy(2, &[APP, OTHER_APP], &Measurements::default()));
    assert_eq!(keeper.reload().await.unwrap(), Reloaded::Replaced);
    changes.changed().await.unwrap();
    assert_eq!(attestor.policy().unwrap().version, 2);
    assert!(attestor.appraise_chain(&chain).await.is_ok());
}

#[tokio::test]
async fn an_image_of_two_releases_is_refused() {
    let release = Measurements::default();
    let folder = Folder::new();
    let mut other = release.clone();
    other.mrtd.0[0] ^= 1;
    other.rtmr[1].0[0] ^= 1;
    let second = policy(1, &[], &other);
    let second = second.split_once("[[cohort]]").unwrap().1;
    folder.put(&format!("{}[[cohort]]{second}", policy(1, &[APP], &release)));
    let keeper = folder.keeper().await.unwrap();
    let attestor = Attestor::governed(keeper.current(), collateral(&TEE), Arc::new(unix_now));
    for image in [release.clone(), other.clone()] {
        assert!(attestor.appraise_chain(&[certificate(APP, image).await]).await.is_ok());
    }
    let mixed = Measurements { mrtd: other.mrtd, ..release };
    let refused = attestor.appraise_chain(&[certificate(APP, mixed).await]).await.unwrap_err();
    assert_eq!(refused.label(), "image_mixed");
}

#[tokio::test]
async fn a_policy_that_ends_welcomes_nobody() {
    let folder = Folder::new();
    let expires = unix_now() + 600;
    let date = time::OffsetDateTime::from_unix_timestamp(i64::try_from(expires).unwrap()).unwrap();
    let date = date.format(&time::format_description::well_known::Rfc3339).unwrap();
    folder.put(&policy(1, &[APP], &Measurements::default()).replace("2031-01-01T00:00:00Z", &date));
    let time = Arc::new(AtomicU64::new(expires - 1));
    let reading = Arc::clone(&time);
    let clock: Clock = Arc::new(move || reading.load(Ordering::Relaxed));
    let keeper = folder.keeper().await.unwrap();
    let attestor = Attestor::governed(keeper.current(), collateral(&TEE), clock);
    let chain = [certificate(APP, Measurements::default()).await];
    assert!(attestor.appraise_chain(&chain).await.is_ok());
    time.store(expires, Ordering::Relaxed);
    assert_eq!(attestor.appraise_chain(&chain).await.unwrap_err().label(), "policy_expired");
}

#[tokio::test]
async fn the_last_good_policy_stays_whatever_is_put_in_its_place() {
    let folder = Folder::new();
    folder.put(&policy(7, &[APP], &Measurements::default()));
    let keeper = folder.keeper().await.unwrap();
    let good = keeper.current();
    assert_eq!(keeper.reload().await.unwrap(), Reloaded::Unchanged);

    // Half an update: the text is new and the signature old.
    std::fs::write(folder.path("policy.toml"), policy(8, &[], &Measurements::default())).unwrap();
    let refused = keeper.reload().await.unwrap_err();
    assert!(matches!(refused, PolicyLoadError::Policy(PolicyError::Signature(_))), "{refused}");
    assert_eq!(keeper.reload().await.unwrap(), Reloaded::Unchanged, "told once");
    folder.put(&policy(6, &[], &Measurements::default()));
    let refused = keeper.reload().await.unwrap_err();
    assert!(matches!(refused, PolicyLoadError::Policy(PolicyError::Rollback { found: 6, last: 7 })), "{refused}");
    folder.put(&policy(7, &[], &Measurements::default()));
    let refused = keeper.reload().await.unwrap_err();
    assert!(matches!(refused, PolicyLoadError::Policy(PolicyError::SameVersion(7))), "{refused}");
    std::fs::remove_file(folder.path("policy.toml")).unwrap();
    assert!(matches!(keeper.reload().await.unwrap_err(), PolicyLoadError::File { .. }));
    assert!(Arc::ptr_eq(&keeper.current(), &good));

    folder.put(&policy(8, &[], &Measurements::default()));
    assert_eq!(keeper.reload().await.unwrap(), Reloaded::Replaced);
    assert_eq!(keeper.current().version, 8);
}

#[tokio::test]
async fn an_older_policy_is_refused_after_a_restart_too() {
    let folder = Folder::new();
    folder.put(&policy(7, &[APP], &Measurements::default()));
    drop(folder.keeper().await.unwrap());
    let written = mark(&folder.path("policy.mark"));
    folder.put(&policy(6, &[APP], &Measurements::default()));
    let refused = folder.keeper().await.unwrap_err();
    assert!(matches!(refused, PolicyLoadError::Policy(PolicyError::Rollback { .. })), "{refused}");
    assert_eq!(mark(&folder.path("policy.mark")), written);
    folder.put(&policy(7, &[APP], &Measurements::default()));
    assert!(folder.keeper().await.is_ok());
    std::fs::write(folder.path("policy.mark"), "{").unwrap();
    assert!(matches!(folder.keeper().await.unwrap_err(), PolicyLoadError::Mark { .. }));
}

#[tokio::test]
async fn a_policy_whose_mark_cannot_be_written_is_not_put_in_force() {
    let folder = Folder::new();
    folder.put(&policy(1, &[APP], &Measurements::default()));
    let marks = folder.path("marks");
    std::fs::create_dir(&marks).unwrap();
    let files = PolicyFiles { mark: marks.join("policy"), ..folder.files() };
    let keeper = PolicyKeeper::start(files, Arc::new(unix_now), SELDOM, &Tasks::new()).await.unwrap();
    std::fs::remove_dir_all(&marks).unwrap();
    folder.put(&policy(2, &[APP], &Measurements::default()));
    for _ in 0..2 {
        assert!(matches!(keeper.reload().await.unwrap_err(), PolicyLoadError::File { .. }), "told until it is mended");
    }
    assert_eq!(keeper.current().version, 1);
    std::fs::create_dir(&marks).unwrap();
    assert_eq!(keeper.reload().await.unwrap(), Reloaded::Replaced);
}

#[tokio::test]
async fn a_new_policy_is_found_without_being_told() {
    let folder = Folder::new();
    folder.put(&policy(1, &[APP], &Measurements::default()));
    let (clock, tasks): (Clock, _) = (Arc::new(unix_now), Tasks::new());
    let keeper = PolicyKeeper::start(folder.files(), clock, Duration::from_millis(20), &tasks).await.unwrap();
    let mut policies = keeper.subscribe();
    folder.put(&policy(2, &[APP], &Measurements::default()));
    tokio::time::timeout(Duration::from_secs(20), policies.changed()).await.unwrap().unwrap();
    assert_eq!(policies.borrow().version, 2);
}
