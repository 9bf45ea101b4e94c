use postern_plumbing::config::Document;
use postern_simulator::Tee;

use super::*;

/// What both sections say, or every mistake in them.
fn read(text: &str) -> Result<(AgentSettings, AttestationSettings), String> {
    let mut document = Document::parse(text, [], "TEST").map_err(|problems| problems.to_string())?;
    let agent = AgentSettings::from_section(&mut document.section("agent"));
    let attestation = AttestationSettings::from_section(&mut document.section("attestation"));
    document.finish_with(attestation.map(|attestation| (agent, attestation))).map_err(|problems| problems.to_string())
}

#[test]
fn what_is_left_out_has_its_default() {
    let (agent, attestation) = read("[attestation]\ncollateral = \"/c.json\"").unwrap();
    assert_eq!((agent.endpoint, agent.timeout), (None, Duration::from_secs(10)));
    assert_eq!(agent.certificate_validity, Duration::from_secs(24 * 60 * 60));
    assert!(attestation.root.is_intel());
    assert_eq!(attestation.collateral, PathBuf::from("/c.json"));
    assert_eq!(attestation.policy, TcbPolicy::default());
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
        "#,
    )
    .unwrap();
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
    assert_eq!(attestation.policy, expected);
    assert!(attestation.root.is_intel());
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
        assert_eq!(attestation.root.as_der(), tee.root_der());
        assert!(!attestation.root.is_intel());
    }
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
        tcb_accept = ["Splendid"]
        "#,
    )
    .unwrap_err();
    for mistake in [
        "agent.timeout: expected more than no time at all",
        "agent.certificate_validity: expected at least one minute",
        "attestation.root: cannot read /does/not/exist: ",
        "attestation.tcb_accept[0]: ",
        "attestation.collateral: missing; expected a path",
    ] {
        assert!(found.contains(mistake), "{mistake} is missing in:\n{found}");
    }
    assert_eq!(found.lines().count(), 5, "{found}");
}

#[test]
fn a_file_that_holds_no_root_is_a_mistake_of_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.pem");
    std::fs::write(&path, "-----BEGIN NOTHING-----").unwrap();
    let found = read(&format!("[attestation]\nroot = \"{0}\"\ncollateral = \"/c\"", path.display())).unwrap_err();
    assert!(found.contains(&format!("attestation.root: {}: a trust root is one PEM", path.display())), "{found}");
}

#[test]
fn an_attestor_judges_by_what_the_section_names() {
    let folder = tempfile::tempdir().unwrap();
    let tee = Tee::new([4; 32]).unwrap();
    let bundle = tee.collateral_bundle_json(1_800_000_000).unwrap();
    let collateral = folder.path().join("collateral.json");
    let settings = AttestationSettings {
        root: TrustRoot::from_der(tee.root_der().to_vec()).unwrap(),
        collateral: collateral.clone(),
        policy: TcbPolicy::default(),
    };
    assert!(matches!(settings.attestor(), Err(CollateralFileError::Unreadable { path, .. }) if path == collateral));
    std::fs::write(&collateral, &bundle).unwrap();
    let attestor = settings.attestor().unwrap();
    assert_eq!(*attestor.collateral(), postern_attest::Collateral::from_json(bundle.as_bytes()).unwrap());
    assert_eq!(attestor.appraiser().root(), &settings.root);
}
