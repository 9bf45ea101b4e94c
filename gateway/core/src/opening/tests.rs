use super::*;
use crate::fixture::{hello, hellos};
use crate::hello::DEFAULT_MAX;
use proptest::prelude::*;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];
const CANCEL: [u8; 16] = [0, 0, 0, 16, 4, 210, 22, 46, 1, 2, 3, 4, 9, 8, 7, 6];

fn opening() -> Opening {
    Opening::new(DEFAULT_MAX)
}

fn feed_bytewise(opening: &mut Opening, bytes: &[u8]) -> Step {
    let (last, head) = bytes.split_last().unwrap();
    for byte in head {
        assert_eq!(opening.feed(&[*byte]), Step::NeedMore);
    }
    opening.feed(&[*last])
}

fn startup() -> Vec<u8> {
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    packet.extend(b"user\0postgres\0\0");
    packet[3] = u8::try_from(packet.len()).unwrap();
    packet
}

#[test]
fn tls_at_once_is_routed_by_its_hello() {
    let wire = hello("a.postern.test");
    let mut opening = opening();
    let Step::Hello(found) = opening.feed(&wire) else { panic!("a whole hello was fed") };
    assert_eq!(found.server_name.as_str(), "a.postern.test");
    assert!(!opening.negotiated());
    assert_eq!(opening.into_received(), wire);
}

#[test]
fn ssl_request_is_answered_and_not_replayed() {
    let wire = hello("a.postern.test");
    let mut opening = opening();
    assert_eq!(feed_bytewise(&mut opening, &SSL_REQUEST), Step::Reply(b'S'));
    assert_eq!(opening.speaking(), Speaking::Tls);
    assert!(matches!(opening.feed(&wire), Step::Hello(_)));
    assert!(opening.negotiated());
    assert_eq!(opening.into_received(), wire);
}

#[test]
fn gssapi_is_declined_and_ssl_may_follow() {
    let mut opening = opening();
    assert_eq!(feed_bytewise(&mut opening, &GSS_REQUEST), Step::Reply(b'N'));
    assert_eq!(opening.speaking(), Speaking::Postgres);
    assert_eq!(opening.feed(&SSL_REQUEST), Step::Reply(b'S'));
    assert!(matches!(opening.feed(&hello("a.postern.test")), Step::Hello(_)));
}

#[test]
fn each_request_is_answered_once() {
    let mut gss = opening();
    gss.feed(&GSS_REQUEST);
    assert_eq!(gss.feed(&GSS_REQUEST), Step::Refuse(Refusal::RepeatedRequest));
    let mut ssl = opening();
    ssl.feed(&SSL_REQUEST);
    assert_eq!(ssl.feed(&SSL_REQUEST), Step::Refuse(Refusal::MalformedHello), "after S there is only TLS");
}

#[test]
fn bytes_glued_behind_a_request_are_refused() {
    for request in [SSL_REQUEST, GSS_REQUEST] {
        for glued in [vec![22], hello("a.postern.test"), SSL_REQUEST.to_vec()] {
            let mut opening = opening();
            assert_eq!(opening.feed(&[&request[..], &glued].concat()), Step::Refuse(Refusal::GluedBytes));
            assert_eq!(opening.speaking(), Speaking::Postgres);
        }
    }
}

#[test]
fn a_session_without_tls_is_refused_in_its_own_language() {
    let mut opening = opening();
    assert_eq!(feed_bytewise(&mut opening, &startup()), Step::Refuse(Refusal::PlaintextStartup));
    assert_eq!(opening.speaking(), Speaking::Postgres);
}

#[test]
fn a_session_after_gssapi_was_declined_is_refused_too() {
    let mut opening = opening();
    opening.feed(&GSS_REQUEST);
    assert_eq!(opening.feed(&startup()), Step::Refuse(Refusal::PlaintextStartup));
}

#[test]
fn a_cancel_request_gives_its_key() {
    let key = CancelKey::new(0x0102_0304, &[9, 8, 7, 6]).unwrap();
    assert_eq!(feed_bytewise(&mut opening(), &CANCEL), Step::Cancel(key.clone()));
    let mut after_gss = opening();
    after_gss.feed(&GSS_REQUEST);
    assert_eq!(after_gss.feed(&CANCEL), Step::Cancel(key));
    assert_eq!(opening().feed(&[&CANCEL[..], b"x"].concat()), Step::Refuse(Refusal::TrailingCancel));
}

#[test]
fn debug_hides_the_secret_of_a_cancel_key() {
    let mut opening = opening();
    opening.feed(&CANCEL);
    assert_eq!(format!("{opening:?}"), "Opening { received: 16, speaking: Postgres, .. }");
}

#[test]
fn other_protocols_are_refused_at_once() {
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x00\x00\x00\x01", b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff"] {
        let mut opening = opening();
        assert_eq!(opening.feed(junk), Step::Refuse(Refusal::UnknownProtocol), "{junk:?}");
        assert_eq!(opening.speaking(), Speaking::Postgres);
    }
}

#[test]
fn an_opening_without_a_byte_speaks_nothing() {
    assert_eq!(opening().speaking(), Speaking::Nothing);
    assert_eq!(opening().feed(&[]), Step::NeedMore);
}

#[test]
fn an_endless_hello_ends_at_the_limit() {
    let mut opening = Opening::new(1_000);
    assert_eq!(opening.feed(&[22, 3, 1, 2, 0, 1, 0, 0, 200]), Step::Refuse(Refusal::MalformedHello));
    let mut opening = Opening::new(1_000);
    let mut step = opening.feed(&[22, 3, 1, 0, 1, 1]);
    let mut fed = 6;
    while step == Step::NeedMore {
        step = opening.feed(&[22, 3, 1, 0, 1, 0]);
        fed += 6;
    }
    assert!(fed <= 1_006, "{step:?} after {fed} bytes");
}

const INTRODUCTION: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 5432\r\n";

#[test]
fn an_introduction_comes_before_all_else_and_is_not_replayed() {
    let wire = hello("a.postern.test");
    let mut opening = Opening::introduced(DEFAULT_MAX);
    let Step::Introduced(Some(ends)) = feed_bytewise(&mut opening, INTRODUCTION) else {
        panic!("it is a whole header")
    };
    assert_eq!((ends.client.to_string(), ends.server.port()), ("192.0.2.7:4711".to_owned(), 5432));
    assert_eq!(opening.feed(&[]), Step::NeedMore);
    assert_eq!(opening.speaking(), Speaking::Nothing, "the client itself has not said anything");
    assert_eq!(opening.feed(&SSL_REQUEST), Step::Reply(b'S'));
    assert!(matches!(opening.feed(&wire), Step::Hello(_)));
    assert_eq!(opening.into_received(), wire);
}

#[test]
fn what_comes_in_one_piece_with_an_introduction_is_kept() {
    let wire = hello("a.postern.test");
    let mut opening = Opening::introduced(DEFAULT_MAX);
    assert!(matches!(opening.feed(&[INTRODUCTION, &wire].concat()), Step::Introduced(Some(_))));
    assert!(matches!(opening.feed(&[]), Step::Hello(_)));
    assert_eq!(opening.into_received(), wire);
    let mut negotiating = Opening::introduced(DEFAULT_MAX);
    assert!(matches!(negotiating.feed(&[INTRODUCTION, &SSL_REQUEST, &[22]].concat()), Step::Introduced(Some(_))));
    assert_eq!(negotiating.feed(&[]), Step::Refuse(Refusal::GluedBytes), "that rule holds behind it as well");
}

#[test]
fn who_has_to_be_introduced_is_refused_otherwise_in_its_own_language() {
    let mut tls = Opening::introduced(DEFAULT_MAX);
    assert_eq!(tls.feed(&hello("a.postern.test")), Step::Refuse(Refusal::NotIntroduced));
    assert_eq!(tls.speaking(), Speaking::Tls);
    let mut postgres = Opening::introduced(DEFAULT_MAX);
    assert_eq!(postgres.feed(&SSL_REQUEST), Step::Refuse(Refusal::NotIntroduced));
    assert_eq!(postgres.speaking(), Speaking::Postgres);
}

#[test]
fn who_is_not_trusted_cannot_introduce_itself() {
    for header in [INTRODUCTION, ppp::v2::PROTOCOL_PREFIX] {
        assert_eq!(opening().feed(header), Step::Refuse(Refusal::UnknownProtocol));
        let mut twice = Opening::introduced(DEFAULT_MAX);
        assert!(matches!(twice.feed(&[INTRODUCTION, header].concat()), Step::Introduced(_)));
        assert_eq!(twice.feed(&[]), Step::Refuse(Refusal::UnknownProtocol), "and a second one is garbage");
    }
}

proptest! {
    #[test]
    fn the_cut_into_reads_does_not_matter(
        wire in hellos(), negotiated: bool, cuts in prop::collection::vec(1usize..400, 1..40),
    ) {
        let mut opening = opening();
        if negotiated {
            prop_assert_eq!(opening.feed(&SSL_REQUEST), Step::Reply(b'S'));
        }
        let (mut rest, mut cuts) = (&wire[..], cuts.into_iter().cycle());
        let found = loop {
            let (now, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            rest = later;
            let step = opening.feed(now);
            if step != Step::NeedMore {
                break step;
            }
            prop_assert!(!rest.is_empty());
        };
        prop_assert!(matches!(found, Step::Hello(_)) && rest.is_empty());
        prop_assert_eq!(opening.into_received(), wire);
    }

    #[test]
    fn random_bytes_end_or_wait_but_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let mut opening = opening();
        for chunk in chunks {
            match opening.feed(&chunk) {
                Step::NeedMore | Step::Introduced(_) | Step::Reply(_) => {}
                Step::Hello(_) | Step::Cancel(_) | Step::Refuse(_) => break,
            }
        }
    }
}
