use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blake2::Blake2b512;
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, Register};
use proptest::prelude::*;

use super::*;
use crate::{AppIdentity, TcbStatus};

const EXAMPLE: &str = include_str!("../../policy.toml");
const NOW: u64 = 1_800_000_000;

/// What `minisign` does with its secret key.
struct Signer {
    pair: Ed25519KeyPair,
    id: [u8; 8],
}

impl Signer {
    fn new(seed: u8) -> Self {
        Self { pair: Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap(), id: [seed; 8] }
    }

    fn key(&self) -> PolicyKey {
        STANDARD.encode([b"Ed", &self.id[..], self.pair.public_key().as_ref()].concat()).parse().unwrap()
    }

    fn sign(&self, text: &[u8]) -> String {
        self.signature(b"ED", &blake2_512(text))
    }

    fn sign_as_older_releases_did(&self, text: &[u8]) -> String {
        self.signature(b"Ed", text)
    }

    fn signature(&self, algorithm: &[u8], signed: &[u8]) -> String {
        let signature = self.pair.sign(signed);
        let comment = "file:policy.toml";
        let global = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        format!(
            "untrusted comment: signature\n{}\ntrusted comment: {comment}\n{}\n",
            STANDARD.encode([algorithm, &self.id, signature.as_ref()].concat()),
            STANDARD.encode(global.as_ref()),
        )
    }
}

fn blake2_512(text: &[u8]) -> Vec<u8> {
    use blake2::Digest as _;
    Blake2b512::digest(text).to_vec()
}

fn verify(text: &str, last: Option<PolicyMark>, now: u64) -> Result<Policy, PolicyError> {
    let signer = Signer::new(1);
    Policy::verify(text.as_bytes(), &signer.sign(text.as_bytes()), &signer.key(), last, now)
}

fn with_version(version: u64) -> String {
    EXAMPLE.replace("\nversion = 1\n", &format!("\nversion = {version}\n"))
}

fn register(byte: u8) -> Register {
    Register([byte; 48])
}

fn peer(mrtd: u8, rtmr: [u8; 3]) -> Appraisal {
    let [rtmr0, rtmr1, rtmr2] = rtmr.map(register);
    Appraisal {
        identity: AppIdentity {
            app_id: AppId([1; 20]),
            compose_hash: ComposeHash([2; 32]),
            instance_id: InstanceId([3; 20]),
            os_image_hash: None,
            key_provider: Vec::new(),
        },
        device_id: DeviceId([4; 32]),
        mrtd: register(mrtd),
        rtmr: [rtmr0, rtmr1, rtmr2, register(0xff)],
        mr_aggregated: [0; 32],
        mr_system: [0; 32],
        tcb_status: "UpToDate".to_owned(),
        advisory_ids: Vec::new(),
        fingerprint: [0; 32],
        valid_until: 0,
    }
}

/// Two releases, the second with two shapes.
fn releases(more: &str) -> Policy {
    let cohort = |name: &str, registers: [u8; 4]| {
        let [mrtd, rtmr0, rtmr1, rtmr2] = registers.map(register);
        format!(
            "[[cohort]]\nname = {name:?}\nmrtd = \"{mrtd}\"\nrtmr0 = \"{rtmr0}\"\nrtmr1 = \"{rtmr1}\"\nrtmr2 = \"{rtmr2}\"\n"
        )
    };
    let text = ["version = 1\nexpires = 2031-01-01T00:00:00Z\n".to_owned(), more.to_owned()].concat()
        + &cohort("one", [1, 10, 100, 200])
        + &cohort("two", [2, 20, 101, 201])
        + &cohort("two", [2, 21, 101, 201]);
    Policy::parse(text.as_bytes()).unwrap()
}

fn mistake(text: &str) -> String {
    match Policy::parse(text.as_bytes()) {
        Err(PolicyError::Document(detail)) => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_is_a_policy_with_the_defaults() {
    let policy = verify(EXAMPLE, None, NOW).unwrap();
    assert_eq!((policy.version, policy.expires), (1, 1_924_992_000));
    assert!(policy.root.is_intel());
    assert_eq!(policy.tcb, TcbPolicy { min_tcb_evaluation_number: 17, ..TcbPolicy::default() });
    assert_eq!(policy.peers, PeerPolicy::default());
    assert_eq!(policy.cohorts.as_ref().map(Cohorts::is_empty), Some(false));
    // What stands in comments is right too.
    let all = EXAMPLE.replace("#apps", "apps").replace("#compose_hashes", "compose_hashes");
    let policy = Policy::parse(all.as_bytes()).unwrap();
    assert!(policy.peers.apps.is_some() && policy.peers.compose_hashes.is_some());
    // And what is not said is the default.
    let bare = Policy::parse(b"version = 1\nexpires = 2031-01-01T00:00:00Z\ninsecure_any_image = true").unwrap();
    assert_eq!((bare.tcb, bare.cohorts), (TcbPolicy::default(), None));
}

#[test]
fn every_rule_can_be_changed() {
    let policy = releases(
        "[platform]\ntcb_statuses = [\"outofdate\"]\nout_of_date_grace_days = 2\nallow_smt = false\n\
         rejected_advisories = [\"INTEL-SA-00001\"]\n[peers]\napps = []\n",
    );
    assert_eq!(policy.tcb.accept, [TcbStatus::OutOfDate].into());
    assert_eq!(policy.tcb.out_of_date_grace.as_secs(), 172_800);
    assert!(!policy.tcb.allow_smt && policy.tcb.allow_cached_keys);
    assert_eq!(policy.tcb.rejected_advisories, ["INTEL-SA-00001".to_owned()].into());
    assert_eq!(policy.peers.apps, Some([].into()));
    let other = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
    let policy = releases(&format!("insecure_root = '''{other}'''\n"));
    assert!(!policy.root.is_intel() && policy.appraiser().root() == &policy.root);
}

#[test]
fn mistakes_are_named() {
    assert!(mistake(&EXAMPLE.replace("allow_smt", "allow_stm")).contains("allow_stm"));
    assert!(mistake(&EXAMPLE.replace("version = 1", "")).contains("version"));
    assert!(mistake(&EXAMPLE.replace("expires = 2031", "expires = 1931")).contains("1970"));
    assert!(mistake(&EXAMPLE.replace("T00:00:00Z", "")).contains("offset"));
    assert!(mistake(&EXAMPLE.replace("\"UpToDate\"", "\"Revoked\"")).contains("Revoked"));
    assert!(mistake(&EXAMPLE.replace("[\"UpToDate\", \"SWHardeningNeeded\"]", "[]")).contains("no platform"));
    assert!(mistake(&EXAMPLE.replace("mrtd = \"91", "mrtd = \"")).contains("96"));
    assert!(mistake(&EXAMPLE.replace("#insecure_any_image", "insecure_any_image")).contains("contradicts"));
    assert!(mistake("version = 1\nexpires = 2031-01-01T00:00:00Z").contains("insecure_any_image"));
    let (_, cohort) = EXAMPLE.split_at(EXAMPLE.find("\n[[cohort]]").unwrap());
    assert!(mistake(&[EXAMPLE, cohort].concat()).contains("has the registers of"));
    assert!(mistake(&EXAMPLE.replace("\"example 1.0, 2 vCPU\"", "\" \"")).contains("name"));
    let root = EXAMPLE.replace("version = 1", "version = 1\ninsecure_root = 'x'");
    assert!(mistake(&root).contains("insecure_root"));
}

#[test]
fn registers_of_two_releases_never_mix() {
    let policy = releases("");
    for (mrtd, rtmr) in [(1, [10, 100, 200]), (2, [20, 101, 201]), (2, [21, 101, 201])] {
        assert_eq!(policy.check(&peer(mrtd, rtmr), NOW), Ok(()));
    }
    for mixed in [peer(2, [10, 100, 200]), peer(1, [20, 100, 200]), peer(1, [10, 101, 200]), peer(1, [10, 100, 201])] {
        assert_eq!(policy.check(&mixed, NOW), Err(PolicyRefusal::MixedImage(mixed.mrtd)));
    }
    for unknown in [peer(3, [10, 100, 200]), peer(1, [11, 100, 200]), peer(1, [10, 100, 0])] {
        assert_eq!(policy.check(&unknown, NOW), Err(PolicyRefusal::UnknownImage(unknown.mrtd)));
    }
    // A register counts only in its own place.
    assert_eq!(policy.check(&peer(1, [100, 10, 200]), NOW), Err(PolicyRefusal::UnknownImage(register(1))));
    let name =
        |mrtd, rtmr: [u8; 3]| policy.cohorts.as_ref().unwrap().name(&Image::of(&peer(mrtd, rtmr))).map(str::to_owned);
    assert_eq!(name(2, [21, 101, 201]).as_deref(), Some("two"));
    assert_eq!(name(2, [10, 101, 201]), None);
}

#[test]
fn image_application_and_date_all_have_to_fit() {
    let policy = releases("[peers]\napps = [\"0202020202020202020202020202020202020202\"]\n");
    let refused = policy.check(&peer(1, [10, 100, 200]), NOW).unwrap_err();
    assert_eq!(refused, PolicyRefusal::App(AppId([1; 20])));
    let policy = releases("");
    assert_eq!(policy.check(&peer(1, [10, 100, 200]), policy.expires - 1), Ok(()));
    let refused = policy.check(&peer(1, [10, 100, 200]), policy.expires).unwrap_err();
    assert_eq!(refused, PolicyRefusal::PolicyExpired { expires: policy.expires });
}

#[test]
fn an_older_policy_is_refused_and_so_is_another_of_the_same_version() {
    let mark = verify(&with_version(7), None, NOW).unwrap().mark();
    let last = Some(mark);
    assert_eq!(verify(&with_version(6), last, NOW), Err(PolicyError::Rollback { found: 6, last: 7 }));
    assert!(verify(&with_version(7), last, NOW).is_ok());
    assert!(verify(&with_version(8), last, NOW).is_ok());
    let edited = with_version(7).replace("allow_smt = true", "allow_smt = false");
    assert_eq!(verify(&edited, last, NOW), Err(PolicyError::SameVersion(7)));
    assert_eq!(serde_json::from_slice::<PolicyMark>(&serde_json::to_vec(&mark).unwrap()).unwrap(), mark);
}

#[test]
fn an_expired_policy_is_refused() {
    let expires = 1_924_992_000;
    assert!(verify(EXAMPLE, None, expires - 1).is_ok());
    assert_eq!(verify(EXAMPLE, None, expires), Err(PolicyError::Expired { expires, now: expires }));
}

#[test]
fn only_the_expected_key_signs_and_only_this_text() {
    let (signer, other) = (Signer::new(1), Signer::new(2));
    let judge = |text: &str, signature: &str| Policy::verify(text.as_bytes(), signature, &signer.key(), None, NOW);
    assert!(judge(EXAMPLE, &signer.sign(EXAMPLE.as_bytes())).is_ok());
    assert!(judge(EXAMPLE, &signer.sign_as_older_releases_did(EXAMPLE.as_bytes())).is_ok());
    let wrong = |text: &str, signature: &str| {
        let refused = judge(text, signature).unwrap_err();
        assert!(matches!(refused, PolicyError::Signature(SignatureError::Wrong(_))), "{refused}");
    };
    wrong(EXAMPLE, &other.sign(EXAMPLE.as_bytes()));
    // Somebody else's key under our key's id.
    let impostor = Signer { id: signer.id, ..Signer::new(2) };
    wrong(EXAMPLE, &impostor.sign(EXAMPLE.as_bytes()));
    wrong(&with_version(2), &signer.sign(EXAMPLE.as_bytes()));
    // The comment is signed as well.
    wrong(EXAMPLE, &signer.sign(EXAMPLE.as_bytes()).replace("file:policy", "file:other"));
    // A text that cannot be read is not even looked at without its signature.
    wrong("no TOML", &signer.sign(EXAMPLE.as_bytes()));
}

#[test]
fn a_signature_that_minisign_itself_made_counts() {
    // The example in minisign's own documentation of its formats, as its verifiers ship it.
    let key: PolicyKey = "untrusted comment: minisign public key E7620F1842B4E81F\n\
                          RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n"
        .parse()
        .unwrap();
    assert_eq!(key.to_string(), "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3");
    for signature in [
        "untrusted comment: signature from minisign secret key\n\
         RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n\
         trusted comment: timestamp:1555779966\tfile:test\n\
         QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==",
        "untrusted comment: signature from minisign secret key\n\
         RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
         trusted comment: timestamp:1633700835\tfile:test\tprehashed\n\
         wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==",
    ] {
        assert_eq!(key.verify(b"test", signature), Ok(()));
        assert!(matches!(key.verify(b"Test", signature), Err(SignatureError::Wrong(_))));
    }
}

#[test]
fn texts_that_are_no_key_or_too_large_are_refused() {
    for text in ["", "RW", "untrusted comment: x", "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\nmore"] {
        assert_eq!(text.parse::<PolicyKey>(), Err(SignatureError::NotAKey), "{text:?}");
    }
    let large = vec![b' '; MAX_POLICY_BYTES + 1];
    let key = Signer::new(1).key();
    assert_eq!(Policy::verify(&large, "", &key, None, NOW), Err(PolicyError::TooLarge(large.len())));
    assert_eq!(Policy::parse(&large), Err(PolicyError::TooLarge(large.len())));
    let long = " ".repeat(MAX_SIGNATURE_BYTES + 1);
    assert!(matches!(key.verify(b"", &long), Err(SignatureError::Malformed(_))));
}

proptest! {
    #[test]
    fn no_text_panics(text: Vec<u8>, signature: String) {
        Policy::parse(&text).map(drop).ok();
        Signer::new(1).key().verify(&text, &signature).ok();
    }

    #[test]
    fn no_damaged_signature_counts(at in any::<prop::sample::Index>(), with in "[ -~]") {
        let signer = Signer::new(1);
        let mut signature = signer.sign(b"text");
        // The first line is not signed.
        let start = signature.find('\n').unwrap() + 1;
        let at = start + at.index(signature.trim_end().len() - start);
        let damaged = signature[at..=at] != with;
        signature.replace_range(at..=at, &with);
        prop_assert_eq!(signer.key().verify(b"text", &signature).is_err(), damaged);
    }
}
