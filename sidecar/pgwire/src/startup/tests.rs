use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::{MAX_STARTUP, Startup, StartupError};
use crate::negotiation::Version;

fn packet(version: u32, body: &[u8]) -> Bytes {
    let mut packet = BytesMut::new();
    packet.put_u32(u32::try_from(8 + body.len()).unwrap());
    packet.put_u32(version);
    packet.put_slice(body);
    packet.freeze()
}

const V3: u32 = 196_608;

#[test]
fn parameters_are_read_and_the_packet_is_kept() {
    let raw = packet(V3, b"user\0teesql_read\0application_name\0\xff\xfe\0_pq_.x\0\0\0");
    let startup = Startup::parse(raw.clone()).unwrap();
    assert_eq!(startup.raw(), &raw);
    assert_eq!(startup.user(), b"teesql_read");
    assert_eq!(startup.database(), b"teesql_read");
    assert_eq!(startup.parameter(b"application_name"), Some(b"\xff\xfe".as_slice()));
    assert_eq!(startup.parameter(b"_pq_.x"), Some(b"".as_slice()));
    assert!(!startup.is_replication());
}

#[test]
fn the_database_is_the_one_named() {
    let startup = Startup::parse(packet(V3, b"user\0a\0database\0b\0\0")).unwrap();
    assert_eq!(startup.database(), b"b");
    let startup = Startup::parse(packet(V3, b"user\0a\0database\0\0\0")).unwrap();
    assert_eq!(startup.database(), b"a");
}

#[test]
fn a_startup_without_user_names_nobody() {
    assert_eq!(Startup::parse(packet(V3, b"\0")).unwrap().user(), b"");
}

#[test]
fn terminators_must_be_where_postgres_wants_them() {
    for body in [b"".as_slice(), b"user", b"user\0", b"user\0a", b"user\0a\0", b"user\0a\0\0\0", b"\0user\0a\0\0"] {
        assert_eq!(Startup::parse(packet(V3, body)), Err(StartupError::Layout), "{body:?}");
    }
}

#[test]
fn a_repeated_identity_is_refused() {
    for name in ["user", "database", "replication"] {
        let body = format!("{name}\0a\0{name}\0b\0\0");
        assert_eq!(Startup::parse(packet(V3, body.as_bytes())), Err(StartupError::Repeated), "{name}");
    }
}

#[test]
fn other_major_versions_are_refused_and_minor_ones_are_not() {
    assert_eq!(Startup::parse(packet(0x0002_0000, b"\0")), Err(StartupError::Version(2, 0)));
    assert_eq!(Startup::parse(packet(0x0003_0002, b"user\0a\0\0")).unwrap().version(), Version::V3_2);
    assert!(Startup::parse(packet(0x0003_270f, b"user\0a\0\0")).is_ok());
}

#[test]
fn lengths_have_a_cap() {
    let fits = packet(V3, &[b"user\0".as_slice(), &[b'a'; MAX_STARTUP - 8 - 5 - 2], b"\0\0"].concat());
    assert_eq!(fits.len(), MAX_STARTUP);
    assert!(Startup::parse(fits).is_ok());
    let over = packet(V3, &[b"user\0".as_slice(), &[b'a'; MAX_STARTUP - 8 - 5 - 1], b"\0\0"].concat());
    assert_eq!(Startup::parse(over), Err(StartupError::Length));
    assert_eq!(Startup::parse(Bytes::from_static(&[0, 0, 0, 9, 0, 3, 0, 0])), Err(StartupError::Length));
}

#[test]
fn only_a_plain_no_is_no_replication() {
    for (value, wanted) in [
        ("true", true),
        ("database", true),
        ("1", true),
        ("yes", true),
        ("nonsense", true),
        ("", true),
        ("false", false),
        ("OFF", false),
        ("0", false),
    ] {
        let body = format!("user\0a\0replication\0{value}\0\0");
        let startup = Startup::parse(packet(V3, body.as_bytes())).unwrap();
        assert_eq!(startup.is_replication(), wanted, "{value}");
    }
}

#[test]
fn debug_hides_the_values() {
    let startup = Startup::parse(packet(V3, b"user\0a\0options\0-c app.token=hidden\0\0")).unwrap();
    assert_eq!(format!("{startup:?}"), format!("Startup {{ version: 3.0, length: {}, .. }}", startup.raw().len()));
}

proptest! {
    #[test]
    fn random_bodies_never_panic_and_never_change(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let raw = packet(V3, &body);
        if let Ok(startup) = Startup::parse(raw.clone()) {
            prop_assert_eq!(startup.raw(), &raw);
            let rebuilt: Vec<u8> = startup
                .parameters()
                .flat_map(|(key, value)| [key, &[0], value, &[0]].concat())
                .chain([0])
                .collect();
            prop_assert_eq!(rebuilt, body);
        }
    }
}
