//! dstack's public SDKs, unmodified, at the simulator: what they are given holds before a verifier.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic, in its helpers too")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use postern_attest::certificate::{CertificateError, evidence, evidence_of_chain};
use postern_attest::event_log::EventLog;
use postern_attest::{Appraiser, CertificateRules, Collateral, KmsRoot, TcbPolicy, TrustRoot};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_simulator::{Algorithm, Cvm, Tee};
use serde_json::Value;

const APP: AppId = AppId([0xa0; 20]);
const COMPOSE: &str = r#"{"name":"ledger"}"#;

/// HKDF-SHA256 by another implementation: salt "RATLS", info "pg/superuser", under the key that the seed 07 .. 07 gives the app.
const SUPERUSER: &str = "731f8c160324d4ec37b74df58e1f4c3dce4d30953846a77f587030e84c38fbab";

/// A running simulator.
struct Simulator {
    process: Child,
    socket: String,
    url: String,
    _folder: tempfile::TempDir,
}

impl Simulator {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (seed, compose) = (folder.path().join("seed"), folder.path().join("app-compose.json"));
        std::fs::write(&seed, "07".repeat(32)).unwrap();
        std::fs::write(&compose, COMPOSE).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_simulator"))
            .args(["agent", "--app-id", &APP.to_string(), "--instance", "one", "--listen", "127.0.0.1:0"])
            .arg("--seed-file")
            .arg(seed)
            .arg("--compose")
            .arg(compose)
            .arg("--socket")
            .arg(folder.path().join("agent.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut endpoint = || {
            let line = lines.next().unwrap().unwrap();
            line.strip_prefix("DSTACK_SIMULATOR_ENDPOINT=").unwrap().to_owned()
        };
        let (socket, url) = (endpoint(), endpoint());
        Self { process, socket, url, _folder: folder }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn sdk() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk")
}

/// Prepares the SDKs below the workspace's target folder.
fn prepared() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("sdk");
    let output = Command::new(sdk().join("prepare")).arg(&folder).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    folder
}

fn python() -> Command {
    let mut command = Command::new(prepared().join("python/bin/python"));
    command.arg("-I").arg(sdk().join("ask.py"));
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.arg(sdk().join("ask.cjs")).env("NODE_PATH", prepared().join("node/node_modules"));
    command
}

/// What an SDK was answered at an endpoint.
fn ask(mut command: Command, endpoint: &str) -> Value {
    let output = command.env("DSTACK_SIMULATOR_ENDPOINT", endpoint).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat()
}

#[test]
fn the_python_sdk_on_the_unix_socket() {
    let simulator = Simulator::start();
    check(&ask(python(), &simulator.socket));
}

#[test]
fn the_python_sdk_on_tcp() {
    let simulator = Simulator::start();
    check(&ask(python(), &simulator.url));
}

#[test]
fn the_javascript_sdk_on_the_unix_socket() {
    let simulator = Simulator::start();
    check(&ask(node(), &simulator.socket));
}

#[test]
fn the_javascript_sdk_on_tcp() {
    let simulator = Simulator::start();
    check(&ask(node(), &simulator.url));
}

#[test]
fn what_is_missing_on_the_machine_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for missing in ["python3", "node", "npm"] {
        let output = Command::new("/bin/bash").arg(sdk().join("prepare")).env("PATH", folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(&format!("{missing} is missing, and")), "{}", text(&output));
        symlink("/bin/true", folder.path().join(missing)).unwrap();
    }
}

/// Holds the answers against the vectors, and against what a verifier finds who trusts the simulated root.
fn check(answers: &Value) {
    let cvm = Cvm::new(Arc::new(Tee::new([7; 32]).unwrap()), APP, COMPOSE.into(), "one");
    let verifier = Verifier::new(&cvm);
    assert_eq!(answers["reachable"], true);
    assert!(string(&answers["version"]["version"]).starts_with("0.6."));
    check_info(&answers["info"], &cvm);
    check_tls_keys(answers, &cvm, &verifier);
    check_quote(answers, &cvm, &verifier);
    check_keys(answers, &cvm);
    for (what, refusal) in answers["refusals"].as_object().unwrap() {
        assert!(!string(refusal).is_empty(), "{what}");
    }
}

fn check_info(info: &Value, cvm: &Cvm) {
    assert_eq!(string(&info["app_id"]), APP.to_string());
    assert_eq!(string(&info["instance_id"]), cvm.instance_id().to_string());
    assert_eq!(string(&info["compose_hash"]), cvm.compose_hash().to_string());
    assert_eq!(string(&info["app_name"]), "ledger");
    assert_eq!(string(&info["tcb_info"]["app_compose"]), COMPOSE);
    assert_eq!(string(&info["tcb_info"]["rtmr3"]), cvm.measurements().rtmr[3].to_string());
    assert_eq!(info["tcb_info"]["event_log"].as_array().unwrap().len(), cvm.event_log().0.len());
    assert!(evidence(&der(&info["app_cert"])).unwrap().is_bound());
}

fn check_tls_keys(answers: &Value, cvm: &Cvm, verifier: &Verifier) {
    for name in ["tls_key", "dated", "plain"] {
        assert_eq!(answers[name]["key_fits"], true, "the certificate of {name} is for another key");
        assert_eq!(answers[name]["certificate_chain"].as_array().unwrap().len(), 3);
    }
    let leaf = |name: &str| der(&answers[name]["certificate_chain"][0]);

    let above = [1, 2].map(|place| der(&answers["tls_key"]["certificate_chain"][place]).into());
    let found = evidence_of_chain(&leaf("tls_key"), &above).unwrap();
    assert!(found.is_bound());
    verifier.simulated.appraise(&found, &verifier.collateral, verifier.now).unwrap_err();
    let kms_root = KmsRoot::from_pem(cvm.tee().kms_root_pem().as_bytes()).ok();
    let pinned = CertificateRules { kms_root, ..CertificateRules::default() };
    let pinning = verifier.simulated.clone().with_certificates(pinned);
    let appraisal = pinning.appraise(&found, &verifier.collateral, verifier.now).unwrap();
    assert_eq!(appraisal.identity.app_id, APP);
    assert_eq!(appraisal.identity.instance_id, cvm.instance_id());
    assert_eq!(appraisal.rtmr, cvm.measurements().rtmr);
    assert_eq!(appraisal.tcb_status, "UpToDate");
    verifier.intel.appraise(&found, &verifier.collateral, verifier.now).unwrap_err();

    assert_eq!(found.claimed_app_info, None);

    let dated = evidence(&leaf("dated")).unwrap();
    assert_eq!((dated.not_before, dated.not_after), (1_700_000_000, 1_700_000_060));
    let claimed = dated.claimed_app_info.unwrap();
    assert_eq!((claimed.app_id, claimed.compose_hash), (APP, cvm.compose_hash()));
    assert_eq!((claimed.mr_system, claimed.mr_aggregated), (appraisal.mr_system, appraisal.mr_aggregated));
    assert_eq!(evidence(&leaf("plain")).unwrap_err(), CertificateError::NoQuote);
}

fn check_quote(answers: &Value, cvm: &Cvm, verifier: &Verifier) {
    let mut report_data = [0; 64];
    report_data[..7].copy_from_slice(b"postern");
    let answer = &answers["quote"];
    assert_eq!(string(&answer["report_data"]), hex::encode(report_data));
    let quote = hex::decode(string(&answer["quote"])).unwrap();
    let claims = verifier.simulated.appraise_quote(&quote, &verifier.collateral, verifier.now).unwrap();
    assert_eq!(claims.report_data, report_data);
    verifier.intel.appraise_quote(&quote, &verifier.collateral, verifier.now).unwrap_err();

    let log = EventLog::from_json(string(&answer["event_log"]).as_bytes()).unwrap();
    assert_eq!(log.replay_rtmr3().unwrap(), claims.rtmr[3]);
    assert_eq!(log.identity().unwrap().app_id, APP);
    // The SDKs replay all four registers from the digests in the log.
    let replayed: Vec<&str> = answers["replayed"].as_array().unwrap().iter().map(string).collect();
    assert_eq!(replayed, claims.rtmr.map(|register| register.to_string()));
    assert_eq!(claims.rtmr, cvm.measurements().rtmr);

    // Version 0, TDX, and the quote behind its length in two bytes.
    let attestation = hex::decode(string(&answers["attestation"])).unwrap();
    assert_eq!(attestation[..2], [0, 0]);
    assert!(attestation[4..].starts_with(&quote));
}

fn check_keys(answers: &Value, cvm: &Cvm) {
    assert_eq!(string(&answers["key"]), SUPERUSER);
    assert_eq!(string(&answers["key"]), hex::encode(*cvm.derive_key("pg/superuser")));
    for key in answers["keys"].as_array().unwrap() {
        assert_eq!(string(key), SUPERUSER, "a key does not depend on how it is asked for");
    }
    let root = hex::encode(cvm.kms_root_public_key().unwrap());
    let vouchers = &answers["vouchers"];
    assert_eq!(string(&vouchers["root"]), root);
    for (algorithm, signed) in answers["signed"].as_object().unwrap() {
        assert_eq!(signed["vouchers"], *vouchers, "{algorithm}: one application, one root");
        assert_eq!((&signed["valid"], &signed["forged"]), (&true.into(), &false.into()), "{algorithm}");
    }
    let expected = cvm.sign(Algorithm::Ed25519, b"data").unwrap();
    assert_eq!(string(&answers["signed"]["ed25519"]["signature"]), hex::encode(expected.signature));
}

/// Two appraisers at one time: one that trusts the simulated root, and one that trusts Intel's.
struct Verifier {
    simulated: Appraiser,
    intel: Appraiser,
    collateral: Collateral,
    now: u64,
}

impl Verifier {
    fn new(cvm: &Cvm) -> Self {
        let now = unix_now();
        let root = TrustRoot::from_der(cvm.tee().root_der().to_vec()).unwrap();
        let bundle = cvm.tee().collateral_bundle_json(now).unwrap();
        Self {
            simulated: Appraiser::new(root, TcbPolicy::default()),
            intel: Appraiser::new(TrustRoot::intel(), TcbPolicy::default()),
            collateral: Collateral::from_json(bundle.as_bytes()).unwrap(),
            now,
        }
    }
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn der(pem: &Value) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(string(pem).as_bytes()).unwrap().1.contents
}
