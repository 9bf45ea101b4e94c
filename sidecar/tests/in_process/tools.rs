//! `sidecar collateral` and `sidecar policy`, the binary.

use std::path::PathBuf;

use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_simulator::certificate::CertificateRequest;
use postern_simulator::{Cvm, Measurements, PolicySigner, Tee, collateral_service};
use tokio::net::TcpListener;

use crate::binary::Said;
use crate::world::{SERVER_APP, tee};

const DAY: u64 = 86_400;

struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.put("root.pem", tee().root_pem());
        std::fs::create_dir(desk.path("state")).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// What Intel would have said then.
    fn issue(&self, name: &str, then: u64) {
        self.put(name, tee().collateral_bundle_json(then).unwrap());
    }

    /// Runs the program in the desk's folder, and expects an exit code and some words.
    async fn expect(&self, code: i32, words: &str, arguments: &str) {
        let given: Vec<&str> = arguments.split(' ').collect();
        let said = Said::by(&given, self.0.path()).await;
        let text = format!("{}{}", said.out, said.err);
        assert_eq!(said.code, Some(code), "{arguments}: {text}");
        assert!(text.contains(words), "{arguments}: {text}");
    }
}

#[tokio::test]
async fn a_bundle_is_fetched_carried_in_and_carried_on() {
    let desk = Desk::new();
    let cvm = Cvm::new(tee(), SERVER_APP, b"{}".to_vec(), "server");
    desk.put("quote.bin", cvm.quote([0; 64]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = collateral_service::serve(listener, tee(), unix_now, std::future::pending());
    let service = Task::spawn("collateral service", async move { drop(serving.await) });

    let fetch = format!("collateral fetch --quote quote.bin --url {url} --root root.pem --out");
    desk.expect(0, "good: signed under a root that is NOT Intel's", &format!("{fetch} bundle.json")).await;
    desk.expect(
        1,
        "not what the trusted root's authorities issue",
        &format!("{} x.json", fetch.replace("--root root.pem ", "")),
    )
    .await;
    service.stop().await;
    desk.expect(69, "no source gave collateral", &format!("{fetch} x.json")).await;
    assert!(!desk.path("x.json").exists());

    desk.expect(0, "in force", "collateral import bundle.json --state-dir state --root root.pem").await;
    desk.expect(0, "good", "collateral show --state-dir state --root root.pem").await;
    desk.expect(1, "NOT GOOD", "collateral show --state-dir state").await;
    desk.expect(0, "good", "collateral export --state-dir state --root root.pem --out out.json").await;
    let exported = std::fs::read(desk.path("out.json")).unwrap();
    assert_eq!(exported, std::fs::read(desk.path("bundle.json")).unwrap());
}

#[tokio::test]
async fn what_is_older_foreign_or_over_is_not_carried_in() {
    let desk = Desk::new();
    let import = |name: &str| format!("collateral import {name} --state-dir state --root root.pem");
    desk.issue("new.json", unix_now());
    desk.issue("old.json", unix_now() - 2 * DAY);
    desk.issue("over.json", unix_now() - 40 * DAY);
    desk.put("foreign.json", Tee::new([99; 32]).unwrap().collateral_bundle_json(unix_now()).unwrap());
    desk.expect(0, "good", &import("new.json")).await;
    desk.expect(1, "older than one that was accepted before", &import("old.json")).await;
    desk.expect(1, "is in force from", &import("over.json")).await;
    desk.expect(1, "not what the trusted root's authorities issue", &import("foreign.json")).await;
    desk.expect(69, "missing.json", &import("missing.json")).await;
    desk.expect(69, "is no folder", "collateral import new.json --state-dir nowhere --root root.pem").await;
    desk.expect(0, "good", "collateral show --state-dir state --root root.pem").await;

    let lock = postern_attest_io::StateFolder::at(desk.path("state")).lock().unwrap();
    desk.expect(75, "in use by another program", &import("new.json")).await;
    drop(lock);
    desk.expect(64, "required", "collateral fetch --out x.json").await;
}

#[tokio::test]
async fn a_certificate_is_judged_by_a_signed_policy() {
    let desk = Desk::new();
    let (signer, image) = (PolicySigner::new([4; 32]).unwrap(), Measurements::default());
    let cvm = Cvm::new(tee(), SERVER_APP, b"{}".to_vec(), "server");
    let request = CertificateRequest { server_auth: true, ..CertificateRequest::default() };
    desk.put("server.crt", cvm.certificate(&request, unix_now()).unwrap().chain.concat());
    desk.put("kms-root.pem", tee().kms_root_pem());
    desk.issue("collateral.json", unix_now());
    let policy = |apps: &str, expires: &str| {
        let [rtmr0, rtmr1, rtmr2] = [0, 1, 2].map(|index| image.rtmr[index]);
        let text = format!(
            "version = 1\nexpires = {expires}\ninsecure_root = '''{}'''\n[peers]\napps = [\"{apps}\"]\n[[cohort]]\n\
             name = \"release 9\"\nmrtd = \"{}\"\nrtmr0 = \"{rtmr0}\"\nrtmr1 = \"{rtmr1}\"\nrtmr2 = \"{rtmr2}\"\n",
            tee().root_pem(),
            image.mrtd
        );
        desk.put("policy.toml.minisig", signer.sign(text.as_bytes()));
        desk.put("policy.toml", text);
    };
    let unpinned = format!(
        "verify --cert server.crt --collateral collateral.json --policy policy.toml --policy-key {}",
        signer.public_key()
    );
    let verify = format!("{unpinned} --kms-root kms-root.pem");
    policy(&SERVER_APP.to_string(), "2100-01-01T00:00:00Z");
    desk.expect(2, "issuer_not_pinned", &unpinned).await;
    desk.expect(0, "those of \"release 9\"", &verify).await;
    policy(&"ab".repeat(20), "2100-01-01T00:00:00Z");
    desk.expect(1, "app_not_expected", &verify).await;
    policy(&SERVER_APP.to_string(), "2020-01-01T00:00:00Z");
    desk.expect(2, "the policy expired", &verify).await;
    desk.expect(64, "policy-key", "verify --cert server.crt --collateral collateral.json --policy policy.toml").await;
}

#[tokio::test]
async fn a_policy_is_put_into_words_and_judged_as_a_program_would() {
    let desk = Desk::new();
    let signer = PolicySigner::new([4; 32]).unwrap();
    let policy = |version: u64, expires: &str| {
        let text = format!("version = {version}\nexpires = {expires}\ninsecure_any_image = true\n[peers]\napps = []\n");
        desk.put("policy.toml.minisig", signer.sign(text.as_bytes()));
        desk.put("policy.toml", text);
    };
    let check = format!("policy check policy.toml --key {}", signer.public_key());
    policy(7, "2100-01-01T00:00:00Z");
    desk.expect(0, "good: signed by", &check).await;
    for words in
        ["policy of version 7", "2100-01-01", "root           Intel's", "NONE: nobody is welcome", "images         ANY"]
    {
        desk.expect(0, words, "policy show policy.toml").await;
    }
    desk.put("state/policy-mark.json", format!("{{\"version\":8,\"digest\":\"{}\"}}", "00".repeat(32)));
    desk.expect(1, "version 7, and version 8 has been in force", &format!("{check} --state-dir state")).await;
    policy(9, "2020-01-01T00:00:00Z");
    desk.expect(1, "expired", &check).await;
    desk.expect(0, "EXPIRED", "policy show policy.toml").await;
    desk.put("policy.toml", "version = 9");
    desk.expect(1, "not signed by the expected key", &check).await;
    desk.expect(1, "cannot be read", "policy show policy.toml").await;
    desk.expect(69, "none.toml", "policy show none.toml").await;
    desk.expect(64, "minisign public key", "policy check policy.toml --key RW").await;
}
