use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postern_attest::{Fmspc, PolicyRefusal, Rejection};
use postern_attest_io::{ConnectRefused, PeerRefused};
use postern_identity::{AppId, ComposeHash};
use postern_pgwire::error_response::{ErrorResponse, ServerError};
use postern_pgwire::sqlstate::SqlState;
use rustls::AlertDescription;

use super::Failure;
use crate::connect::choice::SessionAttrs;
use crate::connect::login::LoginFailed;

fn place() -> String {
    "db:5432".to_owned()
}

fn told(failure: &Failure) -> String {
    String::from_utf8_lossy(&failure.response().unwrap()).into_owned()
}

fn refused(source: ConnectRefused) -> Failure {
    Failure::Refused { place: place(), source }
}

fn alert(alert: AlertDescription) -> Failure {
    let error = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::AlertReceived(alert));
    refused(ConnectRefused::Handshake(error))
}

fn said(sqlstate: SqlState, text: &str) -> Failure {
    let raw = ErrorResponse::fatal(sqlstate, text).encode();
    let error = ServerError::parse(&raw, &raw[5..]);
    Failure::Login {
        place: place(),
        source: LoginFailed::Refused { error, messages: BytesMut::from("N"), at_once: false },
    }
}

#[test]
fn alerts_are_put_into_words() {
    for (description, words) in [
        (AlertDescription::UnrecognisedName, "knows no app by this name"),
        (AlertDescription::AccessDenied, "does not admit the app"),
        (AlertDescription::InternalError, "cannot reach the app"),
        (AlertDescription::HandshakeFailure, "HandshakeFailure"),
    ] {
        let failure = alert(description);
        let text = told(&failure);
        let settled = description == AlertDescription::AccessDenied;
        assert!(text.contains(if settled { "C08001" } else { "C57P03" }) && failure.may_pass() != settled, "{text}");
        assert!(text.contains(words), "{text}");
    }
}

/// Each cause has its own code, sentence and label, and only what may be over soon is waited for.
#[test]
fn every_cause_is_told_apart() {
    let peer = |refused_peer: PeerRefused| refused(ConnectRefused::Server(refused_peer));
    let rejected = |rejection| peer(PeerRefused::Rejected(rejection));
    let expected = |refusal| peer(PeerRefused::NotExpected(refusal));
    let now = |fmspc| Rejection::CollateralNotCurrent { fmspc, from: 1, until: 2, now: 3 };
    let system = |kind: io::ErrorKind| io::Error::from(kind);
    let cases = [
        (peer(PeerRefused::NoQuote), "28000", "carries no TDX quote", false),
        (rejected(Rejection::OtherRoot("x".into())), "28000", "not signed under the trusted root", false),
        (expected(PolicyRefusal::App(AppId([1; 20]))), "28000", "another application", false),
        (expected(PolicyRefusal::ComposeHash(ComposeHash([1; 32]))), "28000", "another composition", false),
        (expected(PolicyRefusal::PolicyExpired { expires: 1 }), "28000", "has expired", false),
        (rejected(Rejection::TcbStatus("OutOfDate".into())), "28000", "TCB status", false),
        (rejected(now(Fmspc([0; 6]))), "28000", "is not current", false),
        (rejected(Rejection::UnknownPlatform(Fmspc([0; 6]))), "28000", "no collateral is known", false),
        (rejected(Rejection::CollateralPending(Fmspc([0; 6]))), "57P03", "is being fetched", true),
        (alert(AlertDescription::InternalError), "57P03", "cannot reach the app", true),
        (refused(ConnectRefused::Deadline(Duration::ZERO)), "57P03", "did not complete the TLS handshake", true),
        (
            Failure::Unreachable { place: place(), source: system(io::ErrorKind::ConnectionRefused) },
            "57P03",
            "cannot be reached",
            true,
        ),
        (Failure::Deadline { place: place() }, "57P03", "within the deadline", true),
        (
            Failure::Broken { place: place(), source: system(io::ErrorKind::ConnectionReset) },
            "57P03",
            "broke off",
            true,
        ),
        (Failure::Login { place: place(), source: LoginFailed::Late }, "08001", "stopped in the middle", false),
        (Failure::Unsuitable { place: place(), wanted: SessionAttrs::Standby }, "57P03", "is not a standby", false),
    ];
    let (mut words, mut labels) = (BTreeSet::new(), BTreeSet::new());
    for (failure, sqlstate, part, may_pass) in &cases {
        let text = told(failure);
        assert!(text.contains(&format!("C{sqlstate}")) && text.contains(part), "{part} in {text}");
        assert!(text.contains(&place()), "the server is named: {text}");
        assert_eq!(failure.may_pass(), *may_pass, "{text}");
        assert!(failure.leaves_others(), "{text}");
        assert!(words.insert(text) && labels.insert(failure.label()), "{}", failure.label());
    }
}

#[test]
fn what_a_server_says_is_passed_on_and_ends_the_search_unless_it_is_not_ready() {
    let no = said(SqlState::INVALID_PASSWORD, "password authentication failed");
    let raw = ErrorResponse::fatal(SqlState::INVALID_PASSWORD, "password authentication failed").encode();
    assert_eq!(no.response(), Some(Bytes::from([b"N".as_slice(), &raw].concat())));
    assert!(!no.leaves_others() && !no.may_pass());
    for state in [SqlState::CANNOT_CONNECT_NOW, SqlState::ADMIN_SHUTDOWN] {
        let not_now = said(state, "not now");
        assert!(not_now.leaves_others() && not_now.may_pass(), "{state}");
    }
}

#[test]
fn several_failures_are_told_in_one() {
    let away = || Arc::new(Failure::Deadline { place: "a".to_owned() });
    let bad = || Arc::new(refused(ConnectRefused::Server(PeerRefused::NoQuote)));
    let nowhere = |failures| Failure::Nowhere { wanted: SessionAttrs::ReadWrite, failures };
    let text = told(&nowhere(vec![away(), bad()]));
    assert!(text.contains("C57P03") && text.contains("none of the 2 servers is there and read-write"), "{text}");
    assert!(text.contains("no connection to a within the deadline; db:5432: "), "{text}");
    assert!(told(&nowhere(vec![bad(), bad()])).contains("C28000"));
}
