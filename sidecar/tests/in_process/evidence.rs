//! Clients whose evidence is missing, wrong or not wanted, each with the words that it is told.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postern_plumbing::clock::unix_now;
use postern_simulator::certificate::{Attestation, CertificateRequest};
use postern_simulator::{Cvm, Measurements, Tee};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::cut;
use crate::driver::{Driver, startup, words};
use crate::world::{CLIENT_APP, CLIENT_COMPOSE, READ_SECRET, Sidecar, World, agent, identity, tee, tls};

fn client_cvm(tee: Arc<Tee>) -> Cvm {
    Cvm::new(tee, CLIENT_APP, CLIENT_COMPOSE.to_vec(), "client")
}

/// The refusal that a client with this identity reads.
async fn refused(stream: TlsStream<TcpStream>) -> (String, String) {
    let mut driver = Driver::new(stream);
    driver.send(&startup(&[("user", "teesql_read")])).await;
    let error = driver.refusal().await;
    (error.sqlstate, error.message)
}

async fn connect(sidecar: &Sidecar) -> TcpStream {
    TcpStream::connect(sidecar.address).await.unwrap()
}

#[tokio::test]
async fn a_client_without_certificate_is_told_so_and_is_asked_for_no_secret() {
    let (world, sidecar) = World::serving("").await;
    let said = refused(tls(connect(&sidecar).await, None, &[]).await).await;
    let expected = "client refused: a certificate with a TDX quote is required, and none was shown";
    assert_eq!((said.0.as_str(), said.1.as_str()), ("28000", expected));
    assert!(world.postgres.startups().is_empty());
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn evidence_that_does_not_hold_is_refused_with_its_reason() {
    let (_world, sidecar) = World::serving("").await;
    for (attestation, words) in
        [(Attestation::None, "carries no TDX quote"), (Attestation::OtherKey, "does not vouch for the key")]
    {
        let request = CertificateRequest { attestation, client_auth: true, ..CertificateRequest::default() };
        let certificate = client_cvm(tee()).certificate(&request, unix_now()).unwrap();
        let stream = with_certificate(connect(&sidecar).await, &certificate.chain, &certificate.key).await;
        let (code, message) = refused(stream).await;
        assert!(code == "28000" && message.contains(words), "{code} {message}");
    }
}

#[tokio::test]
async fn quotes_of_another_root_and_of_debug_tds_are_refused() {
    let (world, sidecar) = World::serving("").await;
    let elsewhere = Arc::new(Tee::new([8; 32]).unwrap());
    let debug = Measurements { debug: true, ..Measurements::default() };
    let debug = Cvm::with_measurements(tee(), CLIENT_APP, CLIENT_COMPOSE.to_vec(), "client", debug);
    for (name, cvm, words) in
        [("other.sock", client_cvm(elsewhere), "trusted root"), ("debug.sock", debug, "debug mode")]
    {
        let (socket, _agent) = agent(world.folder.path(), name, cvm);
        let (code, message) =
            refused(tls(connect(&sidecar).await, Some(identity(&socket).await), &["postgresql"]).await).await;
        assert!(code == "28000" && message.contains(words), "{code} {message}");
    }
}

#[tokio::test]
async fn clients_can_be_limited_to_apps_and_compositions() {
    let world = World::new().await;
    let hash = client_cvm(tee()).compose_hash();
    for (clients, words) in [
        (format!("app_ids = [\"{CLIENT_APP}\"]\ncompose_hashes = [\"{hash}\"]"), None),
        (format!("app_ids = [\"{}\"]", "ab".repeat(20)), Some("another application")),
        (format!("compose_hashes = [\"{}\"]", "ab".repeat(32)), Some("another composition")),
    ] {
        let sidecar = world.serve(&format!("[clients]\n{clients}\n")).await;
        let stream = world.attested(&sidecar).await;
        match words {
            None => assert!(Driver::reader(stream).await.is_ok()),
            Some(words) => {
                let (code, message) = refused(stream).await;
                assert!(code == "28000" && message.contains(words), "{code} {message}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_without_evidence_is_let_in_only_where_the_configuration_is_insecure() {
    let (_world, sidecar) = World::serving("[clients]\ninsecure_allow_unattested_clients = true\n").await;
    let stream = tls(connect(&sidecar).await, None, &["postgresql"]).await;
    let opening = startup(&[("user", "teesql_read")]);
    let error = Driver::log_in(stream, &opening, "ratls").await.unwrap_err();
    assert_eq!(words(&error).0, "28P01", "the secret is still asked for");
    let stream = tls(connect(&sidecar).await, None, &["postgresql"]).await;
    Driver::log_in(stream, &opening, READ_SECRET).await.unwrap();
}

#[tokio::test]
async fn a_session_is_cut_when_the_clients_platform_is_revoked() {
    let (world, sidecar) = World::serving("").await;
    let mut driver = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    cut::revoke_platform(&world);
    let cut = tokio::time::timeout(Duration::from_secs(30), driver.refusal()).await;
    assert_eq!(cut.expect("the session goes on").sqlstate, "57P01");
    sidecar.assert_no_connection_is_left().await;
}

/// A key and its certificates from the guest agent, asked for as TeeSQL's Rust client does over the Unix socket.
async fn tls_key(socket: &Path) -> (String, Vec<String>) {
    #[derive(serde::Deserialize)]
    struct Answer {
        key: String,
        certificate_chain: Vec<String>,
    }
    let body = r#"{"subject":"sqlx-ra-tls-client","alt_names":[],"usage_ra_tls":true,"usage_server_auth":false,"usage_client_auth":true}"#;
    let head = format!(
        "POST http://unix.socket/GetTlsKey HTTP/1.1\r\nHost: dstack\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all((head + body).as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let Answer { key, certificate_chain } = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    (key, certificate_chain)
}

#[tokio::test]
async fn a_client_with_what_the_guest_agent_issues_reads_rows_where_its_kms_is_pinned() {
    let (world, sidecar) = World::serving("").await;
    let (key, chain) = tls_key(&world.client_agent).await;
    assert_eq!(chain.len(), 3, "leaf, the app's authority, the KMS");
    let stream = with_certificate(connect(&sidecar).await, &chain, &key).await;
    assert!(Driver::reader(stream).await.is_ok());
    let (key, chain) = tls_key(&world.client_agent).await;
    let stream = with_certificate(connect(&sidecar).await, &chain[..1], &key).await;
    let (code, message) = refused(stream).await;
    assert!(code == "28000" && message.contains("does not lead to the KMS"), "{code} {message}");
}

/// TLS with any certificate, as drivers do it that do not verify the server.
async fn with_certificate(stream: TcpStream, chain: &[String], key: &str) -> TlsStream<TcpStream> {
    let chain = chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(chain, key)
        .unwrap();
    let name = ServerName::try_from("db.example").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap().into()
}

/// Takes every server for the right one.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
