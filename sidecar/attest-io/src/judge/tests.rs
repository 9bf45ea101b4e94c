use std::path::Path;

use postern_attest::{CertificateRules, KmsRoot, Policy};
use postern_plumbing::config::Document;
use postern_simulator::{PolicySigner, Tee};

use super::*;

const DAY: u64 = 86_400;

fn tee() -> Tee {
    Tee::new([9; 32]).unwrap()
}

/// A folder with the files that a section names.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.put("root.pem", tee().root_pem());
        place.issue(unix_now());
        std::fs::create_dir(place.0.path().join("state")).unwrap();
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    fn issue(&self, now: u64) {
        self.put("collateral.json", tee().collateral_bundle_json(now).unwrap());
    }

    fn sign(&self, version: u64, expires: u64) {
        let date = time::OffsetDateTime::from_unix_timestamp(i64::try_from(expires).unwrap()).unwrap();
        let date = date.format(&time::format_description::well_known::Rfc3339).unwrap();
        let root = tee().root_pem().to_owned();
        let text = format!(
            "version = {version}\nexpires = {date}\ninsecure_any_image = true\ninsecure_root = '''\n{root}'''\n"
        );
        self.put("policy.toml.minisig", signer().sign(text.as_bytes()));
        self.put("policy.toml", text);
    }

    fn settings(&self, keys: &str) -> AttestationSettings {
        let keys = keys.replace("DIR", &self.path().display().to_string());
        let mut document = Document::parse(&format!("[attestation]\n{keys}"), [], "TEST").unwrap();
        let settings = AttestationSettings::from_section(&mut document.section("attestation"));
        document.finish_with(settings).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn inline(&self) -> AttestationSettings {
        self.settings("root = \"DIR/root.pem\"\ncollateral = \"DIR/collateral.json\"\nstate_dir = \"DIR/state\"")
    }

    fn signed(&self) -> AttestationSettings {
        let key = signer().public_key();
        self.settings(&format!(
            "policy = \"DIR/policy.toml\"\npolicy_key = \"{key}\"\ncollateral = \"DIR/collateral.json\"\nstate_dir = \"DIR/state\""
        ))
    }
}

fn signer() -> PolicySigner {
    PolicySigner::new([9; 32]).unwrap()
}

/// A start, and the end of everything that it started.
async fn started(settings: &AttestationSettings) -> Result<(Arc<Attestor>, Readiness), JudgeError> {
    let (readiness, tasks) = (Readiness::new(), Tasks::new());
    let attestor = settings.judge(&readiness, &tasks).await;
    // The first look at what operators see comes at once.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    stopped(&tasks).await;
    Ok((attestor?, readiness))
}

/// Ends all tasks, and with them what they hold.
async fn stopped(tasks: &Tasks) {
    tasks.close_and_wait(Duration::ZERO).await;
    while tasks.count() > 0 {
        tokio::task::yield_now().await;
    }
}

async fn refused(settings: &AttestationSettings) -> JudgeError {
    match started(settings).await {
        Ok(_) => panic!("it starts"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_the_section_names_is_what_peers_are_judged_by() {
    let place = Place::new();
    let mut settings = place.inline();
    settings.max_evidence_age = Duration::from_secs(7);
    assert!(settings.check().is_empty(), "{:?}", settings.check());
    let (attestor, readiness) = started(&settings).await.unwrap();
    assert_eq!(attestor.appraiser().root().as_der(), tee().root_der());
    assert_eq!(attestor.collateral().windows().count(), 1);
    assert_eq!(attestor.max_evidence_age(), Duration::from_secs(7));
    assert!(readiness.is_ready());
    for file in ["high-water.json", "lock", "collateral"] {
        assert!(place.path().join("state").join(file).exists(), "{file}");
    }
}

#[tokio::test]
async fn certificates_are_held_to_the_configurations_rules_under_every_signed_policy_too() {
    let place = Place::new();
    let kms_root = Some(KmsRoot::from_pem(tee().kms_root_pem().as_bytes()).unwrap());
    let rules = CertificateRules { kms_root, insecure_legacy_binding: true };
    let judge = async |mut settings: AttestationSettings| {
        settings.certificates = rules.clone();
        started(&settings).await.unwrap().0
    };
    assert_eq!(judge(place.inline()).await.appraiser().certificates(), &rules);
    place.sign(1, unix_now() + DAY);
    let attestor = judge(place.signed()).await;
    assert_eq!(attestor.appraiser().certificates(), &rules);
    place.sign(2, unix_now() + DAY);
    let newer = Policy::parse(&std::fs::read(place.path().join("policy.toml")).unwrap()).unwrap();
    attestor.replace_policy(Arc::new(newer));
    assert_eq!(attestor.policy().unwrap().version, 2);
    assert_eq!(attestor.appraiser().certificates(), &rules);
}

#[tokio::test]
async fn a_look_leaves_no_mark() {
    let place = Place::new();
    place.sign(3, unix_now() + DAY);
    assert!(place.signed().check().is_empty());
    assert!(!place.path().join("state/policy-mark.json").exists());
    assert!(!place.path().join("state/high-water.json").exists());
}

#[tokio::test]
async fn all_files_are_judged_at_once() {
    let place = Place::new();
    place.sign(1, unix_now() - 1);
    place.put("collateral.json", "{}");
    std::fs::write(place.path().join("state/high-water.json"), "{").unwrap();
    let mistakes = place.signed().check();
    let words: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), 3, "{words:?}");
    for expected in
        ["the mark of the time: ", "the policy: the policy expired", "collateral.json: not a collateral bundle"]
    {
        assert!(words.iter().any(|word| word.contains(expected)), "{expected} is missing in {words:?}");
    }
    assert!(mistakes.iter().all(|mistake| mistake.exit_code() == exit::CONFIG));
}

#[tokio::test]
async fn a_policy_that_is_not_good_stops_the_start() {
    let place = Place::new();
    assert!(matches!(refused(&place.signed()).await, JudgeError::Policy(PolicyLoadError::File { .. })));
    place.sign(2, unix_now() + DAY);
    assert_eq!(started(&place.signed()).await.unwrap().0.policy().unwrap().version, 2);
    place.sign(1, unix_now() + DAY);
    let older = refused(&place.signed()).await;
    assert!(older.to_string().contains("version 1, and version 2 has been in force"), "{older}");
    place.sign(3, unix_now() - 1);
    let expired = refused(&place.signed()).await;
    assert_eq!((expired.to_string().contains("expired"), expired.exit_code()), (true, exit::CONFIG));
}

#[tokio::test]
async fn collateral_that_is_out_of_date_stops_no_start_and_is_not_ready() {
    let place = Place::new();
    place.issue(unix_now() - 40 * DAY);
    let settings = place.inline();
    assert!(matches!(
        settings.check()[..],
        [JudgeError::Collateral { source: CollateralError::NotCurrent { .. }, .. }]
    ));
    let (attestor, readiness) = started(&settings).await.unwrap();
    assert!(attestor.collateral().is_empty() && !readiness.is_ready());
}

#[tokio::test]
async fn collateral_of_another_root_stops_the_start() {
    let place = Place::new();
    place.put("collateral.json", Tee::new([10; 32]).unwrap().collateral_bundle_json(unix_now()).unwrap());
    let foreign = refused(&place.inline()).await;
    assert!(matches!(foreign, JudgeError::Collateral { .. }), "{foreign}");
    assert_eq!(foreign.exit_code(), exit::CONFIG);
}

#[tokio::test]
async fn older_collateral_than_before_the_restart_is_not_used() {
    let place = Place::new();
    started(&place.inline()).await.unwrap();
    place.issue(unix_now() - 2 * DAY);
    assert!(matches!(place.inline().check()[..], [JudgeError::RolledBack { .. }]));
    let known = started(&place.inline()).await.unwrap().0.collateral();
    let (_, window) = known.windows().next().expect("what was kept is used");
    assert!(window.from >= unix_now() - DAY - 600);

    std::fs::remove_dir_all(place.path().join("state/collateral")).unwrap();
    let (attestor, readiness) = started(&place.inline()).await.unwrap();
    assert!(attestor.collateral().is_empty() && !readiness.is_ready());
}

#[tokio::test]
async fn a_clock_that_was_set_back_counts_as_what_it_was_and_is_told() {
    let place = Place::new();
    let mark = unix_now() + 3600;
    std::fs::write(place.path().join("state/high-water.json"), format!("{{\"now\":{mark}}}")).unwrap();
    let (attestor, readiness) = started(&place.inline()).await.unwrap();
    assert!((mark..mark + 60).contains(&attestor.now()));
    assert!(!readiness.is_ready(), "our own certificates would be dated by the clock that is behind");
}

#[tokio::test]
async fn a_state_folder_has_one_program_at_a_time() {
    let place = Place::new();
    let (readiness, tasks) = (Readiness::new(), Tasks::new());
    place.inline().judge(&readiness, &tasks).await.unwrap();
    let second = refused(&place.inline()).await;
    assert!(matches!(second, JudgeError::State(StateError::InUse(_))), "{second}");
    assert_eq!(second.exit_code(), exit::UNAVAILABLE);
    stopped(&tasks).await;
    started(&place.inline()).await.unwrap();
    std::fs::remove_dir_all(place.path().join("state")).unwrap();
    assert_eq!(refused(&place.inline()).await.exit_code(), exit::CONFIG);
}

#[tokio::test]
async fn without_a_state_folder_a_start_works_and_the_clock_is_kept_in_memory() {
    let place = Place::new();
    let settings = place.settings("root = \"DIR/root.pem\"\ncollateral = \"DIR/collateral.json\"");
    assert!(settings.check().is_empty());
    assert!(started(&settings).await.unwrap().1.is_ready());
    assert_eq!(std::fs::read_dir(place.path().join("state")).unwrap().count(), 0);
}
