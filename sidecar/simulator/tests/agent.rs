//! The guest agent as clients meet it: bytes on a Unix socket or a TCP port.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic, in its helpers too")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::certificate::{CertificateError, Evidence, Usage, evidence};
use postern_attest::event_log::Event;
use postern_identity::AppId;
use postern_plumbing::tasks::Tasks;
use postern_simulator::certificate::{Attestation, CertificateRequest};
use postern_simulator::{Algorithm, Cvm, Tee, agent};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

const NOW: u64 = 1_800_000_000;
const COMPOSE: &[u8] = br#"{"name":"ledger"}"#;

struct Served {
    folder: tempfile::TempDir,
    tcp: SocketAddr,
    cvm: Arc<Cvm>,
}

/// Sends raw bytes, reads to the end, and cuts at the first empty line, as the simplest of the public clients do.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> (String, Vec<u8>) {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let end = response.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    (String::from_utf8(response[..end].to_vec()).unwrap().to_lowercase(), response[end + 4..].to_vec())
}

impl Served {
    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    async fn raw(&self, request: &str) -> (String, Vec<u8>) {
        exchange(UnixStream::connect(self.socket()).await.unwrap(), request).await
    }

    async fn post(&self, target: &str, body: &str) -> (u16, Value) {
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: dstack\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (head, body) = self.raw(&request).await;
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: dstack\r\nConnection: close\r\n\r\n");
        let (head, body) = self.raw(&request).await;
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_slice(&body).unwrap_or_default())
    }
}

async fn serve() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let tee = Arc::new(Tee::new([7; 32]).unwrap());
    let cvm = Arc::new(Cvm::new(tee, AppId([0xa0; 20]), COMPOSE.to_vec(), "one"));
    let unix = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let (on_unix, on_tcp) = (Arc::clone(&cvm), Arc::clone(&cvm));
    let tasks = Tasks::new();
    tasks.spawn("unix", async move { agent::serve(unix, on_unix, || NOW, std::future::pending()).await.unwrap() });
    tasks.spawn("tcp", async move { agent::serve(tcp, on_tcp, || NOW, std::future::pending()).await.unwrap() });
    Served { folder, tcp: address, cvm }
}

/// The runtime part of the log without its digests, which is all that a certificate carries.
fn runtime_events(cvm: &Cvm) -> Vec<Event> {
    cvm.event_log().runtime_events().map(|(_, event)| Event { digest: Vec::new(), ..event.clone() }).collect()
}

fn leaf_der(answer: &Value) -> Vec<u8> {
    let pem = answer["certificate_chain"][0].as_str().unwrap();
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

#[tokio::test]
async fn a_tls_key_comes_with_evidence_for_itself() {
    let served = serve().await;
    let request = json!({
        "subject": "sqlx-ra-tls-client", "alt_names": [], "usage_ra_tls": true,
        "usage_server_auth": false, "usage_client_auth": true,
    });
    let (status, answer) = served.post("/GetTlsKey", &request.to_string()).await;
    assert_eq!(status, 200);
    assert!(answer["key"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(answer["certificate_chain"].as_array().unwrap().len(), 3);

    let evidence = evidence(&leaf_der(&answer)).unwrap();
    assert_eq!(evidence.event_log.0, runtime_events(&served.cvm));
    assert_eq!(evidence.claimed_app_id, Some(served.cvm.app_id()));
    assert_eq!(evidence.usage, Some(Usage::App));
    assert_eq!(evidence.not_before, NOW - 60);
    assert!(evidence.is_bound());
}

#[tokio::test]
async fn every_tls_key_is_fresh_and_carries_no_quote_unless_asked() {
    let served = serve().await;
    let (_, one) = served.post("/GetTlsKey", "{}").await;
    let (_, two) = served.post("/GetTlsKey", "").await;
    assert_ne!(one["key"], two["key"]);
    assert_eq!(evidence(&leaf_der(&one)).unwrap_err(), CertificateError::NoQuote);
}

#[tokio::test]
async fn a_tls_key_has_the_dates_that_were_asked_for() {
    let served = serve().await;
    let body = format!(r#"{{"usage_ra_tls":true,"not_before":{NOW},"not_after":{}}}"#, NOW + 60);
    let (_, answer) = served.post("/GetTlsKey", &body).await;
    let Evidence { not_before, not_after, .. } = evidence(&leaf_der(&answer)).unwrap();
    assert_eq!((not_before, not_after), (NOW, NOW + 60));
    let (status, answer) = served.post("/GetTlsKey", r#"{"not_before":5,"not_after":5}"#).await;
    assert_eq!((status, &answer["error"]), (400, &json!("not_before must be earlier than not_after")));
}

#[tokio::test]
async fn app_info_comes_when_it_is_asked_for() {
    let served = serve().await;
    let (_, plain) = served.post("/GetTlsKey", r#"{"usage_ra_tls":true}"#).await;
    assert_eq!(evidence(&leaf_der(&plain)).unwrap().claimed_app_info, None);
    let (_, answer) = served.post("/GetTlsKey", r#"{"usage_ra_tls":true,"with_app_info":true}"#).await;
    let claimed = evidence(&leaf_der(&answer)).unwrap().claimed_app_info.unwrap();
    let (_, info) = served.get("/Info").await;
    assert_eq!(json!(claimed.app_id), info["app_id"]);
    assert_eq!(json!(claimed.compose_hash), info["compose_hash"]);
    assert_eq!(json!(claimed.instance_id), info["instance_id"]);
    assert_eq!(json!(claimed.device_id), info["device_id"]);
    assert_eq!(json!(hex::encode(claimed.mr_aggregated)), info["mr_aggregated"]);
    assert_eq!(json!(claimed.os_image_hash), info["os_image_hash"]);
    assert_eq!(claimed.key_provider, info["key_provider_info"].as_str().unwrap().as_bytes());
}

#[tokio::test]
async fn an_attestation_holds_what_a_verifier_needs() {
    let served = serve().await;
    let (_, answer) = served.post("/Attest", r#"{"report_data":"c0ffee"}"#).await;
    let attestation = hex::decode(answer["attestation"].as_str().unwrap()).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let extension = rcgen::CustomExtension::from_oid_content(postern_attest::oid::ATTESTATION, attestation);
    params.custom_extensions.push(extension);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let read = evidence(certificate.der()).unwrap();
    let mut report_data = [0; 64];
    report_data[..3].copy_from_slice(&[0xc0, 0xff, 0xee]);
    assert_eq!(read.quote, served.cvm.quote(report_data));
    assert_eq!(&read.event_log, served.cvm.event_log());
}

#[tokio::test]
async fn the_chain_is_signed_from_the_top_down() {
    let served = serve().await;
    let (_, answer) = served.post("/GetTlsKey", r#"{"usage_ra_tls": true}"#).await;
    let chain: Vec<Vec<u8>> = answer["certificate_chain"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pem| x509_parser::pem::parse_x509_pem(pem.as_str().unwrap().as_bytes()).unwrap().1.contents)
        .collect();
    for pair in chain.windows(2) {
        let (_, subject) = x509_parser::parse_x509_certificate(&pair[0]).unwrap();
        let (_, issuer) = x509_parser::parse_x509_certificate(&pair[1]).unwrap();
        assert_eq!(subject.issuer(), issuer.subject());
    }
}

#[tokio::test]
async fn a_key_is_the_same_by_post_and_by_get() {
    let served = serve().await;
    let expected = hex::encode(*served.cvm.derive_key("pg/superuser"));
    let chain = served.cvm.signature_chain("pg/superuser", "login", Algorithm::Secp256k1).unwrap().map(hex::encode);
    let (_, posted) = served.post("/GetKey", r#"{"path":"pg/superuser","purpose":"login","algorithm":"k256"}"#).await;
    assert_eq!(posted, json!({"key": expected, "signature_chain": chain}));
    let (_, ed25519) = served.post("/GetKey", r#"{"path":"pg/superuser","algorithm":"ed25519"}"#).await;
    assert_eq!(ed25519["key"], json!(expected));
    assert_ne!(ed25519["signature_chain"][0], json!(chain[0]));
    let (_, got) = served.get("/GetKey?path=pg%2Fsuperuser&purpose=login").await;
    assert_eq!(got["key"], json!(expected));
}

#[tokio::test]
async fn report_data_is_padded_on_the_right() {
    let served = serve().await;
    let (status, answer) = served.post("/GetQuote", r#"{"report_data":"c0ffee"}"#).await;
    assert_eq!(status, 200);
    let mut expected = [0; 64];
    expected[..3].copy_from_slice(&[0xc0, 0xff, 0xee]);
    assert_eq!(answer["report_data"], json!(hex::encode(expected)));
    let quote = hex::decode(answer["quote"].as_str().unwrap()).unwrap();
    let parsed = dcap_qvl::quote::Quote::parse(&quote).unwrap();
    assert_eq!(parsed.report.as_td10().unwrap().report_data, expected);
    let log = postern_attest::event_log::EventLog::from_json(answer["event_log"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(&log, served.cvm.event_log());
}

#[tokio::test]
async fn wrong_parameters_are_refused_with_a_reason() {
    let served = serve().await;
    for body in
        [r#"{"report_data":"zz"}"#.to_owned(), format!(r#"{{"report_data":"{}"}}"#, "00".repeat(65)), "[".into()]
    {
        let (status, answer) = served.post("/GetQuote", &body).await;
        assert_eq!(status, 400, "{body}");
        assert!(!answer["error"].as_str().unwrap().is_empty());
    }
    for (method, body) in [
        ("GetKey", r#"{"algorithm":"rsa"}"#),
        ("Sign", r#"{"algorithm":"","data":"00"}"#),
        ("Sign", r#"{"algorithm":"secp256k1_prehashed","data":"00"}"#),
        ("Verify", r#"{"algorithm":"ed25519","data":"00","signature":"00","public_key":"00"}"#),
        ("EmitEvent", r#"{"event":"e","payload":""}"#),
    ] {
        let (status, answer) = served.post(&format!("/{method}"), body).await;
        assert_eq!(status, 400, "{method} {body}");
        assert!(!answer["error"].as_str().unwrap().is_empty());
    }
    let large =
        "POST /Sign HTTP/1.1\r\nHost: dstack\r\nContent-Type: application/json\r\nContent-Length: 10485761\r\n\r\n";
    let (head, body) = served.raw(large).await;
    assert!(head.starts_with("http/1.1 413"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("at most 10485760 bytes"));
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_named() {
    let served = serve().await;
    for target in ["/GpuInfo", "/prpc/Tappd.Info", "/"] {
        let (status, answer) = served.post(target, "{}").await;
        assert_eq!(status, 404);
        assert_eq!(answer["error"], json!(format!("Service not found: {}", &target[1..])));
    }
    let (head, _) = served.raw("PUT /GetKey HTTP/1.1\r\nHost: dstack\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
}

#[tokio::test]
async fn a_body_is_json_only_where_it_says_so() {
    let served = serve().await;
    let post = |target: &str, kind: &str| {
        format!("POST {target} HTTP/1.1\r\nHost: dstack\r\nConnection: close\r\n{kind}Content-Length: 2\r\n\r\n{{}}")
    };
    for (target, kind, status) in [
        ("/Version", "Content-Type: Application/JSON; charset=utf-8\r\n", 200),
        ("/GetKey?json", "", 200),
        ("/GetKey", "", 400),
        ("/GetKey", "Content-Type: application/octet-stream\r\n", 400),
    ] {
        let (head, _) = served.raw(&post(target, kind)).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{target} {kind}: {head}");
    }
}

#[tokio::test]
async fn info_describes_the_cvm() {
    let served = serve().await;
    let (_, info) = served.get("/Info").await;
    assert_eq!(info["app_id"], json!(served.cvm.app_id()));
    assert_eq!(info["instance_id"], json!(served.cvm.instance_id()));
    assert_eq!(info["compose_hash"], json!(served.cvm.compose_hash()));
    assert_eq!(info["app_name"], json!("ledger"));
    let tcb: Value = serde_json::from_str(info["tcb_info"].as_str().unwrap()).unwrap();
    assert_eq!(tcb["rtmr3"], json!(served.cvm.measurements().rtmr[3]));
    assert_eq!(tcb["app_compose"], json!(r#"{"name":"ledger"}"#));
    assert_eq!(tcb["event_log"].as_array().unwrap().len(), served.cvm.event_log().0.len());
    let provider: Value = serde_json::from_str(info["key_provider_info"].as_str().unwrap()).unwrap();
    assert_eq!(provider["name"], json!("kms"));
    let shown = x509_parser::pem::parse_x509_pem(info["app_cert"].as_str().unwrap().as_bytes()).unwrap().1.contents;
    assert!(evidence(&shown).unwrap().is_bound());
    assert_eq!(served.get("/Info").await.1, info, "also the certificate stays");
}

/// As TeeSQL's clients ask: one in absolute form, one that takes everything behind the first empty line for the body.
#[tokio::test]
async fn an_absolute_target_is_served_and_the_body_is_not_chunked() {
    let served = serve().await;
    for method in ["GetTlsKey", "GetKey", "GetQuote", "Attest", "Info", "Version"] {
        for target in [format!("http://unix.socket/{method}"), format!("/{method}")] {
            let request = format!(
                "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Connection: close\r\nContent-Length: 2\r\n\r\n{{}}"
            );
            let on_unix = served.raw(&request).await;
            let on_tcp = exchange(TcpStream::connect(served.tcp).await.unwrap(), &request).await;
            for (head, body) in [on_unix, on_tcp] {
                assert!(head.starts_with("http/1.1 200"), "{method}: {head}");
                assert!(head.contains(&format!("content-length: {}", body.len())), "{method}: {head}");
                assert!(!head.contains("transfer-encoding"), "{method}: {head}");
                assert!(serde_json::from_slice::<Value>(&body).unwrap().is_object());
            }
        }
    }
}

/// dstack's JavaScript SDK writes a request to a Unix socket in six parts, and fails if the connection closes between them.
#[tokio::test]
async fn no_answer_comes_before_the_whole_body() {
    let served = serve().await;
    for target in ["/Info", "/Version", "/GetKey", "/EmitEvent", "/Nothing"] {
        let mut stream = UnixStream::connect(served.socket()).await.unwrap();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), stream.readable()).await;
        assert!(early.is_err(), "{target} was answered early");
        stream.write_all(b"{}").await.unwrap();
        let mut start = [0; 9];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 ");
    }
}

#[tokio::test]
async fn a_stolen_quote_is_bound_to_another_key() {
    let request = CertificateRequest { attestation: Attestation::OtherKey, ..CertificateRequest::default() };
    let certificate = serve().await.cvm.certificate(&request, NOW).unwrap();
    let leaf = x509_parser::pem::parse_x509_pem(certificate.chain[0].as_bytes()).unwrap().1.contents;
    assert!(!evidence(&leaf).unwrap().is_bound());
}
