use proptest::prelude::*;

use super::{MAX_LOOKED_INTO, Reported, TERMINATE, Tracker};

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

fn tracker() -> Tracker {
    Tracker::new(Reported::default())
}

/// What the client (`>`) and Postgres (`<`) say, message by message, with the status behind each `Z`.
fn play(script: &str) -> Tracker {
    let mut tracker = tracker();
    for said in script.split(' ') {
        match *said.as_bytes() {
            [b'<', b'Z', status] => tracker.received(&ready(status)),
            [b'<', tag] => tracker.received(&message(tag, b"body")),
            [b'>', tag] => tracker.sent(&message(tag, b"body")),
            _ => panic!("{said}"),
        }
    }
    tracker
}

#[test]
fn a_session_rests_when_postgres_has_answered_everything() {
    assert!(tracker().is_at_rest(), "before its first query");
    for script in [
        ">Q <T <D <C <ZI",
        ">P >B >D >E >S <1 <2 <T <D <C <ZI",
        ">P >B >E >S <E <ZI",
        ">F <V <ZI",
        ">Q >Q <C <ZI <E <ZI",
        ">Q <C <ZT >Q <E <ZE >Q <C <ZI",
        ">Q <C <ZI <A <N",
        ">Q <G >d >d >c <C <ZI >Q <C <ZI",
        ">P >S >B >E >S <1 <ZI <2 <C <ZI",
    ] {
        assert!(play(script).is_at_rest(), "{script}");
    }
}

#[test]
fn it_does_not_rest_while_anything_is_open() {
    for script in [
        ">Q",
        ">Q <C",
        ">Q <C <ZT",
        ">Q <C <ZE",
        ">Q >Q <C <ZI",
        ">P",
        ">Q <C <ZI >P",
        ">P >B >E >H <1 <2 <C",
        ">Q <C <ZI >B >E",
        ">Q <G",
        ">Q <G >d >c",
        // What is sent behind the end of a COPY, Postgres ignores; that it has, it does not say.
        ">Q <G <E <ZI >d >c",
    ] {
        assert!(!play(script).is_at_rest(), "{script}");
    }
}

#[test]
fn once_it_is_uncertain_it_never_rests_again() {
    for script in [
        // Postgres ignores Sync during a COPY, and all but Sync after an error in the extended protocol.
        ">Q <G >S >d >c <C <ZI >Q <C <ZI",
        ">P <E >Q >S <ZI >Q <C <ZI",
        // Nobody asked.
        "<ZI >Q <C <ZI",
        ">X >Q <C <ZI",
    ] {
        assert!(!play(script).is_at_rest(), "{script}");
    }
    for bytes in [&b"Q\0\0\0\x03"[..], b"Q\xff\xff\xff\xff", b"Q\x80\0\0\0"] {
        let mut tracker = tracker();
        tracker.sent(bytes);
        tracker.received(&ready(b'I'));
        assert!(!tracker.is_at_rest(), "{bytes:?}");
        let mut tracker = play(">Q <C <ZI");
        tracker.received(bytes);
        assert!(!tracker.is_at_rest(), "{bytes:?}");
    }
    for odd in
        [message(b'Z', b""), message(b'Z', b"II"), message(b'S', b"no name"), message(b'S', &[1; MAX_LOOKED_INTO + 1])]
    {
        let mut tracker = play(">Q");
        tracker.received(&odd);
        tracker.received(&ready(b'I'));
        assert!(!tracker.is_at_rest(), "{odd:?}");
    }
}

#[test]
fn it_does_not_rest_within_a_message() {
    let query = message(b'Q', b"select 1\0");
    let answer = [message(b'C', b"SELECT 1\0"), ready(b'I'), message(b'N', b"S\0\0")].concat();
    for end in 1..query.len() {
        let mut tracker = tracker();
        tracker.sent(&query[..end]);
        assert!(!tracker.is_at_rest());
    }
    let rests = |end: usize| {
        let mut tracker = tracker();
        tracker.sent(&query);
        tracker.received(&answer[..end]);
        tracker.is_at_rest()
    };
    let whole = answer.len() - 8;
    assert!(rests(whole) && rests(answer.len()));
    assert!((0..answer.len()).filter(|end| *end != whole).all(|end| !rests(end)));
}

#[test]
fn a_terminate_is_found_where_it_is_a_message_of_its_own() {
    let query = message(b'Q', b"select 1\0");
    assert_eq!(tracker().farewell(TERMINATE), Some(0));
    assert_eq!(tracker().farewell(&[&query[..], TERMINATE].concat()), Some(query.len()));
    assert_eq!(tracker().farewell(&[&TERMINATE[..], &query].concat()), None, "it is not the last word");
    let copied = message(b'd', TERMINATE);
    assert_eq!(tracker().farewell(&copied), None, "it is what somebody copies");
    let mut within = tracker();
    within.sent(&copied[..5]);
    assert_eq!(within.farewell(TERMINATE), None);
    within.sent(TERMINATE);
    assert_eq!(within.farewell(TERMINATE), Some(0));
    for end in 0..TERMINATE.len() {
        assert_eq!(tracker().farewell(&TERMINATE[..end]), None);
    }
}

#[test]
fn what_postgres_reports_meanwhile_is_known_in_the_end() {
    let status = |text: &[u8]| message(b'S', text);
    let mut reported = Reported::default();
    assert!(reported.note(&status(b"TimeZone\0UTC\0")) && reported.note(&status(b"DateStyle\0ISO\0")));
    let mut tracker = Tracker::new(reported);
    tracker.sent(&message(b'Q', b"set timezone = 'CET'\0"));
    for byte in [message(b'C', b"SET\0"), status(b"TimeZone\0CET\0"), ready(b'I')].concat() {
        tracker.received(&[byte]);
    }
    assert!(tracker.is_at_rest());
    let mut expected = Reported::default();
    assert!(expected.note(&status(b"TimeZone\0CET\0")) && expected.note(&status(b"DateStyle\0ISO\0")));
    assert_eq!(tracker.into_reported(), expected);
}

proptest! {
    #[test]
    fn however_bytes_are_cut_the_verdict_is_the_same(
        script in prop::collection::vec((any::<bool>(), prop::sample::select(b"QSFPBEXdcfCDZSAN".to_vec()), prop::collection::vec(any::<u8>(), 0..20)), 0..30),
        size in 1_usize..40,
    ) {
        let (mut whole, mut cut) = (tracker(), tracker());
        for (ours, tag, body) in script {
            let body = if tag == b'Z' { b"I".to_vec() } else { body };
            let bytes = message(tag, &body);
            if ours {
                whole.sent(&bytes);
                bytes.chunks(size).for_each(|bytes| cut.sent(bytes));
            } else {
                whole.received(&bytes);
                bytes.chunks(size).for_each(|bytes| cut.received(bytes));
            }
            prop_assert_eq!(whole.is_at_rest(), cut.is_at_rest());
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut tracker = tracker();
        let farewell = tracker.farewell(&bytes);
        prop_assert!(farewell.is_none_or(|at| bytes[at..] == TERMINATE[..]));
        tracker.sent(&bytes);
        tracker.received(&bytes);
    }
}
