use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::scram_server::ScramServer;
use super::{Login, LoginError, MAX_LOGIN_MESSAGE, Step};
use crate::cancel::CancelKey;
use crate::error_response::ErrorResponse;
use crate::frame::{self, Message};
use crate::scram::{NONCE, Password, SALT, verifier};
use crate::sqlstate::SqlState;

fn begin(password: &[u8]) -> Login {
    Login::new(&Password::new(password), &[7; NONCE])
}

fn message(tag: u8, body: &[u8]) -> Message {
    let mut bytes = BytesMut::new();
    bytes.put_u8(tag);
    bytes.put_u32(u32::try_from(body.len() + 4).unwrap());
    bytes.put_slice(body);
    frame::split(&mut bytes, MAX_LOGIN_MESSAGE).unwrap().unwrap()
}

fn authentication(method: u32, data: &[u8]) -> Message {
    message(b'R', &[method.to_be_bytes().as_slice(), data].concat())
}

fn sent(step: Step) -> Message {
    let Step::Send(bytes) = step else { panic!("{step:?}") };
    frame::split(&mut BytesMut::from(&bytes[..]), 1000).unwrap().unwrap()
}

/// Runs SCRAM as a server that knows `stored`, up to and including the server's last word.
fn exchange(login: &mut Login, stored: &[u8]) -> Option<Step> {
    exchange_with(login, &verifier(stored, &[1; SALT]))
}

/// The same with a server that has this verifier.
#[expect(clippy::unwrap_in_result, reason = "a broken exchange fails the test; None is a server that saw no proof")]
fn exchange_with(login: &mut Login, verifier: &str) -> Option<Step> {
    let mut server = ScramServer::new(verifier);
    let reply = sent(login.receive(&authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")).unwrap());
    let data = reply.body().strip_prefix(b"SCRAM-SHA-256\0").unwrap();
    let challenge = server.challenge(std::str::from_utf8(&data[4..]).unwrap());
    let reply = sent(login.receive(&authentication(11, challenge.as_bytes())).unwrap());
    let last = server.conclude(std::str::from_utf8(reply.body()).unwrap());
    last.map(|last| login.receive(&authentication(12, last.as_bytes())).unwrap())
}

#[test]
fn a_login_goes_all_the_way() {
    let mut login = begin(b"secret");
    assert_eq!(exchange(&mut login, b"secret"), Some(Step::Nothing));
    for message in [authentication(0, b""), message(b'S', b"server_version\x0017\0"), message(b'N', b"\0")] {
        assert_eq!(login.receive(&message), Ok(Step::Forward(message.raw().clone())));
    }
    let key = CancelKey::new(42, &[7; 4]).unwrap();
    let named = message(b'K', &[0, 0, 0, 42, 7, 7, 7, 7]);
    assert_eq!(login.receive(&named), Ok(Step::Key(key)));
    let ready = message(b'Z', b"I");
    assert_eq!(login.receive(&ready), Ok(Step::Ready(ready.raw().clone())));
    assert_over(&mut login);
}

/// Nothing has a place after the end, least of all an error that could be taken for the login's.
fn assert_over(login: &mut Login) {
    let error = frame::split(&mut BytesMut::from(&refusal()[..]), 1000).unwrap().unwrap();
    for message in [message(b'Z', b"I"), error, authentication(0, b""), message(b'S', b"a\0b\0")] {
        assert_eq!(login.receive(&message), Err(LoginError::Unexpected(message.tag())));
    }
}

fn refusal() -> Bytes {
    ErrorResponse::fatal(SqlState::CANNOT_CONNECT_NOW, "starting").encode()
}

#[test]
fn debug_shows_neither_the_proof_nor_the_messages() {
    let mut login = begin(b"secret");
    let mut server = ScramServer::new(&verifier(b"secret", &[1; SALT]));
    let reply = sent(login.receive(&authentication(10, b"SCRAM-SHA-256\0\0")).unwrap());
    let challenge = server.challenge(std::str::from_utf8(&reply.body()[18..]).unwrap());
    let Step::Send(proof) = login.receive(&authentication(11, challenge.as_bytes())).unwrap() else {
        panic!("a proof")
    };
    let length = proof.len();
    assert_eq!(format!("{:?}", Step::Send(proof)), format!("Send('p', {length} bytes)"));
    assert_eq!(format!("{:?}", Step::Forward(message(b'S', b"a\0b\0").raw().clone())), "Forward('S', 9 bytes)");
    assert_eq!(format!("{:?}", Step::Ready(message(b'Z', b"I").raw().clone())), "Ready('Z', 6 bytes)");
}

#[test]
fn a_wrong_password_has_no_proof() {
    assert_eq!(exchange(&mut begin(b"secret"), b"other"), None);
}

#[test]
fn a_password_goes_on_logging_in_when_its_verifier_is_replaced() {
    let password = Password::new(b"secret");
    for salt in [1, 1, 2, 1] {
        let mut login = Login::new(&password, &[7; NONCE]);
        assert_eq!(exchange_with(&mut login, &verifier(b"secret", &[salt; SALT])), Some(Step::Nothing));
    }
    let mut login = Login::new(&password, &[7; NONCE]);
    assert_eq!(exchange_with(&mut login, &verifier(b"other", &[1; SALT])), None, "the salt alone proves nothing");
}

#[test]
fn a_server_that_knows_no_verifier_is_refused() {
    let mut login = begin(b"secret");
    let reply = sent(login.receive(&authentication(10, b"SCRAM-SHA-256\0\0")).unwrap());
    let nonce = std::str::from_utf8(&reply.body()[18..]).unwrap().split_once("r=").unwrap().1.to_owned();
    let challenge = format!("r={nonce}x,s=AAAA,i=4096");
    assert!(matches!(login.receive(&authentication(11, challenge.as_bytes())), Ok(Step::Send(_))));
    let forged = login.receive(&authentication(12, b"v=AAAA"));
    assert!(matches!(forged, Err(LoginError::Scram(_))), "{forged:?}");
    assert_over(&mut login);
}

#[test]
fn trust_is_refused_at_every_point_before_the_proof() {
    assert_eq!(begin(b"x").receive(&authentication(0, b"")), Err(LoginError::NoPassword));
    let mut login = begin(b"x");
    sent(login.receive(&authentication(10, b"SCRAM-SHA-256\0\0")).unwrap());
    assert_eq!(login.receive(&authentication(0, b"")), Err(LoginError::NoPassword));
}

#[test]
fn a_login_that_expects_no_question_answers_none() {
    let mut login = Login::unasked();
    let ok = authentication(0, b"");
    assert_eq!(login.receive(&ok), Ok(Step::Forward(ok.raw().clone())));
    let ready = message(b'Z', b"I");
    assert_eq!(login.receive(&ready), Ok(Step::Ready(ready.raw().clone())));
    assert_over(&mut login);
    for (method, data) in [(3, &b""[..]), (5, b"salt"), (10, b"SCRAM-SHA-256\0\0")] {
        assert_eq!(Login::unasked().receive(&authentication(method, data)), Err(LoginError::Method(method)));
    }
}

#[test]
fn weaker_methods_are_refused() {
    assert_eq!(begin(b"x").receive(&authentication(3, b"")), Err(LoginError::Method(3)));
    assert_eq!(begin(b"x").receive(&authentication(5, b"salt")), Err(LoginError::Method(5)));
    assert_eq!(begin(b"x").receive(&authentication(10, b"OTHER\0\0")), Err(LoginError::Mechanism));
    assert_eq!(begin(b"x").receive(&authentication(11, b"")), Err(LoginError::Method(11)));
}

#[test]
fn huge_iteration_counts_are_refused() {
    let mut login = begin(b"x");
    let reply = sent(login.receive(&authentication(10, b"SCRAM-SHA-256\0\0")).unwrap());
    let nonce = std::str::from_utf8(&reply.body()[18..]).unwrap().split_once("r=").unwrap().1.to_owned();
    let challenge = format!("r={nonce}x,s=AAAA,i=4000000000");
    assert!(matches!(login.receive(&authentication(11, challenge.as_bytes())), Err(LoginError::Scram(_))));
}

#[test]
fn errors_say_whether_the_login_was_to_blame() {
    let said = refusal();
    let error = frame::split(&mut BytesMut::from(&said[..]), 1000).unwrap().unwrap();
    let mut login = begin(b"x");
    let Ok(Step::Refused { error: parsed, before_login: true }) = login.receive(&error) else { panic!() };
    assert_over(&mut login);
    assert_eq!((parsed.sqlstate.as_str(), &parsed.raw), ("57P03", &said));

    let mut login = begin(b"secret");
    exchange(&mut login, b"secret");
    login.receive(&authentication(0, b"")).unwrap();
    assert!(matches!(login.receive(&error), Ok(Step::Refused { before_login: false, .. })));
}

#[test]
fn nothing_is_left_to_negotiate() {
    let negotiate = message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(begin(b"secret").receive(&negotiate), Err(LoginError::Unexpected(b'v')));
    let mut login = begin(b"secret");
    exchange(&mut login, b"secret");
    assert_eq!(login.receive(&negotiate), Err(LoginError::Unexpected(b'v')));
}

#[test]
fn messages_of_a_running_session_have_no_place_before_it() {
    for tag in *b"STNKZDCAGH\0" {
        assert_eq!(begin(b"x").receive(&message(tag, b"")), Err(LoginError::Unexpected(tag)));
    }
    let mut login = begin(b"secret");
    exchange(&mut login, b"secret");
    login.receive(&authentication(0, b"")).unwrap();
    assert_eq!(login.receive(&message(b'K', &[0; 7])), Err(LoginError::Key));
}

proptest! {
    #[test]
    fn random_messages_never_panic(messages in prop::collection::vec((prop::sample::select(b"RRRREKZSNv".to_vec()), prop_oneof![Just(0_u32), Just(10), Just(11), Just(12)], prop::collection::vec(any::<u8>(), 0..40)), 0..6)) {
        let mut login = begin(b"x");
        for (tag, method, data) in messages {
            let bytes = [method.to_be_bytes().as_slice(), &data].concat();
            let ready = matches!(login.receive(&message(tag, &bytes)), Ok(Step::Ready(_) | Step::Key(_)));
            prop_assert!(!ready, "nobody gets in without a proof");
        }
    }
}
