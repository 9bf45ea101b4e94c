use postern_attest::{KmsRoot, TcbPolicy, TcbStatus, TrustRoot};
use postern_plumbing::config::Document;
use postern_simulator::{PolicySigner, Tee};

use super::*;
use crate::collateral::Sources;

/// What both sections say, or every mistake in them.
fn read(text: &str) -> Result<(AgentSettings, AttestationSettings), String> {
    let mut document = Document::parse(text, [], "TEST").map_err(|problems| problems.to_string())?;
    let agent = AgentSettings::from_section(&mut document.section("agent"));
    let attestation = AttestationSettings::from_section(&mut document.section("attestation"));
    document.finish_with(attestation.map(|attestation| (agent, attestation))).map_err(|problems| problems.to_string())
}

fn inline(settings: &AttestationSettings) -> (&TrustRoot, &TcbPolicy) {
    match &settings.rules {
        RuleSettings::Inline { root, tcb } => (root, tcb),
        RuleSettings::Signed(signed) => panic!("{signed:?}"),
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let (agent, attestation) = read("[attestation]\ncollateral = \"/c.json\"").unwrap();
    assert_eq!((agent.endpoint, agent.timeout), (None, Duration::from_secs(10)));
    assert_eq!(agent.certificate_validity, Duration::from_secs(24 * 60 * 60));
    assert_eq!(inline(&attestation), (&TrustRoot::intel(), &TcbPolicy::default()));
    let collateral = CollateralSettings {
        file: Some("/c.json".into()),
        services: None,
        timeout: Duration::from_secs(10),
        refresh: Duration::from_secs(24 * 60 * 60),
    };
    assert_eq!((attestation.collateral, attestation.state), (collateral, None));
    assert_eq!(
        (attestation.max_evidence_age, attestation.sources),
        (Duration::from_secs(3600), SourceLimit::default())
    );
    assert_eq!(attestation.certificates, CertificateRules::default());
    assert!(!attestation.certificates.insecure_legacy_binding);
}

#[test]
fn every_key_is_heeded() {
    let (agent, attestation) = read(
        r#"
        [agent]
        endpoint = "/run/agent.sock"
        timeout = "3s"
        certificate_validity = "1m"
        [attestation]
        root = "Intel"
        collateral = "/c.json"
        tcb_accept = ["OutOfDate"]
        out_of_date_grace = "1d"
        min_tcb_evaluation_number = 17
        rejected_advisories = ["INTEL-SA-00837"]
        allow_dynamic_platform = false
        allow_cached_keys = false
        allow_smt = false
        insecure_legacy_binding = true
        collateral_urls = ["https://pccs.example"]
        collateral_timeout = "1s"
        collateral_refresh = "2h"
        state_dir = "/state"
        max_evidence_age = "5m"
        appraisals_per_minute = 3
        appraisals_burst = 4
        "#,
    )
    .unwrap();
    assert!(attestation.certificates.insecure_legacy_binding);
    assert_eq!(agent.endpoint, Some(AgentEndpoint::Unix("/run/agent.sock".into())));
    assert_eq!((agent.timeout, agent.certificate_validity), (Duration::from_secs(3), SHORTEST_VALIDITY));
    let expected = TcbPolicy {
        accept: [TcbStatus::OutOfDate].into(),
        out_of_date_grace: Duration::from_secs(24 * 60 * 60),
        min_tcb_evaluation_number: 17,
        rejected_advisories: ["INTEL-SA-00837".to_owned()].into(),
        allow_dynamic_platform: false,
        allow_cached_keys: false,
        allow_smt: false,
    };
    assert_eq!(inline(&attestation), (&TrustRoot::intel(), &expected));
    let collateral = CollateralSettings {
        file: Some("/c.json".into()),
        services: Some(Sources::new(["https://pccs.example"]).unwrap()),
        timeout: Duration::from_secs(1),
        refresh: Duration::from_secs(2 * 60 * 60),
    };
    assert_eq!((attestation.collateral, attestation.state), (collateral, Some(StateFolder::at("/state".into()))));
    let sources = SourceLimit { per_minute: 3, burst: 4 };
    assert_eq!((attestation.max_evidence_age, attestation.sources), (Duration::from_secs(300), sources));
}

#[test]
fn a_signed_policy_takes_the_place_of_the_rules() {
    let key = PolicySigner::new([1; 32]).unwrap().public_key();
    let signed = |more: &str| {
        let text = format!(
            "[attestation]\npolicy = \"/p.toml\"\npolicy_key = \"{key}\"\nstate_dir = \"/state\"\n\
             collateral_urls = [\"http://pccs\"]\n{more}"
        );
        read(&text).unwrap().1
    };
    let expected = |signature: &str| SignedPolicy {
        policy: "/p.toml".into(),
        signature: signature.into(),
        key: key.parse().unwrap(),
    };
    let rules = |settings: AttestationSettings| match settings.rules {
        RuleSettings::Signed(signed) => signed,
        RuleSettings::Inline { .. } => panic!("the policy is not read"),
    };
    assert_eq!(rules(signed("")), expected("/p.toml.minisig"), "where minisign puts it");
    assert_eq!(rules(signed("policy_signature = \"/s\"")), expected("/s"));
    let beside = signed("insecure_legacy_binding = true").certificates;
    assert!(beside.insecure_legacy_binding, "what the policy does not decide");
}

#[test]
fn what_contradicts_itself_is_told_at_once() {
    let found = read(
        r#"
        [attestation]
        policy = "/p.toml"
        root = "intel"
        allow_smt = true
        collateral_urls = ["pccs"]
        max_evidence_age = "0s"
        appraisals_burst = 0
        "#,
    )
    .unwrap_err();
    for mistake in [
        "attestation.policy: the signed policy decides: leave out root, allow_smt",
        "attestation.policy_key: missing",
        "attestation.state_dir: missing; `policy` needs a folder that survives restarts",
        "attestation.collateral_urls: expected http:// or https://",
        "attestation.max_evidence_age: expected more than no time at all",
        "attestation.appraisals_burst: expected at least 1",
    ] {
        assert!(found.contains(mistake), "{mistake} is missing in:\n{found}");
    }
    assert_eq!(found.lines().count(), 6, "{found}");
    let found =
        read("[attestation]\npolicy_key = \"RW\"\npolicy_signature = \"/s\"\ncollateral_urls = []").unwrap_err();
    for mistake in [
        "policy_key: expected a minisign",
        "policy_key: says something",
        "policy_signature: says",
        "urls: expected an address",
    ] {
        assert!(found.contains(mistake), "{mistake} is missing in:\n{found}");
    }
}

#[test]
fn a_root_is_loaded_from_pem_and_from_der() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root");
    let tee = Tee::new([3; 32]).unwrap();
    for content in [tee.root_pem().as_bytes(), tee.root_der()] {
        std::fs::write(&path, content).unwrap();
        let text = format!("[attestation]\nroot = \"{}\"\ncollateral = \"/c.json\"", path.display());
        let (_, attestation) = read(&text).unwrap();
        assert_eq!(inline(&attestation).0.as_der(), tee.root_der());
    }
}

#[test]
fn the_root_of_a_kms_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kms.pem");
    let tee = Tee::new([3; 32]).unwrap();
    std::fs::write(&path, tee.kms_root_pem()).unwrap();
    let text = format!("[attestation]\nkms_root = \"{}\"\ncollateral = \"/c.json\"", path.display());
    let root = KmsRoot::from_pem(tee.kms_root_pem().as_bytes()).unwrap();
    assert_eq!(read(&text).unwrap().1.certificates.kms_root, Some(root));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let found = read(
        r#"
        [agent]
        timeout = "0s"
        certificate_validity = "59s"
        [attestation]
        root = "/does/not/exist"
        kms_root = "/not/there/either"
        tcb_accept = ["Splendid"]
        "#,
    )
    .unwrap_err();
    for mistake in [
        "agent.timeout: expected more than no time at all",
        "agent.certificate_validity: expected at least one minute",
        "attestation.root: cannot read /does/not/exist: ",
        "attestation.kms_root: cannot read /not/there/either: ",
        "attestation.tcb_accept[0]: ",
        "attestation.collateral: missing; expected a path here, or the addresses of services",
    ] {
        assert!(found.contains(mistake), "{mistake} is missing in:\n{found}");
    }
    assert_eq!(found.lines().count(), 6, "{found}");
}

#[test]
fn a_file_that_holds_no_root_is_a_mistake_of_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.pem");
    std::fs::write(&path, "-----BEGIN NOTHING-----").unwrap();
    let found = read(&format!("[attestation]\nroot = \"{0}\"\ncollateral = \"/c\"", path.display())).unwrap_err();
    assert!(found.contains(&format!("attestation.root: {}: a trust root is one PEM", path.display())), "{found}");
}
