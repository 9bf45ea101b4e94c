//! `sidecar verify` with a second opinion, from a stand-in for Intel Trust Authority that signs real tokens.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_simulator::Measurements;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey;

use crate::verify::{Desk, codes};
use crate::world::tee;

const API_KEY: &str = "djE6an-api-key";
const REPORT_DATA: [u8; 64] = [3; 64];

static KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static OTHER_KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

/// What the authority does with a quote.
#[derive(Clone, Debug)]
enum Says {
    /// A token with these changes to its header and its claims, signed so.
    Token { header: Value, claims: Value, other_key: bool, pkcs1: bool },
    /// A status without a token.
    Status(StatusCode),
    /// Bytes that are no answer.
    Garbage(usize),
    /// Nothing, for longer than anybody waits.
    Nothing,
}

fn token(header: Value, claims: Value) -> Says {
    Says::Token { header, claims, other_key: false, pkcs1: false }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn key_set(key: &RsaKeyPair) -> Value {
    let der = key.public_key().as_der().unwrap();
    let (_, spki) = SubjectPublicKeyInfo::from_der(der.as_ref()).unwrap();
    let PublicKey::RSA(parts) = spki.parsed().unwrap() else { panic!("an RSA key") };
    let modulus = parts.modulus.strip_prefix(&[0]).unwrap_or(parts.modulus);
    json!({ "keys": [{ "kty": "RSA", "kid": "ita", "alg": "PS384", "n": encode(modulus), "e": encode(parts.exponent) }] })
}

fn merged(mut base: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

/// The claims of a good token about the quote of these tests.
fn claims(quote: &[u8]) -> Value {
    let register = |at: usize| hex::encode(&quote[at..at + 48]);
    json!({
        "exp": unix_now() + 300, "iat": unix_now(), "attester_type": "TDX", "attester_tcb_status": "UpToDate",
        "tdx_is_debuggable": false, "tdx_mrtd": register(184), "tdx_mrconfigid": register(232),
        "tdx_mrowner": register(280), "tdx_mrownerconfig": register(328), "tdx_rtmr0": register(376),
        "tdx_rtmr1": register(424), "tdx_rtmr2": register(472), "tdx_rtmr3": register(520),
        "tdx_report_data": hex::encode(&quote[568..632]),
    })
}

fn signed(quote: &[u8], says: &Says) -> String {
    let Says::Token { header, claims: changes, other_key, pkcs1 } = says else { panic!("no token") };
    let header = merged(json!({ "alg": "PS384", "typ": "JWT", "kid": "ita" }), header);
    let message = format!("{}.{}", encode(header.to_string()), encode(merged(claims(quote), changes).to_string()));
    let key = if *other_key { &OTHER_KEY } else { &KEY };
    let encoding: &'static dyn RsaEncoding = if *pkcs1 { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA384 };
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", encode(signature))
}

/// The authority, and how often somebody asked for the keys that a token names.
struct Authority {
    url: String,
    led_astray: Arc<AtomicUsize>,
    _serving: Task<()>,
}

async fn answer(headers: HeaderMap, question: Value, says: Says) -> (StatusCode, Vec<u8>) {
    if headers.get("x-api-key").is_none_or(|key| key != API_KEY) {
        return (StatusCode::UNAUTHORIZED, Vec::new());
    }
    assert_eq!(question["token_signing_alg"], "PS384");
    let quote = STANDARD.decode(question["quote"].as_str().unwrap()).unwrap();
    match says {
        Says::Status(status) => (status, b"{\"error\":\"no\"}".to_vec()),
        Says::Garbage(length) => (StatusCode::OK, vec![b'a'; length]),
        Says::Nothing => std::future::pending().await,
        Says::Token { .. } => (StatusCode::OK, json!({ "token": signed(&quote, &says) }).to_string().into_bytes()),
    }
}

impl Authority {
    async fn saying(says: Says) -> Self {
        for key in [&KEY, &OTHER_KEY] {
            LazyLock::force(key);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let led_astray = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&led_astray);
        let astray = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Json(key_set(&OTHER_KEY)))
        };
        let asked = move |headers: HeaderMap, Json(question): Json<Value>| answer(headers, question, says.clone());
        let routes = Router::new()
            .route("/certs", get(|| std::future::ready(Json(key_set(&KEY)))))
            .route("/elsewhere", get(astray))
            .route("/appraisal/v2/attest", post(asked));
        let serving = Task::spawn("authority", async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, led_astray, _serving: serving }
    }

    /// The code and the report of `sidecar verify --quote`, with this authority asked.
    async fn asked(&self, desk: &Desk, more: &[&str]) -> (Option<i32>, Value) {
        let quote = desk.file("quote", &tee().quote(&Measurements::default(), REPORT_DATA));
        let (key, certs) = (desk.file("key", API_KEY.as_bytes()), format!("{}/certs", self.url));
        let mut arguments = vec!["--quote", &quote, "--ita-url", &self.url, "--ita-key-file", &key];
        if !more.contains(&"--ita-jwks") {
            arguments.extend(["--ita-jwks", &certs]);
        }
        desk.json(&[&arguments, more].concat()).await
    }
}

async fn reason(says: Says) -> (Option<i32>, String, String) {
    // Only who never answers is not waited for.
    let patience = if matches!(says, Says::Nothing) { "2" } else { "60" };
    let (code, report) = Authority::saying(says).await.asked(&Desk::new(), &["--timeout", patience]).await;
    assert!(codes(&report["not_proven"]).contains(&"second_opinion"), "{report}");
    let text = |name: &str| report["reason"][name].as_str().unwrap().to_owned();
    (code, text("code"), text("text"))
}

#[tokio::test]
async fn an_authority_that_agrees_is_named_among_what_is_proven() {
    let (authority, desk) = (Authority::saying(token(json!({}), json!({}))).await, Desk::new());
    let (code, report) = authority.asked(&desk, &[]).await;
    assert_eq!((code, &report["reason"]), (Some(0), &Value::Null), "{report}");
    assert!(codes(&report["proven"]).contains(&"second_opinion"));
    let pinned = desk.file("jwks.json", key_set(&KEY).to_string().as_bytes());
    let (code, _) = authority.asked(&desk, &["--ita-jwks", &pinned]).await;
    assert_eq!(code, Some(0), "keys from a file");
}

#[tokio::test]
async fn an_authority_that_reads_something_else_refuses() {
    for changes in [json!({ "tdx_mrtd": "ab".repeat(48) }), json!({ "tdx_is_debuggable": true })] {
        let (code, reason, text) = reason(token(json!({}), changes.clone())).await;
        assert_eq!((code, reason.as_str()), (Some(1), "second_opinion"), "{text}");
        assert!(changes.as_object().unwrap().keys().all(|name| text.contains(name)), "{text}");
    }
}

#[tokio::test]
async fn tokens_that_nobody_pinned_signed_are_not_believed() {
    let forged = |header: Value, pkcs1| Says::Token { header, claims: json!({}), other_key: true, pkcs1 };
    for (says, words) in [
        (forged(json!({}), false), "not signed by the pinned key"),
        (forged(json!({ "kid": "mine" }), false), "is not pinned"),
        (token(json!({ "alg": "none" }), json!({})), "\"none\""),
        (token(json!({ "alg": "HS256" }), json!({})), "\"HS256\""),
        (
            Says::Token { header: json!({ "alg": "RS256" }), claims: json!({}), other_key: false, pkcs1: true },
            "\"RS256\"",
        ),
        (token(json!({}), json!({ "exp": unix_now() - 3_600 })), "is good from"),
        (token(json!({}), json!({ "tdx_mrtd": null })), "claim tdx_mrtd is missing"),
    ] {
        let (code, reason, text) = reason(says).await;
        assert_eq!((code, reason.as_str()), (Some(1), "second_opinion_not_believed"), "{text}");
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[tokio::test]
async fn nobody_goes_where_a_token_says_that_keys_are() {
    let authority = Authority::saying(token(json!({}), json!({}))).await;
    let jku = format!("{}/elsewhere", authority.url);
    let says = Says::Token { header: json!({ "jku": jku }), claims: json!({}), other_key: true, pkcs1: false };
    let astray = Authority::saying(says).await;
    let (code, report) = astray.asked(&Desk::new(), &[]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(1), &json!("second_opinion_not_believed")));
    assert_eq!(authority.led_astray.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn where_the_authority_gives_no_answer_nothing_can_be_told() {
    for (says, words) in [
        (Says::Status(StatusCode::INTERNAL_SERVER_ERROR), "status 500"),
        (Says::Status(StatusCode::FOUND), "status 302"),
        (Says::Garbage(300), "expected value"),
        (Says::Garbage(200_000), "has more than"),
        (Says::Nothing, "no complete answer in time"),
    ] {
        let (code, reason, text) = reason(says).await;
        assert_eq!((code, reason.as_str()), (Some(2), "second_opinion_unavailable"), "{text}");
        assert!(text.contains(words), "{words} in {text}");
    }
    let desk = Desk::new();
    let authority = Authority::saying(token(json!({}), json!({}))).await;
    let (code, report) = authority.asked(&desk, &["--ita-jwks", "/nonexistent"]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(2), &json!("second_opinion_unavailable")));
    // No keys that could sign a token are no keys at all.
    let empty = desk.file("jwks.json", br#"{"keys":[]}"#);
    let (code, report) = authority.asked(&desk, &["--ita-jwks", &empty]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(2), &json!("second_opinion_unavailable")));
}

#[tokio::test]
async fn an_authority_that_agrees_does_not_redeem_what_we_refuse() {
    let authority = Authority::saying(token(json!({}), json!({}))).await;
    let app = "ab".repeat(20);
    let (code, report) = authority.asked(&Desk::new(), &["--app-id", &app]).await;
    assert_eq!((code, &report["reason"]["code"]), (Some(2), &json!("app_unknown")));
    assert!(!codes(&report["proven"]).contains(&"second_opinion"));
}
