//! What is fuzzed, for the fuzzer and for the replay of its corpora alike. Nothing here may panic but an assertion that says
//! what went wrong.

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use postern_pgwire::authentication::password;
use postern_pgwire::authentication::scram::Offer;
use postern_pgwire::boundary::Boundary;
use postern_pgwire::cancel::CancelKey;
use postern_pgwire::error_response::ServerError;
use postern_pgwire::frame::{self, Message};
use postern_pgwire::login::{Login, Step};
use postern_pgwire::negotiation::{Version, agree, named_version};
use postern_pgwire::opening::{self, Opening};
use postern_pgwire::roles::{Role, RoleMap, Verifiers};
use postern_pgwire::scram::{KEY, NONCE, Password, SALT};
use postern_pgwire::startup::Startup;
use postern_pgwire::tracker::{Reported, Tracker};

/// A target, under its name.
pub(crate) type Target = fn(&[u8]);

/// Every target. Each has a folder of its name in `corpus`.
pub(crate) const ALL: [(&str, Target); 8] = [
    ("opening", opening),
    ("startup", startup),
    ("login", login),
    ("scram", scram),
    ("cancel_key", cancel_key),
    ("frames", frames),
    ("boundary", boundary),
    ("tracker", tracker),
];

/// What opens the role `reader`. No fuzzer finds it.
static VERIFIERS: LazyLock<Verifiers> = LazyLock::new(|| {
    let secrets = "1f8b6ab9f0f9d7d3c1be4efdfb3a2c55d1b7a4470d8a7b0bb1d6f3a1e6b5c301".parse().into_iter().collect();
    let reader = Role { name: "reader".to_owned(), secrets, opens: Vec::new() };
    let Ok(map) = RoleMap::new(vec![reader]) else { panic!("a map of one role") };
    Verifiers::new(&map, &[6; KEY])
});

/// The largest message that the targets read.
const CAP: usize = 4_096;

/// The first bytes of a connection. However they are cut, the verdict is the same.
pub(crate) fn opening(data: &[u8]) {
    let whole = opening::parse(data);
    let mut early = None;
    for end in 0..data.len().min(64) {
        match opening::parse(data.get(..end).unwrap_or_default()) {
            Ok(None) => assert!(early.is_none(), "what was understood is not understood any more"),
            verdict => early = Some(verdict),
        }
        if let Some(early) = &early {
            assert_eq!(early, &whole, "a verdict changes with the bytes behind it");
        }
    }
    let Ok(Some((found, consumed))) = whole else { return };
    let packet = data.get(..consumed);
    assert!(packet.is_some(), "more was consumed than there is");
    match found {
        Opening::Tls => assert_eq!(consumed, 0, "TLS is left alone"),
        Opening::SslRequest | Opening::GssEncRequest => assert_eq!(consumed, 8),
        Opening::Cancel(key) => assert_eq!(Some(&key.request()[..]), packet, "it writes back"),
        Opening::Startup(startup) => assert_eq!(Some(&startup.raw()[..]), packet, "it is kept as it came"),
    }
}

/// What comes behind the length of a startup packet, and what is agreed on in front of servers of both versions.
pub(crate) fn startup(data: &[u8]) {
    let length = u32::try_from(data.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
    let Ok(asked) = Startup::parse(Bytes::from([&length, data].concat())) else { return };
    for newest in [Version::V3_0, Version::V3_2] {
        let agreed = agree(&asked, newest);
        let Ok(forwarded) = Startup::parse(agreed.startup) else { panic!("Postgres could not read it") };
        assert_eq!((forwarded.user(), forwarded.database()), (asked.user(), asked.database()), "it is another session");
        assert_eq!(forwarded.is_replication(), asked.is_replication());
        assert!(forwarded.version() <= newest && forwarded.version() == agreed.version);
        assert!(agree(&forwarded, newest).answer.is_none(), "something is left to negotiate");
        if let Some(answer) = agreed.answer {
            let said = whole(&answer).as_ref().and_then(named_version);
            assert_eq!(said, Some(agreed.version), "the client is told another version");
        }
    }
}

/// What Postgres says while we log in.
pub(crate) fn login(data: &[u8]) {
    let mut login = Login::new(&Password::new(b"password"), &[7; NONCE]);
    let mut buf = BytesMut::from(data);
    while let Ok(Some(message)) = frame::split(&mut buf, CAP) {
        match login.receive(&message) {
            Ok(Step::Ready(_) | Step::Key(_)) => panic!("nobody gets in without a proof"),
            Ok(Step::Refused { error, .. }) => assert_eq!(&error.raw, message.raw(), "its words are kept"),
            Ok(Step::Send(_) | Step::Forward(_) | Step::Nothing) => {}
            Err(_) => {
                assert!(login.receive(&message).is_err(), "a login that failed goes on");
                return;
            }
        }
    }
}

/// What a client says that is asked for SCRAM-SHA-256, on a channel that can be bound and on one that cannot.
pub(crate) fn scram(data: &[u8]) {
    for end_points in [Vec::new(), vec![[7; KEY]]] {
        let mut buf = BytesMut::from(data);
        let Ok(Some(first)) = frame::split(&mut buf, CAP) else { return };
        let Ok((challenged, challenge)) = Offer::new(end_points).first(&first, &[8; SALT], &[9; NONCE]) else {
            continue;
        };
        let Some(challenge) = whole(&challenge) else { panic!("the challenge is no message") };
        let nonce =
            challenge.body().strip_prefix(b"\0\0\0\x0br=").and_then(|said| said.split(|byte| *byte == b',').next());
        let Some(nonce) = nonce else { panic!("it is no challenge") };
        assert!(
            nonce.ends_with(&[b"CQkJ".as_slice(); 6].concat()) && nonce.len() > 24,
            "a nonce without one of its halves"
        );
        let Ok(Some(last)) = frame::split(&mut buf, CAP) else { continue };
        let Ok(proof) = challenged.proof(&last) else { continue };
        let repeated = last.body().windows(nonce.len()).any(|part| part == nonce);
        assert!(repeated, "a proof for another exchange");
        assert!(VERIFIERS.prove(b"reader", &proof).is_none(), "nobody gets in without the secret");
    }
}

/// A process id and a secret, in both messages that carry them.
pub(crate) fn cancel_key(data: &[u8]) {
    let Some((process_id, secret)) = data.split_first_chunk::<4>() else { return };
    let Some(key) = CancelKey::new(u32::from_be_bytes(*process_id), secret) else {
        assert!(!(4..=256).contains(&secret.len()), "a length that the protocol knows");
        return;
    };
    let request = key.request();
    assert!((16..=268).contains(&request.len()));
    assert_eq!(opening::parse(&request), Ok(Some((Opening::Cancel(key.clone()), request.len()))), "it reads back");
    let Some(message) = whole(&key.backend_key_data()) else { panic!("it is no message") };
    assert_eq!((message.tag(), message.body()), (b'K', data));
    let slot = key.slot();
    if let Some(ours) = CancelKey::for_slot(slot, u16::from_be_bytes([process_id[2], process_id[3]]), secret) {
        assert_eq!(ours.slot(), slot, "a slot survives the process id");
    }
}

/// Messages after the opening, and the readers of those that carry more than a tag.
pub(crate) fn frames(data: &[u8]) {
    let mut buf = BytesMut::from(data);
    let mut taken = 0;
    while let Ok(Some(message)) = frame::split(&mut buf, CAP) {
        assert!((5..=CAP).contains(&message.raw().len()));
        taken += message.raw().len();
        if let Ok(secret) = password(&message) {
            assert_eq!(message.body().split_last(), Some((&0, secret)), "a password is all of its message");
        }
        assert!(
            named_version(&message).is_none_or(|version| version >= Version::V3_0),
            "a version of another protocol"
        );
        drop(ServerError::parse(message.raw(), message.body()));
    }
    assert_eq!(data.get(taken..), Some(&buf[..]), "bytes are lost");
}

/// The same messages, of which only the ends are looked for, in parts whose sizes the first bytes say.
pub(crate) fn boundary(data: &[u8]) {
    let (sizes, said) = data.split_at_checked(8).unwrap_or_default();
    let mut buf = BytesMut::from(said);
    let lost = loop {
        match frame::split(&mut buf, usize::MAX) {
            Ok(Some(_)) => {}
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    let (mut boundary, mut rest) = (Boundary::default(), said);
    for size in sizes.iter().cycle().take(said.len()) {
        let (part, behind) = rest.split_at_checked(usize::from(*size) + 1).unwrap_or((rest, &[]));
        boundary.follow(part);
        rest = behind;
    }
    assert_eq!(boundary.owed().is_none(), lost, "what is no message");
    assert!(lost || (boundary.owed() == Some(0)) == buf.is_empty(), "where a message ends");
    assert_eq!(boundary, Boundary::after(said), "it depends on the parts");
}

/// A session: the first byte of each piece says who sends it, and how long it is. However the pieces are cut, the verdict is the
/// same, and a Terminate is found only where a message begins.
pub(crate) fn tracker(data: &[u8]) {
    let (mut whole, mut cut) = (Tracker::new(Reported::default()), Tracker::new(Reported::default()));
    let mut rest = data;
    while let Some((kind, behind)) = rest.split_first() {
        let (piece, behind) = behind.split_at(behind.len().min(usize::from(kind >> 1)));
        rest = behind;
        if kind & 1 == 0 {
            let farewell = whole.farewell(piece);
            assert!(farewell.is_none_or(|at| piece.get(at..) == Some(b"X\0\0\0\x04")), "it is none");
            whole.sent(piece);
            piece.iter().for_each(|byte| cut.sent(&[*byte]));
            assert!(farewell.is_none() || !whole.is_at_rest(), "a session rests after its end");
        } else {
            whole.received(piece);
            piece.iter().for_each(|byte| cut.received(&[*byte]));
        }
        assert_eq!(whole.is_at_rest(), cut.is_at_rest(), "the verdict depends on the cuts");
    }
    let reported = whole.into_reported();
    assert_eq!(reported, cut.into_reported());
    assert_eq!(Reported::of(&reported.greeting()), Some(reported), "it reads back");
}

fn whole(bytes: &[u8]) -> Option<Message> {
    let mut buf = BytesMut::from(bytes);
    let message = frame::split(&mut buf, usize::MAX).ok()?;
    message.filter(|_| buf.is_empty())
}
