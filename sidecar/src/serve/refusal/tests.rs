use bytes::{Bytes, BytesMut};
use postern_allowlist::NotAdmitted;
use postern_attest_io::PeerRefused;
use postern_pgwire::error_response::{ErrorResponse, ServerError};
use postern_pgwire::frame;
use postern_pgwire::login::LoginError;
use postern_pgwire::sqlstate::SqlState;

use super::Refusal;
use crate::opening::RequestError;
use crate::packets::ReadError;
use crate::postgres::login::LoginFailed;

fn read(response: &[u8]) -> ServerError {
    let message = frame::split(&mut BytesMut::from(response), 10_000).unwrap().unwrap();
    ServerError::parse(message.raw(), message.body())
}

fn said(refusal: &Refusal) -> Option<(String, String)> {
    let error = read(&refusal.response()?);
    Some((error.sqlstate, error.message))
}

fn code(refusal: &Refusal) -> Option<String> {
    said(refusal).map(|(code, _)| code)
}

fn from_postgres(sqlstate: SqlState, before_login: bool) -> (Refusal, Bytes) {
    let raw = ErrorResponse::fatal(sqlstate, "words of Postgres").encode();
    let (error, messages) = (read(&raw), BytesMut::new());
    (Refusal::PostgresLogin(LoginFailed::Refused { error, before_login, messages }), raw)
}

#[test]
fn wrong_secrets_and_unknown_roles_read_the_same() {
    let refusal = Refusal::Credentials { user: "anybody".to_owned() };
    let expected = ("28P01".to_owned(), "password authentication failed for user \"anybody\"".to_owned());
    assert_eq!(said(&refusal), Some(expected));
}

#[test]
fn peers_that_speak_no_postgres_are_told_nothing() {
    for refusal in [
        Refusal::Request(RequestError::Read(ReadError::Closed)),
        Refusal::Request(RequestError::EarlyBytes),
        Refusal::Request(RequestError::Read(ReadError::Opening(postern_pgwire::opening::OpeningError::Foreign))),
    ] {
        assert_eq!(refusal.response(), None, "{refusal}");
    }
}

#[test]
fn malformed_startups_are_told_so() {
    let malformed = |error| Refusal::Request(RequestError::Read(ReadError::Opening(error)));
    let version = postern_pgwire::opening::parse(&[0, 0, 0, 9, 0, 2, 0, 0]).unwrap_err();
    assert_eq!(code(&malformed(version)).as_deref(), Some("0A000"));
    let length = postern_pgwire::opening::parse(&[0, 0, 0, 1]).unwrap_err();
    assert_eq!(code(&malformed(length)).as_deref(), Some("08P01"));
}

#[test]
fn words_of_postgres_that_concern_the_client_are_passed_on() {
    for (sqlstate, before_login) in [(SqlState::TOO_MANY_CONNECTIONS, true), (SqlState::INVALID_AUTHORIZATION, false)] {
        let (refusal, raw) = from_postgres(sqlstate, before_login);
        assert_eq!(refusal.response(), Some(raw));
    }
}

#[test]
fn our_own_trouble_with_postgres_is_not_the_clients_fault() {
    let (rejected, _) = from_postgres(SqlState::INVALID_PASSWORD, true);
    assert_eq!(code(&rejected).as_deref(), Some("08006"));
    let (starting, _) = from_postgres(SqlState::CANNOT_CONNECT_NOW, true);
    assert_eq!(code(&starting).as_deref(), Some("57P03"));
    let trust = Refusal::PostgresLogin(LoginFailed::Protocol(LoginError::NoPassword));
    assert_eq!(code(&trust).as_deref(), Some("08006"));
    assert!(!said(&trust).unwrap().1.contains("pg_hba"), "the client learns nothing about our configuration");
    let broken = Refusal::PostgresLogin(LoginFailed::Read(ReadError::Truncated));
    assert_eq!(code(&broken).as_deref(), Some("57P03"));
}

#[test]
fn what_was_said_before_a_refusal_is_not_lost() {
    let (Refusal::PostgresLogin(LoginFailed::Refused { error, .. }), raw) =
        from_postgres(SqlState::NOT_SUPPORTED, false)
    else {
        panic!("another refusal")
    };
    let messages = BytesMut::from(&b"before"[..]);
    let refusal = Refusal::PostgresLogin(LoginFailed::Refused { error, before_login: false, messages });
    assert_eq!(refusal.response(), Some([b"before", &raw[..]].concat().into()));
}

#[test]
fn evidence_that_could_not_be_judged_now_is_not_called_bad() {
    for (refused, expected) in [
        (PeerRefused::SourceLimited, "53300"),
        (PeerRefused::Busy, "57P03"),
        (PeerRefused::Failed, "57P03"),
        (PeerRefused::NoQuote, "28000"),
    ] {
        let (code, message) = said(&Refusal::Peer(refused.clone())).unwrap();
        assert_eq!(code, expected, "{message}");
        assert_eq!(message.starts_with("client refused: "), expected == "28000", "{message}");
    }
}

#[test]
fn a_client_that_is_refused_for_the_age_of_the_view_reads_so() {
    let sentence = "the view of the chain is too old to admit anybody; try again later";
    for unknown in [NotAdmitted::NoView, NotAdmitted::ViewTooOld { age: 1_000 }] {
        let expected = Some(("57P03".to_owned(), sentence.to_owned()));
        assert_eq!(said(&Refusal::NotAllowed(unknown)), expected);
    }
}
