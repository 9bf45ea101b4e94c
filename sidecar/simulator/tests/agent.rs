//! The guest agent as clients meet it: bytes on a Unix socket.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic, in its helpers too")]

use std::path::PathBuf;
use std::sync::Arc;

use postern_identity::AppId;
use postern_simulator::certificate::{Attestation, CertificateRequest};
use postern_simulator::{Cvm, Tee, agent};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

const NOW: u64 = 1_800_000_000;
const COMPOSE: &[u8] = br#"{"name":"ledger"}"#;

struct Served {
    folder: tempfile::TempDir,
    cvm: Arc<Cvm>,
}

impl Served {
    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Sends raw bytes and returns the head and the body of the response.
    async fn raw(&self, request: &str) -> (String, Vec<u8>) {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        let end = response.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        (String::from_utf8(response[..end].to_vec()).unwrap().to_lowercase(), response[end + 4..].to_vec())
    }

    async fn post(&self, target: &str, body: &str) -> (u16, Value) {
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: dstack\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
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

fn serve() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let tee = Arc::new(Tee::new([7; 32]).unwrap());
    let cvm = Arc::new(Cvm::new(tee, AppId([0xa0; 20]), COMPOSE.to_vec(), "one"));
    let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
    let server = agent::router(Arc::clone(&cvm), || NOW);
    #[expect(clippy::disallowed_methods, reason = "the test's runtime ends the task")]
    tokio::spawn(async move { axum::serve(listener, server).await });
    Served { folder, cvm }
}

fn leaf_der(answer: &Value) -> Vec<u8> {
    let pem = answer["certificate_chain"][0].as_str().unwrap();
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

#[tokio::test]
async fn a_tls_key_comes_with_evidence_for_itself() {
    let served = serve();
    let request = json!({
        "subject": "sqlx-ra-tls-client", "alt_names": [], "usage_ra_tls": true,
        "usage_server_auth": false, "usage_client_auth": true,
    });
    let (status, answer) = served.post("/GetTlsKey", &request.to_string()).await;
    assert_eq!(status, 200);
    assert!(answer["key"].as_str().unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert_eq!(answer["certificate_chain"].as_array().unwrap().len(), 3);

    let evidence = postern_attest::certificate::evidence(&leaf_der(&answer)).unwrap();
    assert_eq!(&evidence.event_log, served.cvm.event_log());
    assert_eq!(evidence.claimed_app_id, Some(served.cvm.app_id()));
    assert_eq!(evidence.not_before, NOW - 60);
    let quote = dcap_qvl::quote::Quote::parse(&evidence.quote).unwrap();
    let report_data = quote.report.as_td10().unwrap().report_data;
    assert_eq!(report_data, postern_attest::report_data(&evidence.spki));
}

#[tokio::test]
async fn every_tls_key_is_fresh_and_carries_no_quote_unless_asked() {
    let served = serve();
    let (_, one) = served.post("/GetTlsKey", "{}").await;
    let (_, two) = served.post("/GetTlsKey", "").await;
    assert_ne!(one["key"], two["key"]);
    let refused = postern_attest::certificate::evidence(&leaf_der(&one)).unwrap_err();
    assert_eq!(refused, postern_attest::certificate::CertificateError::NoQuote);
}

#[tokio::test]
async fn the_chain_is_signed_from_the_top_down() {
    let served = serve();
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
    let served = serve();
    let expected = hex::encode(*served.cvm.derive_key("pg/superuser"));
    let (_, posted) = served.post("/GetKey", r#"{"path":"pg/superuser","purpose":"login","algorithm":"k256"}"#).await;
    assert_eq!(posted, json!({"key": expected, "signature_chain": []}));
    let (_, got) = served.get("/GetKey?path=pg%2Fsuperuser&purpose=login").await;
    assert_eq!(got["key"], json!(expected));
}

#[tokio::test]
async fn report_data_is_padded_on_the_right() {
    let served = serve();
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
    let served = serve();
    for body in
        [r#"{"report_data":"zz"}"#.to_owned(), format!(r#"{{"report_data":"{}"}}"#, "00".repeat(65)), "[".into()]
    {
        let (status, answer) = served.post("/GetQuote", &body).await;
        assert_eq!(status, 400, "{body}");
        assert!(!answer["error"].as_str().unwrap().is_empty());
    }
    let (status, answer) = served.post("/GetQuote", &" ".repeat(70_000)).await;
    assert_eq!(status, 400);
    assert!(answer["error"].as_str().unwrap().contains("length limit"), "{answer}");
    assert_eq!(served.post("/EmitEvent", "{}").await.0, 404);
}

#[tokio::test]
async fn info_describes_the_cvm() {
    let served = serve();
    let (_, info) = served.get("/Info").await;
    assert_eq!(info["app_id"], json!(served.cvm.app_id()));
    assert_eq!(info["instance_id"], json!(served.cvm.instance_id()));
    assert_eq!(info["compose_hash"], json!(served.cvm.compose_hash()));
    assert_eq!(info["app_name"], json!("ledger"));
    let tcb: Value = serde_json::from_str(info["tcb_info"].as_str().unwrap()).unwrap();
    assert_eq!(tcb["rtmr3"], json!(served.cvm.measurements().rtmr[3]));
    assert_eq!(tcb["app_compose"], json!(r#"{"name":"ledger"}"#));
    assert_eq!(tcb["event_log"].as_array().unwrap().len(), served.cvm.event_log().0.len());
}

#[tokio::test]
async fn an_absolute_target_is_served_and_the_body_is_not_chunked() {
    let served = serve();
    for method in ["GetTlsKey", "GetKey", "GetQuote", "Info", "Version"] {
        let request = format!(
            "POST http://unix.socket/{method} HTTP/1.1\r\nHost: dstack\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let (head, body) = served.raw(&request).await;
        assert!(head.starts_with("http/1.1 200"), "{method}: {head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{method}: {head}");
        assert!(!head.contains("transfer-encoding"), "{method}: {head}");
    }
}

#[tokio::test]
async fn a_stolen_quote_is_bound_to_another_key() {
    let request = CertificateRequest { attestation: Attestation::OtherKey, ..CertificateRequest::default() };
    let certificate = serve().cvm.certificate(&request, NOW).unwrap();
    let leaf = x509_parser::pem::parse_x509_pem(certificate.chain[0].as_bytes()).unwrap().1.contents;
    let evidence = postern_attest::certificate::evidence(&leaf).unwrap();
    let quote = dcap_qvl::quote::Quote::parse(&evidence.quote).unwrap();
    assert_ne!(quote.report.as_td10().unwrap().report_data, postern_attest::report_data(&evidence.spki));
}
