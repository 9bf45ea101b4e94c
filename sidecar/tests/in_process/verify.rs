//! `sidecar verify`, the binary, against servers and files.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use postern_attest_io::{Acceptor, ClientRule};
use postern_identity::{AppId, ComposeHash};
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_simulator::certificate::{Attestation, CertificateRequest};
use postern_simulator::{Cvm, Faults, Tee};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use crate::driver::SSL_REQUEST;
use crate::world::{SERVER_APP, agent, attestor, identity, tee};

const COMPOSE: &[u8] = b"{\"server\":true}";
const SCHEMA: &str = include_str!("../../src/verify/schema.md");
/// Intel's sample quote was current then.
const THEN: &str = "1751000000";

/// A folder with the simulated platform's root and collateral.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
}

pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    err: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.file("root.pem", tee().root_pem().as_bytes());
        desk.file("kms-root.pem", tee().kms_root_pem().as_bytes());
        desk.file("collateral.json", tee().collateral_bundle_json(unix_now()).unwrap().as_bytes());
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        std::fs::File::create(self.path(name)).unwrap().write_all(content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Under the simulated root.
    pub(crate) async fn verify(&self, arguments: &[&str]) -> Said {
        let root = self.path("root.pem");
        self.verify_under_intel(&[&["--root", root.to_str().unwrap()], arguments].concat()).await
    }

    async fn verify_under_intel(&self, arguments: &[&str]) -> Said {
        let collateral = self.path("collateral.json");
        run(&[arguments, &["--collateral", collateral.to_str().unwrap()]].concat()).await
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let said = self.verify(&[arguments, &["--json"]].concat()).await;
        (said.code, parse(&said))
    }

    fn certificate(&self, cvm: &Cvm, attestation: Attestation) -> String {
        let request = CertificateRequest { attestation, server_auth: true, ..CertificateRequest::default() };
        self.file("server.crt", cvm.certificate(&request, unix_now()).unwrap().chain.concat().as_bytes())
    }
}

async fn run(arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidecar"));
    let output = command.arg("verify").args(arguments).stdin(Stdio::null()).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn parse(said: &Said) -> Value {
    serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{} {}", said.out, said.err))
}

pub(crate) fn codes(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|statement| statement["code"].as_str().unwrap()).collect()
}

fn cvm(tee: Arc<Tee>) -> Cvm {
    Cvm::new(tee, SERVER_APP, COMPOSE.to_vec(), "server")
}

/// What clients do before TLS.
#[derive(Clone, Copy, PartialEq)]
enum Preamble {
    None,
    SslRequest(u8),
}

/// A server with the evidence of `cvm`. It must be told nothing inside TLS.
async fn server(folder: &Path, cvm: Cvm, preamble: Preamble) -> (SocketAddr, Task<()>) {
    let (socket, guest) = agent(folder, "server.sock", cvm);
    let acceptor = Acceptor::new(identity(&socket).await, attestor(), &["postgresql"], ClientRule::Optional);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = async move {
        let _guest = guest;
        while let Ok((mut stream, _)) = listener.accept().await {
            if let Preamble::SslRequest(answer) = preamble {
                let mut request = [0; 8];
                stream.read_exact(&mut request).await.unwrap();
                assert_eq!(request, SSL_REQUEST);
                stream.write_all(&[answer]).await.unwrap();
            }
            let Ok(mut accepted) = acceptor.accept(stream, Duration::from_secs(20)).await else { continue };
            let mut told = Vec::new();
            // A client that refuses the server leaves without a word.
            drop(accepted.stream.read_to_end(&mut told).await);
            assert!(told.is_empty());
        }
    };
    (address, Task::spawn("server", serving))
}

#[tokio::test]
async fn a_server_is_accepted_with_all_that_is_proven_and_all_that_is_not() {
    let desk = Desk::new();
    let (address, server) = server(desk.folder.path(), cvm(tee()), Preamble::None).await;
    let (app, compose) = (SERVER_APP.to_string(), cvm(tee()).compose_hash().to_string());
    let address = address.to_string();
    let named = ["db.example:5432", "--address", &address, "--app-id", &app, "--compose-hash", &compose];
    let (code, report) = desk.json(&named).await;
    assert_eq!((code, &report["verdict"], &report["reason"]), (Some(0), &json!("accepted"), &Value::Null));
    let subject = json!({
        "kind": "server", "name": "db.example:5432", "address": address, "sni": "db.example", "alpn": "postgresql",
    });
    assert_eq!(report["subject"], subject);
    assert_eq!(
        codes(&report["proven"]),
        [
            "quote_signed",
            "tcb",
            "td_protected",
            "key_bound",
            "key_possession",
            "event_log",
            "app_expected",
            "compose_hash_expected"
        ]
    );
    assert_eq!(codes(&report["not_proven"]), ["hardware", "image", "chain", "freshness", "name", "client"]);
    assert_eq!((&report["app"]["app_id"], &report["app"]["compose_hash"]), (&json!(app), &json!(compose)));
    assert_eq!(report["app"]["instance_id"], json!(cvm(tee()).instance_id().to_string()));
    assert_eq!(report["platform"]["device_id"], json!(tee().device_id().to_string()));

    let said = desk.verify(&named).await;
    assert_eq!(said.code, Some(0));
    assert!(said.out.starts_with("ACCEPTED: server db.example:5432\n"), "{}", said.out);
    for words in [app.as_str(), &compose, "NOT Intel's", "Proven:", "Not proven:", "holds that key", "was not asked"] {
        assert!(said.out.contains(words), "{words} in {}", said.out);
    }
    assert!(!server.is_finished(), "it was told something");
}

#[tokio::test]
async fn a_server_is_refused_for_another_root_app_and_composition_and_the_reason_is_told() {
    let desk = Desk::new();
    let (address, _server) = server(desk.folder.path(), cvm(tee()), Preamble::None).await;
    let address = address.to_string();
    let said = desk.verify_under_intel(&[&address]).await;
    assert!(said.code == Some(1) && said.out.starts_with("REFUSED: "), "{}", said.out);
    assert!(said.out.contains("not signed under the trusted root"), "{}", said.out);

    let (app, compose) = (AppId([9; 20]).to_string(), ComposeHash([9; 32]).to_string());
    for (arguments, reason) in [
        ([address.as_str(), "--app-id", &app], "app_not_expected"),
        ([&address, "--compose-hash", &compose], "compose_hash_not_expected"),
    ] {
        let (code, report) = desk.json(&arguments).await;
        assert_eq!((code, &report["verdict"]), (Some(1), &json!("refused")));
        assert_eq!(report["reason"]["code"], json!(reason));
        // Who it is instead is told as well.
        assert_eq!(report["app"]["app_id"], json!(SERVER_APP.to_string()));
        assert!(codes(&report["proven"]).contains(&"key_possession"));
    }
}

#[tokio::test]
async fn tls_can_be_asked_for_in_postgres_first() {
    let desk = Desk::new();
    for (answer, code, reason) in [
        (b'S', 0, Value::Null),
        (b'N', 2, json!("starttls")),
        (b'E', 2, json!("starttls")),
        (b'H', 2, json!("starttls")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (address, _server) = server(folder.path(), cvm(tee()), Preamble::SslRequest(answer)).await;
        let (found, report) = desk.json(&[&address.to_string(), "--starttls"]).await;
        assert_eq!((found, &report["reason"]["code"]), (Some(code), &reason), "{report}");
        assert_eq!(report["subject"]["sni"], Value::Null, "an address is no name");
    }
}

#[tokio::test]
async fn the_name_to_route_by_is_the_host_or_the_one_given() {
    let desk = Desk::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for (more, name) in [(&[][..], "host.example"), (&["--sni", "app.example"][..], "app.example")] {
        let arguments = [&["host.example:5432", "--address", &address], more].concat();
        let hello = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = vec![0; 4_096];
            let length = stream.read(&mut hello).await.unwrap();
            // Fatal alert 112, unrecognized_name, as a gateway sends it.
            stream.write_all(&[0x15, 3, 3, 0, 2, 2, 112]).await.unwrap();
            hello.truncate(length);
            hello
        };
        let ((code, report), hello) = tokio::join!(desk.json(&arguments), hello);
        assert!(hello.windows(name.len()).any(|part| part == name.as_bytes()));
        assert_eq!((code, &report["verdict"], &report["subject"]["sni"]), (Some(2), &json!("unknown"), &json!(name)));
        assert!(report["reason"]["text"].as_str().unwrap().contains("knows no app by this name"), "{report}");
    }
}

#[tokio::test]
async fn where_nobody_answers_nothing_can_be_told() {
    let desk = Desk::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for more in [&[][..], &["--starttls"]] {
        let (code, report) = desk.json(&[&[address.as_str(), "--timeout", "1"], more].concat()).await;
        assert!(code == Some(2) && report["reason"]["code"].as_str().unwrap().contains("deadline"), "{report}");
    }
    drop(listener);
    let said = desk.verify(&[&address]).await;
    assert!(said.code == Some(2) && said.out.starts_with("COULD NOT TELL: "), "{}", said.out);
    assert!(said.out.contains("cannot be reached"), "{}", said.out);
}

#[tokio::test]
async fn a_stolen_certificate_convinces_from_a_file_but_not_from_a_server() {
    let desk = Desk::new();
    let file = desk.certificate(&cvm(tee()), Attestation::Bound);
    let kms_root = desk.path("kms-root.pem").display().to_string();
    let (code, report) = desk.json(&["--cert", &file, "--kms-root", &kms_root]).await;
    assert_eq!((code, &report["subject"]["kind"]), (Some(0), &json!("certificate")));
    assert!(codes(&report["not_proven"]).contains(&"key_possession"));
    assert!(!codes(&report["proven"]).contains(&"key_possession"));

    // The thief has the certificate and a key of its own.
    let theirs = cvm(tee()).certificate(&CertificateRequest::default(), unix_now()).unwrap();
    let provider = Arc::new(default_provider());
    let key = PrivateKeyDer::from_pem_slice(theirs.key.as_bytes()).unwrap();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let stolen = CertificateDer::from_pem_file(&file).unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![stolen], key);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let arguments = [address.as_str()];
    let thief = async {
        let (stream, _) = listener.accept().await.unwrap();
        drop(TlsAcceptor::from(Arc::new(config)).accept(stream).await);
    };
    let ((code, report), ()) = tokio::join!(desk.json(&arguments), thief);
    assert_eq!((code, &report["verdict"]), (Some(1), &json!("refused")), "{report}");
    assert!(report["reason"]["text"].as_str().unwrap().contains("holds its certificate's key"), "{report}");
}

#[tokio::test]
async fn what_a_kms_issued_is_judged_where_its_root_is_given() {
    let desk = Desk::new();
    let file = desk.certificate(&cvm(tee()), Attestation::Bound);
    let (code, report) = desk.json(&["--cert", &file]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(2), &json!("issuer_not_pinned")));
    let kms_root = desk.path("kms-root.pem").display().to_string();
    let (code, report) = desk.json(&["--cert", &file, "--kms-root", &kms_root]).await;
    assert_eq!((code, &report["reason"]), (Some(0), &Value::Null));
    assert!(codes(&report["proven"]).contains(&"issued_by_kms"));
    let other = desk.file("other.pem", Tee::new([8; 32]).unwrap().kms_root_pem().as_bytes());
    let (code, report) = desk.json(&["--cert", &file, "--kms-root", &other]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(1), &json!("kms_chain")));
    let (code, report) = desk.json(&["--cert", &file, "--kms-root", &file]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(2), &json!("kms_root")));
}

#[tokio::test]
async fn certificates_that_do_not_hold_are_refused_each_for_its_reason() {
    let desk = Desk::new();
    let elsewhere = Arc::new(Tee::new([8; 32]).unwrap());
    let revoked = Faults { revoked_pck: true, ..Faults::default() };
    let revoked = Arc::new(Tee::with_faults([7; 32], revoked).unwrap());
    for (platform, attestation, reason) in [
        (tee(), Attestation::None, "no_quote"),
        (tee(), Attestation::OtherKey, "key_not_bound"),
        (elsewhere, Attestation::Bound, "other_root"),
    ] {
        let file = desk.certificate(&cvm(platform), attestation);
        let (code, report) = desk.json(&["--cert", &file]).await;
        assert_eq!((code, &report["reason"]["code"]), (Some(1), &json!(reason)));
        assert_eq!((codes(&report["proven"]).len(), codes(&report["not_proven"])), (0, vec!["evidence"]));
        assert_eq!((&report["app"], &report["registers"]), (&Value::Null, &Value::Null));
    }
    desk.file("collateral.json", revoked.collateral_bundle_json(unix_now()).unwrap().as_bytes());
    let file = desk.certificate(&cvm(revoked), Attestation::Bound);
    let (code, report) = desk.json(&["--cert", &file]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(1), &json!("revoked")));
}

#[tokio::test]
async fn a_quote_proves_an_app_only_together_with_its_log_and_never_a_key() {
    let desk = Desk::new();
    let machine = cvm(tee());
    let raw = machine.quote([3; 64]);
    let quote = desk.file("quote", &raw);
    let hexed = desk.file("quote.hex", format!("0x{}\n", hex::encode(&raw)).as_bytes());
    let log = desk.file("log", &machine.event_log().to_json().unwrap());
    let other = Cvm::new(tee(), AppId([1; 20]), COMPOSE.to_vec(), "server");
    let other = desk.file("other", &other.event_log().to_json().unwrap());
    let app = SERVER_APP.to_string();
    for file in [&quote, &hexed] {
        let (code, report) = desk.json(&["--quote", file, "--event-log", &log, "--app-id", &app]).await;
        assert_eq!((code, &report["app"]["app_id"]), (Some(0), &json!(app)));
        assert_eq!(report["report_data"], json!("03".repeat(64)));
        assert!(codes(&report["not_proven"]).contains(&"key_binding"));
    }
    let (code, report) = desk.json(&["--quote", &quote]).await;
    assert_eq!((code, &report["app"]), (Some(0), &Value::Null));
    assert!(codes(&report["not_proven"]).contains(&"event_log"));
    for (more, code, reason) in [
        (&["--app-id", &app][..], 2, "app_unknown"),
        (&["--event-log", &other], 1, "event_log_not_measured"),
        (&["--event-log", &quote], 1, "event_log"),
    ] {
        let (found, report) = desk.json(&[&["--quote", &quote], more].concat()).await;
        assert_eq!((found, &report["reason"]["code"]), (Some(code), &json!(reason)));
    }
}

#[tokio::test]
async fn intels_sample_quote_is_genuine_at_its_time_and_cannot_be_judged_at_another() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("attest/testdata");
    let [quote, collateral] =
        ["tdx_quote", "tdx_quote_collateral.json"].map(|name| testdata.join(name).to_str().unwrap().to_owned());
    let arguments = ["--quote", &quote, "--collateral", &collateral];
    let said = run(&[&arguments[..], &["--json", "--at", THEN]].concat()).await;
    let report = parse(&said);
    assert_eq!((said.code, &report["root"]["intel"]), (Some(0), &json!(true)));
    let mrtd = "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7";
    assert_eq!(report["registers"]["mrtd"], json!(mrtd));
    assert_eq!(report["platform"]["fmspc"], json!("B0C06F000000"));
    assert_eq!(codes(&report["proven"]), ["quote_signed", "tcb", "td_protected"]);
    assert_eq!(
        codes(&report["not_proven"]),
        ["image", "chain", "freshness", "key_binding", "event_log", "time"],
        "hardware is proven"
    );

    let said = run(&[&arguments[..], &["--at", "1800000000"]].concat()).await;
    assert!(said.code == Some(2) && said.out.contains("(collateral_not_current)"), "{}", said.out);
    let flipped = tempfile::tempdir().unwrap();
    let file = flipped.path().join("quote");
    let mut bytes = std::fs::read(&quote).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let said = run(&["--quote", file.to_str().unwrap(), "--collateral", &collateral, "--at", THEN]).await;
    assert!(said.code == Some(1) && said.out.starts_with("REFUSED: quote "), "{}", said.out);
}

#[tokio::test]
async fn garbage_is_refused_and_what_cannot_be_read_is_not_judged() {
    let desk = Desk::new();
    let garbage = desk.file("garbage", &[0x30; 5_000]);
    let huge = desk.file("huge", &vec![0; 5 << 20]);
    let pem = desk.file("pem", b"-----BEGIN NOTHING-----\n");
    for (kind, file, code, reason) in [
        ("--quote", &garbage, 1, "quote_malformed"),
        ("--cert", &garbage, 1, "certificate_not_x509"),
        ("--cert", &pem, 1, "certificate_not_x509"),
        ("--quote", &huge, 2, "file_too_large"),
        ("--cert", &huge, 2, "file_too_large"),
        ("--cert", &desk.folder.path().join("nothing").display().to_string(), 2, "file"),
        ("--root", &garbage, 2, "root"),
        ("--collateral", &garbage, 2, "collateral"),
        ("--collateral", &huge, 2, "file_too_large"),
    ] {
        let collateral = desk.path("collateral.json");
        let mut arguments = vec!["--json", kind, file];
        if kind != "--collateral" {
            arguments.extend(["--collateral", collateral.to_str().unwrap()]);
        }
        if !["--quote", "--cert"].contains(&kind) {
            arguments.extend(["--quote", &garbage]);
        }
        let said = run(&arguments).await;
        let report = parse(&said);
        assert_eq!((said.code, &report["reason"]["code"]), (Some(code), &json!(reason)), "{kind} {file}");
    }
}

#[tokio::test]
async fn wrong_usage_has_its_own_code() {
    for arguments in [
        &["db.example:5432"][..],
        &["--collateral", "c"],
        &["db.example:5432", "--cert", "f", "--collateral", "c"],
        &["db.example", "--collateral", "c"],
        &["--cert", "f", "--event-log", "l", "--collateral", "c"],
        &["--cert", "f", "--starttls", "--collateral", "c"],
        &["--cert", "f", "--app-id", "12", "--collateral", "c"],
        &["--quote", "f", "--kms-root", "k", "--collateral", "c"],
        &["--quote", "f", "--ita-url", "https://ita.example", "--ita-key-file", "k", "--collateral", "c"],
        &["--quote", "f", "--ita-jwks", "j", "--collateral", "c"],
        &[
            "--quote",
            "f",
            "--ita-url",
            "http://ita.example",
            "--ita-key-file",
            "k",
            "--ita-jwks",
            "j",
            "--collateral",
            "c",
        ],
    ] {
        let said = run(arguments).await;
        assert!(said.code == Some(64) && said.out.is_empty(), "{arguments:?} {}", said.err);
    }
}

/// Programs depend on these names. A change of one is a new schema.
#[tokio::test]
async fn the_schema_is_the_documented_one() {
    let desk = Desk::new();
    let (address, _server) = server(desk.folder.path(), cvm(tee()), Preamble::None).await;
    let (_, report) = desk.json(&["db.example:5432", "--address", &address.to_string()]).await;
    let (_, refused) = desk.json(&["--quote", "/nonexistent"]).await;
    let mut names = Vec::new();
    paths("", &report, &mut names);
    paths("reason", &refused["reason"], &mut names);
    names.sort();
    assert_eq!(names.join("\n"), include_str!("verify_schema_1.txt").trim_end());
    let top = |report: &Value| report.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(top(&refused), top(&report), "what is not known is null, and not left out");
    let help = run(&["--help"]).await;
    assert_eq!(help.code, Some(0));
    for line in &names {
        let path = line.split(' ').next().unwrap();
        let name = path.trim_end_matches("[]").rsplit('.').next().unwrap();
        assert!(SCHEMA.contains(&format!("`{name}`")) && help.out.contains(name), "{name} is not documented");
    }
    for list in ["proven", "not_proven"] {
        for code in codes(&report[list]) {
            assert!(SCHEMA.contains(&format!("`{code}`")), "{code} is not documented");
        }
    }
}

/// Each field and its type.
fn paths(prefix: &str, value: &Value, names: &mut Vec<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            return match items.first() {
                Some(first @ Value::Object(_)) => paths(&format!("{prefix}[]"), first, names),
                _ => names.push(format!("{prefix}[] list")),
            };
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                paths(&path, value, names);
            }
            return;
        }
    };
    names.push(format!("{prefix} {kind}"));
}
