use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::{Agreement, Version, agree, named_version, packet, probe};
use crate::frame::{self, Message};
use crate::startup::Startup;

fn startup(version: u32, body: &[u8]) -> Startup {
    let mut packet = BytesMut::new();
    packet.put_u32(u32::try_from(8 + body.len()).unwrap());
    packet.put_u32(version);
    packet.put_slice(body);
    Startup::parse(packet.freeze()).unwrap()
}

fn message(bytes: &[u8]) -> Message {
    frame::split(&mut BytesMut::from(bytes), 100_000).unwrap().unwrap()
}

const PLAIN: &[u8] = b"user\0a\0options\0\xff\xfe\0\0";

#[test]
fn who_asks_for_what_is_there_gets_its_packet_passed_on_untouched() {
    for (asked, newest) in
        [(Version::V3_0, Version::V3_0), (Version::V3_0, Version::V3_2), (Version::V3_2, Version::V3_2)]
    {
        let startup = startup(asked.code(), PLAIN);
        let expected = Agreement { version: asked, answer: None, startup: startup.raw().clone() };
        assert_eq!(agree(&startup, newest), expected);
    }
}

#[test]
fn who_asks_for_3_2_in_front_of_3_0_is_told_so_and_3_0_is_asked_for() {
    let agreed = agree(&startup(Version::V3_2.code(), PLAIN), Version::V3_0);
    assert_eq!(agreed.version, Version::V3_0);
    assert_eq!(agreed.answer.as_deref(), Some(&b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0"[..]));
    assert_eq!(agreed.startup, startup(Version::V3_0.code(), PLAIN).raw());
}

#[test]
fn grease_is_answered_with_the_newest_version_and_the_name_of_the_option() {
    let body = b"user\0a\0_pq_.test_protocol_negotiation\0\0application_name\0b\0\0";
    for newest in [Version::V3_0, Version::V3_2] {
        let agreed = agree(&startup(Version::GREASE.code(), body), newest);
        let minor = u8::try_from(newest.code() & 0xff).unwrap();
        let expected = [b"v\0\0\0\x2b\0\x03\0".as_slice(), &[minor], b"\0\0\0\x01_pq_.test_protocol_negotiation\0"];
        assert_eq!(agreed.answer.as_deref(), Some(&expected.concat()[..]));
        assert_eq!(agreed.startup, startup(newest.code(), b"user\0a\0application_name\0b\0\0").raw());
    }
}

#[test]
fn options_are_declined_by_name_whatever_the_version() {
    let agreed = agree(&startup(Version::V3_0.code(), b"_pq_.a\0x\0user\0a\0_pq_.b\0\0_pq\0c\0\0"), Version::V3_2);
    assert_eq!(agreed.version, Version::V3_0);
    assert_eq!(agreed.answer.as_deref(), Some(&b"v\0\0\0\x1a\0\x03\0\0\0\0\0\x02_pq_.a\0_pq_.b\0"[..]));
    assert_eq!(agreed.startup, startup(Version::V3_0.code(), b"user\0a\0_pq\0c\0\0").raw());
}

#[test]
fn no_version_is_promised_that_we_do_not_understand() {
    let newer = Version::new(0x0003_0003).unwrap();
    let agreed = agree(&startup(newer.code(), PLAIN), newer);
    assert_eq!(agreed.version, Version::V3_2);
    assert!(agreed.answer.is_some());
}

#[test]
fn what_postgres_answers_to_the_probe_names_its_version() {
    let asked = Startup::parse(probe(b"postgres")).unwrap();
    assert_eq!((asked.version(), asked.user()), (Version::GREASE, b"postgres".as_slice()));
    // Bytes of PostgreSQL 15.18 and 18.4.
    for (minor, version) in [(0, Version::V3_0), (2, Version::V3_2)] {
        let said =
            [b"v\0\0\0\x2b\0\x03\0".as_slice(), &[minor], b"\0\0\0\x01_pq_.test_protocol_negotiation\0"].concat();
        assert_eq!(named_version(&message(&said)), Some(version));
    }
}

#[test]
fn nothing_else_names_a_version() {
    for said in [
        b"R\0\0\0\x0c\0\x03\0\0\0\0\0\0".as_slice(),
        b"v\0\0\0\x04",
        b"v\0\0\0\x08\0\x03\0\0",
        b"v\0\0\0\x0c\0\x02\0\0\0\0\0\0",
    ] {
        assert_eq!(named_version(&message(said)), None, "{said:?}");
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let any_name = prop::collection::vec(1_u8.., 1..12);
    let option = prop::collection::vec(1_u8.., 0..12).prop_map(|rest| [super::OPTION, &rest].concat());
    prop_oneof![any_name, option, Just(b"user".to_vec())]
}

fn unique(parameters: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut seen = std::collections::BTreeSet::new();
    parameters.into_iter().filter(|(name, _)| seen.insert(name.clone())).collect()
}

proptest! {
    #[test]
    fn what_is_asked_of_postgres_is_what_the_client_was_promised(
        minor: u16,
        newest in prop_oneof![Just(0_u16), Just(2), any::<u16>()],
        parameters in prop::collection::vec((name(), prop::collection::vec(1_u8.., 0..8)), 0..8).prop_map(unique),
    ) {
        let pairs = parameters.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let asked = Version(0x0003_0000 | u32::from(minor));
        let startup = Startup::parse(packet(asked, pairs.clone())).unwrap();
        let agreed = agree(&startup, Version(0x0003_0000 | u32::from(newest)));
        let forwarded = Startup::parse(agreed.startup.clone()).unwrap();

        prop_assert_eq!(forwarded.version(), agreed.version);
        prop_assert!(agreed.version <= Version::OURS && agreed.version <= asked);
        let (options, kept): (Vec<_>, Vec<_>) = pairs.partition(|(name, _)| name.starts_with(super::OPTION));
        prop_assert_eq!(forwarded.parameters().collect::<Vec<_>>(), kept);
        // Asked again for what was agreed, nothing is left to negotiate.
        prop_assert_eq!(agree(&forwarded, agreed.version).answer, None);
        match agreed.answer {
            None => {
                prop_assert_eq!(agreed.startup, startup.raw());
                prop_assert!(options.is_empty() && agreed.version == asked);
            }
            Some(answer) => {
                let answer = message(&answer);
                prop_assert_eq!(named_version(&answer), Some(agreed.version));
                let names: Vec<u8> = options.iter().flat_map(|(name, _)| [*name, &[0]].concat()).collect();
                prop_assert_eq!(&answer.body()[8..], &names[..]);
            }
        }
    }

    #[test]
    fn random_messages_never_panic(tag in prop_oneof![Just(b'v'), any::<u8>()], body in prop::collection::vec(any::<u8>(), 0..40)) {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        let _version = named_version(&message(&[&[tag], length.as_slice(), &body].concat()));
    }
}

#[test]
fn the_longest_startup_is_answered_in_one_message() {
    let body = [b"user\0a\0_pq_.".as_slice(), &[b'x'; 9_900], b"\0\0\0"].concat();
    let agreed = agree(&startup(Version::V3_0.code(), &body), Version::V3_2);
    assert_eq!(message(&agreed.answer.unwrap()).body().len(), 8 + 5 + 9_900 + 1);
    assert_eq!(agreed.startup, Bytes::from_static(b"\0\0\0\x10\0\x03\0\0user\0a\0\0"));
}
