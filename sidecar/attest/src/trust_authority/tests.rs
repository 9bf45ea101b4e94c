use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RSA_PSS_SHA384, RsaEncoding, RsaKeyPair};
use serde_json::json;

use super::*;
use crate::{Appraiser, Collateral, TcbPolicy, TrustRoot};

const NOW: u64 = 1_751_000_000;

static KEY: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Modulus and exponent, out of the SubjectPublicKeyInfo.
fn jwk(key: &RsaKeyPair, kid: &str) -> Value {
    use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
    use x509_parser::public_key::PublicKey;
    let der = key.public_key().as_der().unwrap();
    let (_, spki) = SubjectPublicKeyInfo::from_der(der.as_ref()).unwrap();
    let PublicKey::RSA(parts) = spki.parsed().unwrap() else { panic!("an RSA key") };
    let modulus = parts.modulus.strip_prefix(&[0]).unwrap_or(parts.modulus);
    json!({ "kty": "RSA", "kid": kid, "alg": "PS384", "n": encode(modulus), "e": encode(parts.exponent) })
}

fn keys() -> TokenKeys {
    let set = json!({ "keys": [{ "kty": "EC", "kid": "one" }, jwk(&KEY, "one")] });
    TokenKeys::from_json(set.to_string().as_bytes()).unwrap()
}

fn signed(key: &RsaKeyPair, encoding: &'static dyn RsaEncoding, header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    format!("{message}.{}", encode(signature))
}

fn header() -> Value {
    json!({ "alg": "PS384", "kid": "one", "typ": "JWT" })
}

fn token(claims: &Value) -> String {
    signed(&KEY, &RSA_PSS_SHA384, &header(), claims)
}

fn good() -> Value {
    json!({ "exp": NOW + 300, "nbf": NOW, "iat": NOW })
}

#[test]
fn a_token_of_a_pinned_key_is_believed_wherever_it_says_that_keys_are() {
    assert_eq!(keys().read(&token(&good()), NOW).unwrap().until, NOW + 300);
    let mut elsewhere = header();
    elsewhere["jku"] = json!("https://attacker.example/certs");
    elsewhere["jwk"] = jwk(&RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), "one");
    assert!(keys().read(&signed(&KEY, &RSA_PSS_SHA384, &elsewhere, &good()), NOW).is_ok());
}

#[test]
fn another_key_under_the_same_name_and_a_name_that_is_not_pinned_are_refused() {
    let other = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let forged = signed(&other, &RSA_PSS_SHA384, &header(), &good());
    assert_eq!(keys().read(&forged, NOW), Err(TokenError::Signature));
    let unnamed = json!({ "alg": "PS384", "kid": "two" });
    let forged = signed(&KEY, &RSA_PSS_SHA384, &unnamed, &good());
    assert_eq!(keys().read(&forged, NOW), Err(TokenError::UnknownKey("two".to_owned())));
}

#[test]
fn no_other_algorithm_is_believed() {
    for alg in ["none", "HS256", "RS256", "PS256", "ps384", ""] {
        let mut named = header();
        named["alg"] = json!(alg);
        let forged = signed(&KEY, &RSA_PSS_SHA384, &named, &good());
        assert_eq!(keys().read(&forged, NOW), Err(TokenError::Algorithm(alg.to_owned())));
    }
    for encoding in [&RSA_PKCS1_SHA256 as &'static dyn RsaEncoding, &RSA_PSS_SHA256] {
        assert_eq!(keys().read(&signed(&KEY, encoding, &header(), &good()), NOW), Err(TokenError::Signature));
    }
    let unsigned = format!("{}.{}.", encode(header().to_string()), encode(good().to_string()));
    assert_eq!(keys().read(&unsigned, NOW), Err(TokenError::Signature));
}

#[test]
fn a_token_counts_in_its_time_and_a_token_without_end_does_not() {
    let read = |claims: Value| keys().read(&token(&claims), NOW).map_err(|error| error.to_string());
    assert!(read(json!({ "exp": NOW - 59 })).is_ok(), "clocks differ a little");
    assert!(read(json!({ "exp": NOW - 60 })).unwrap_err().contains("good from 0"));
    assert!(read(json!({ "exp": NOW + 300, "nbf": NOW + 61 })).unwrap_err().contains("good from"));
    assert!(read(json!({ "exp": NOW + 300, "iat": NOW + 61 })).unwrap_err().contains("good from"));
    assert!(read(json!({ "nbf": NOW })).unwrap_err().contains("claim exp"));
    assert!(read(json!({ "exp": "never" })).unwrap_err().contains("claim exp"));
}

#[test]
fn what_is_no_token_is_refused() {
    let good = token(&good());
    for text in
        ["", ".", "..", "a.b.c", &format!("{good}x.y"), &good.replace('.', ","), &"a".repeat(MAX_TOKEN_BYTES + 1)]
    {
        assert!(keys().read(text, NOW).is_err(), "{text}");
    }
    let mut demanding = header();
    demanding["crit"] = json!(["later"]);
    let demanding = signed(&KEY, &RSA_PSS_SHA384, &demanding, &self::good());
    assert!(matches!(keys().read(&demanding, NOW), Err(TokenError::Malformed(_))));
    for set in [
        "",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"EC","kid":"a"}]}"#,
        r#"{"keys":[{"kty":"RSA","kid":"a","alg":"RS256","n":"AQ","e":"AQAB"}]}"#,
    ] {
        assert!(matches!(TokenKeys::from_json(set.as_bytes()), Err(TokenError::Keys(_))), "{set}");
    }
}

#[test]
fn a_short_key_signs_nothing() {
    let mut short = jwk(&KEY, "one");
    short["n"] = json!(encode([0xff; 128]));
    let keys = TokenKeys::from_json(json!({ "keys": [short] }).to_string().as_bytes()).unwrap();
    assert_eq!(keys.read(&token(&good()), NOW), Err(TokenError::Signature));
}

/// Our own reading of Intel's sample quote.
fn ours() -> QuoteClaims {
    let set = include_bytes!("../../testdata/tdx_quote_collateral.json").as_slice();
    let collateral = Collateral::from_json(&[b"{\"collateral\":[", set, b"]}"].concat()).unwrap();
    let quote = include_bytes!("../../testdata/tdx_quote");
    Appraiser::new(TrustRoot::intel(), TcbPolicy::default()).appraise_quote(quote, &collateral, NOW).unwrap()
}

fn said(ours: &QuoteClaims) -> Value {
    json!({
        "exp": NOW + 300,
        "tdx_mrtd": ours.mrtd, "tdx_rtmr0": ours.rtmr[0], "tdx_rtmr1": ours.rtmr[1], "tdx_rtmr2": ours.rtmr[2],
        "tdx_rtmr3": ours.rtmr[3], "tdx_mrconfigid": ours.mr_config_id, "tdx_mrowner": ours.mr_owner,
        "tdx_mrownerconfig": ours.mr_owner_config, "tdx_report_data": hex::encode(ours.report_data),
        "tdx_is_debuggable": false, "attester_tcb_status": "UpToDate",
    })
}

#[test]
fn an_opinion_agrees_or_says_in_what_it_does_not() {
    let ours = ours();
    let compare = |claims: &Value| keys().read(&token(claims), NOW).unwrap().disagreement(&ours);
    assert_eq!(compare(&said(&ours)), Ok(None));
    assert_eq!(compare(&json!({ "exp": NOW + 300, "tdx": said(&ours) })), Ok(None), "nested");
    for name in REGISTERS {
        let mut other = said(&ours);
        other[name] = json!("ab".repeat(48));
        assert_eq!(compare(&other), Ok(Some(name)));
    }
    for (name, value) in [(DEBUG, json!(true)), (STATUS, json!("OutOfDate"))] {
        let mut other = said(&ours);
        other[name] = value;
        assert_eq!(compare(&other), Ok(Some(name)));
    }
    for name in REGISTERS.into_iter().chain([DEBUG, STATUS]) {
        let mut silent = said(&ours);
        silent.as_object_mut().unwrap().remove(name);
        assert_eq!(compare(&silent), Err(TokenError::Claim(name)));
    }
}
