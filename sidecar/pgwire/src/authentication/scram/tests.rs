use std::sync::LazyLock;

use bytes::BytesMut;
use proptest::prelude::*;

use super::{Challenged, EndPoint, Offer, Proof, ScramError, conclusion};
use crate::authentication::MAX_PASSWORD_MESSAGE;
use crate::frame::{self, Message};
use crate::roles::{Proven, Role, RoleMap, Verifiers};
use crate::scram::{Keys, NONCE, SALT, decode, encode, sign, xor};

const READ: &str = "1f8b6ab9f0f9d7d3c1be4efdfb3a2c55d1b7a4470d8a7b0bb1d6f3a1e6b5c301";
const WRITE: &str = "a3c5e9017b2d4f6880912a3b4c5d6e7f8091a2b3c4d5e6f70819203142536475";
const NEXT: &str = "77c5e9017b2d4f6880912a3b4c5d6e7f8091a2b3c4d5e6f70819203142536400";
const OURS: EndPoint = [7; 32];
const RENEWED: EndPoint = [8; 32];
const PLAIN: (&str, &[u8]) = ("SCRAM-SHA-256", b"n,,");
const BLIND: (&str, &[u8]) = ("SCRAM-SHA-256", b"y,,");
const PLUS: (&str, &[u8]) = ("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,");

fn verifiers() -> &'static Verifiers {
    static VERIFIERS: LazyLock<Verifiers> = LazyLock::new(make);
    &VERIFIERS
}

fn make() -> Verifiers {
    let role = |name: &str, secrets: &[&str], opens: &[&str]| Role {
        name: name.to_owned(),
        secrets: secrets.iter().map(|text| text.parse().unwrap()).collect(),
        opens: opens.iter().map(|&name| name.to_owned()).collect(),
    };
    let roles = vec![
        role("teesql_read", &[READ], &[]),
        role("teesql_readwrite", &[WRITE, NEXT], &["teesql_read"]),
        role("attested_only", &[], &[]),
    ];
    Verifiers::new(&RoleMap::new(roles).unwrap(), &[3; 32])
}

fn message(body: &[u8]) -> Message {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    frame::split(&mut BytesMut::from(&[b"p", &length[..], body].concat()[..]), MAX_PASSWORD_MESSAGE).unwrap().unwrap()
}

fn initial(mechanism: &str, data: &[u8]) -> Message {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    message(&[mechanism.as_bytes(), b"\0", &length, data].concat())
}

/// The text of an authentication message.
fn said(message: &[u8]) -> &str {
    std::str::from_utf8(&message[9..]).unwrap()
}

/// The server's state and challenge after a client's first message.
fn first(offered: &[EndPoint], (mechanism, header): (&str, &[u8])) -> Result<(Challenged, String), ScramError> {
    let message = initial(mechanism, &[header, b"n=,r=client"].concat());
    let (state, challenge) = Offer::new(offered.to_vec()).first(&message, &[5; SALT], &[6; NONCE])?;
    Ok((state, said(&challenge).to_owned()))
}

/// A client's last message, and what it signs.
fn last(challenge: &str, binding: &[u8], password: &str) -> (Message, Vec<u8>) {
    let mut parts = challenge.split(',');
    let nonce = parts.next().unwrap();
    let salt = decode(parts.next().unwrap().strip_prefix("s=").unwrap().as_bytes()).unwrap();
    let keys = Keys::of(password.as_bytes(), &salt);
    let unproven = format!("c={},{nonce}", encode(binding));
    let signed = format!("n=,r=client,{challenge},{unproven}").into_bytes();
    let proof = xor(&keys.client, &sign(&keys.stored(), &signed));
    (message(format!("{unproven},p={}", encode(proof.as_slice())).as_bytes()), signed)
}

/// A whole exchange without channel binding, up to the proof.
fn proof(verifiers: &Verifiers, user: &str, password: &str) -> Proof {
    let message = initial(PLAIN.0, b"n,,n=,r=client");
    let salt = verifiers.salt(user.as_bytes());
    let (state, challenge) = Offer::new(Vec::new()).first(&message, &salt, &[6; NONCE]).unwrap();
    state.proof(&last(said(&challenge), b"n,,", password).0).unwrap()
}

#[test]
fn channel_binding_is_offered_where_there_is_a_channel_to_bind() {
    assert_eq!(&Offer::new(Vec::new()).request()[..], b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0");
    let both = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    assert_eq!(&Offer::new(vec![OURS]).request()[..], both);
}

#[test]
fn each_secret_proves_its_roles() {
    let verifiers = verifiers();
    for (user, password, role) in [
        ("teesql_read", READ, Some("teesql_read")),
        ("teesql_readwrite", WRITE, Some("teesql_readwrite")),
        ("teesql_readwrite", NEXT, Some("teesql_readwrite")),
        ("teesql_read", WRITE, Some("teesql_read")),
        ("teesql_read", NEXT, Some("teesql_read")),
        ("teesql_readwrite", READ, None),
        ("attested_only", READ, None),
        ("postgres", READ, None),
        ("", READ, None),
        ("teesql_read", "ratls", None),
        ("teesql_read", "", None),
    ] {
        let proven = verifiers.prove(user.as_bytes(), &proof(verifiers, user, password)).map(|proven| proven.role);
        assert_eq!(proven, role, "{user} {password}");
    }
}

#[test]
fn the_server_proves_itself_too() {
    let verifiers = verifiers();
    let salt = verifiers.salt(b"teesql_read");
    let (state, challenge) =
        Offer::new(vec![]).first(&initial(PLAIN.0, b"n,,n=,r=client"), &salt, &[6; NONCE]).unwrap();
    let (message, signed) = last(said(&challenge), b"n,,", READ);
    let proof = state.proof(&message).unwrap();
    let Some(Proven { role: "teesql_read", signature }) = verifiers.prove(b"teesql_read", &proof) else { panic!() };
    assert_eq!(signature, *sign(&Keys::of(READ.as_bytes(), &salt).server, &signed));
    assert_eq!(said(&conclusion(&signature)), format!("v={}", encode(&signature)));
}

#[test]
fn the_binding_has_to_be_to_one_of_our_certificates() {
    for (data, allowed) in [(OURS, true), (RENEWED, true), ([9; 32], false)] {
        let (state, challenge) = first(&[OURS, RENEWED], PLUS).unwrap();
        let bound = state.proof(&last(&challenge, &[PLUS.1, &data].concat(), READ).0);
        assert_eq!(bound.map(drop), if allowed { Ok(()) } else { Err(ScramError::Binding) });
    }
    for data in [&b""[..], b"n,,", b"y,,", PLUS.1] {
        let (state, challenge) = first(&[OURS], PLUS).unwrap();
        assert_eq!(state.proof(&last(&challenge, data, READ).0).map(drop), Err(ScramError::Binding));
    }
}

#[test]
fn an_offer_that_was_changed_on_the_way_is_noticed() {
    assert_eq!(
        first(&[OURS], BLIND).map(drop),
        Err(ScramError::Negotiation),
        "it was offered, and the client saw nothing"
    );
    assert_eq!(first(&[], BLIND).map(drop), Ok(()));
    assert_eq!(first(&[OURS], PLAIN).map(drop), Ok(()), "a client that cannot");
    let (state, challenge) = first(&[], BLIND).unwrap();
    let changed = state.proof(&last(&challenge, b"n,,", READ).0);
    assert_eq!(changed.map(drop), Err(ScramError::Binding), "the header is part of what is bound");
}

#[test]
fn choices_that_do_not_fit_together_are_refused() {
    for (offered, choice, error) in [
        (&[][..], PLUS, ScramError::Mechanism),
        (&[OURS], ("SCRAM-SHA-1", PLAIN.1), ScramError::Mechanism),
        (&[OURS], (PLUS.0, PLAIN.1), ScramError::Malformed),
        (&[OURS], (PLUS.0, BLIND.1), ScramError::Malformed),
        (&[OURS], (PLAIN.0, PLUS.1), ScramError::Malformed),
        (&[OURS], (PLUS.0, b"p=tls-unique,,"), ScramError::Extension),
        (&[OURS], (PLAIN.0, b"x,,"), ScramError::Malformed),
        (&[OURS], (PLAIN.0, b"n,a=postgres,"), ScramError::Authorization),
    ] {
        assert_eq!(first(offered, choice).map(drop), Err(error), "{choice:?}");
    }
}

#[test]
fn malformed_messages_are_refused() {
    let begin = |data: &[u8]| Offer::new(vec![]).first(&initial(PLAIN.0, data), &[5; SALT], &[6; NONCE]).map(drop);
    for data in
        [&b""[..], b"n", b"n,", b"n,,", b"n,,n=", b"n,,n=,r=", b"n,,n=,r=a b", b"n,,r=client", b"n,,n=,x=client"]
    {
        assert_eq!(begin(data), Err(ScramError::Malformed), "{data:?}");
    }
    assert_eq!(begin(b"n,,m=must,n=,r=client"), Err(ScramError::Extension));
    assert_eq!(begin(b"n,,n=,r=client,future=thing"), Ok(()));
    for body in
        [&b"SCRAM-SHA-256"[..], b"SCRAM-SHA-256\0", b"SCRAM-SHA-256\0\xff\xff\xff\xff", b"SCRAM-SHA-256\0\0\0\0\x09n,,"]
    {
        let refused = Offer::new(vec![]).first(&message(body), &[5; SALT], &[6; NONCE]);
        assert_eq!(refused.map(drop), Err(ScramError::Malformed), "{body:?}");
    }
    for body in [&b""[..], b",", b"c=biws", b"c=biws,r=x", b"c=biws,r=x,p=", b"c=biws,r=x,p=AAAA", b"c=*,r=x,p=AAAA"] {
        let (state, _) = first(&[], PLAIN).unwrap();
        assert_eq!(state.proof(&message(body)).map(drop), Err(ScramError::Malformed), "{body:?}");
    }
    let (state, _) = first(&[], PLAIN).unwrap();
    let other = format!("c=biws,r=other,p={}", encode(&[0; 32]));
    assert_eq!(state.proof(&message(other.as_bytes())).map(drop), Err(ScramError::Nonce));
    let query = frame::split(&mut BytesMut::from(&b"Q\0\0\0\x05\0"[..]), 100).unwrap().unwrap();
    let refused = Offer::new(vec![]).first(&query, &[5; SALT], &[6; NONCE]);
    assert_eq!(refused.map(drop), Err(ScramError::Unexpected(b'Q')));
}

#[test]
fn a_name_without_a_role_gets_a_salt_like_any_other() {
    let (once, again) = (verifiers(), make());
    for user in [&b"nobody"[..], b"teesql_read", b"", &[0xff; 100]] {
        assert_eq!(once.salt(user), again.salt(user), "the same each time, also after the secrets were read again");
    }
    assert_ne!(once.salt(b"nobody"), once.salt(b"teesql_read"));
}

#[test]
fn debug_hides_what_is_proven_and_what_proves() {
    let verifiers = verifiers();
    let text = format!("{verifiers:?} {:?}", proof(verifiers, "teesql_read", READ));
    assert!(text.contains("teesql_read") && text.contains("[redacted]") && text.len() < 200, "{text}");
}

proptest! {
    #[test]
    fn random_messages_never_panic(choice in prop::sample::select(vec![PLAIN, BLIND, PLUS]), one in prop::collection::vec(any::<u8>(), 0..60), two in prop::collection::vec(any::<u8>(), 0..90)) {
        let _refused = Offer::new(vec![OURS]).first(&message(&one), &[5; SALT], &[6; NONCE]);
        let data = [choice.1, &one].concat();
        let _read = Offer::new(vec![OURS]).first(&initial(choice.0, &data), &[5; SALT], &[6; NONCE]);
        let (state, _) = first(&[OURS], PLUS).unwrap();
        prop_assert!(state.proof(&message(&two)).is_err());
    }

    #[test]
    fn a_proof_that_was_changed_proves_nothing(at in 0_usize..32, bit in 0_u8..8) {
        let verifiers = verifiers();
        let mut proof = proof(verifiers, "teesql_read", READ);
        proof.proof[at] ^= 1 << bit;
        prop_assert!(verifiers.prove(b"teesql_read", &proof).is_none());
    }
}
