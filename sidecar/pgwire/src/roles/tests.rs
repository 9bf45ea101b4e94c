use std::cell::Cell;

use proptest::prelude::*;
use subtle::Choice;

use super::{ClusterSecret, Role, RoleMap, RoleMapError, SecretError, judge};

const READ: &str = "1f8b6ab9f0f9d7d3c1be4efdfb3a2c55d1b7a4470d8a7b0bb1d6f3a1e6b5c301";
const WRITE: &str = "a3c5e9017b2d4f6880912a3b4c5d6e7f8091a2b3c4d5e6f70819203142536475";
const NEXT: &str = "77c5e9017b2d4f6880912a3b4c5d6e7f8091a2b3c4d5e6f70819203142536400";

fn secret(text: &str) -> ClusterSecret {
    text.parse().unwrap()
}

fn role(name: &str, secrets: &[&str], opens: &[&str]) -> Role {
    Role {
        name: name.to_owned(),
        secrets: secrets.iter().map(|text| secret(text)).collect(),
        opens: opens.iter().map(|&name| name.to_owned()).collect(),
    }
}

fn map() -> RoleMap {
    RoleMap::new(vec![role("teesql_read", &[READ], &[]), role("teesql_readwrite", &[WRITE, NEXT], &["teesql_read"])])
        .unwrap()
}

#[test]
fn each_secret_opens_its_role() {
    let map = map();
    assert_eq!(map.admit(b"teesql_read", READ.as_bytes()), Some("teesql_read"));
    assert_eq!(map.admit(b"teesql_readwrite", WRITE.as_bytes()), Some("teesql_readwrite"));
    assert_eq!(map.admit(b"teesql_readwrite", NEXT.as_bytes()), Some("teesql_readwrite"));
    assert_eq!(map.admit(b"teesql_read", READ.to_uppercase().as_bytes()), Some("teesql_read"));
}

#[test]
fn downgrade_is_allowed_and_upgrade_is_not() {
    let map = map();
    assert_eq!(map.admit(b"teesql_read", WRITE.as_bytes()), Some("teesql_read"));
    assert_eq!(map.admit(b"teesql_readwrite", READ.as_bytes()), None);
}

#[test]
fn no_comparison_is_left_out_whoever_asks() {
    for hits in [[false; 3], [true, false, false], [false, false, true]] {
        let asked = Cell::new(0);
        let role = judge(&hits, |hit| {
            asked.set(asked.get() + 1);
            (Choice::from(u8::from(*hit)), 7)
        });
        assert_eq!((asked.get(), role.is_some()), (hits.len(), hits.contains(&true)));
    }
}

#[test]
fn a_role_without_a_secret_is_there_and_is_opened_by_none() {
    let map = RoleMap::new(vec![role("a", &[], &[]), role("b", &[WRITE], &[])]).unwrap();
    assert_eq!(map.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!([b"a", b"b", b"c"].map(|user| map.is_without_secret(user)), [true, false, false]);
    assert_eq!(map.admit(b"a", WRITE.as_bytes()), None);
    assert_eq!(map.admit(b"a", &[0; 64]), None);
    let opened = RoleMap::new(vec![role("a", &[], &[]), role("b", &[WRITE], &["a"])]).unwrap();
    assert!(!opened.is_without_secret(b"a") && opened.admit(b"a", WRITE.as_bytes()) == Some("a"));
}

#[test]
fn maps_are_the_same_when_they_open_the_same_by_the_same() {
    let other = |roles: Vec<Role>| RoleMap::new(roles).unwrap();
    let reader = || role("teesql_read", &[READ], &[]);
    assert!(map().is_same(&map()));
    for roles in [
        vec![reader(), role("teesql_readwrite", &[WRITE], &["teesql_read"])],
        vec![reader(), role("teesql_readwrite", &[WRITE, &NEXT.replace('7', "8")], &["teesql_read"])],
        vec![reader(), role("teesql_readwrite", &[WRITE, NEXT], &[])],
        vec![reader(), role("other", &[WRITE, NEXT], &["teesql_read"])],
        vec![reader(), role("teesql_readwrite", &[WRITE, NEXT], &["teesql_read"]), role("more", &[], &[])],
    ] {
        assert!(!map().is_same(&other(roles)));
    }
}

#[test]
fn nothing_else_opens_anything() {
    let map = map();
    for user in [b"teesql_read".as_slice(), b"", b"postgres", b"teesql_read\0", &[b'a'; 64], &[0; 63]] {
        for password in [b"".as_slice(), b"ratls", &[b'0'; 64], &READ.as_bytes()[..63], &[0; 32], &[0xff; 64]] {
            assert_eq!(map.admit(user, password), None, "{user:?} {password:?}");
        }
    }
    assert_eq!(map.admit(b"postgres", READ.as_bytes()), None);
    assert_eq!(map.admit(b"", READ.as_bytes()), None);
    assert_eq!(map.admit(b"teesql_rea", READ.as_bytes()), None);
    assert_eq!(map.admit(b"TEESQL_READ", READ.as_bytes()), None);
}

#[test]
fn placeholders_are_refused() {
    for text in ["", "ratls", "placeholder", "test-secret", &READ[..63], &format!("{READ}0"), &READ.replace('1', "g")] {
        assert_eq!(text.parse::<ClusterSecret>().unwrap_err(), SecretError::Format, "{text}");
    }
    let counting: String = (0..32).map(|byte: u8| format!("{byte:02x}")).collect();
    for text in ["0".repeat(64), "deadbeef".repeat(8), "0123456789abcdef".repeat(4), counting] {
        assert_eq!(text.parse::<ClusterSecret>().unwrap_err(), SecretError::Placeholder, "{text}");
    }
}

#[test]
fn accidents_in_the_map_are_refused() {
    let twice = RoleMap::new(vec![role("a", &[READ], &[]), role("a", &[WRITE], &[])]);
    assert_eq!(twice.unwrap_err(), RoleMapError::Repeated("a".to_owned()));
    let shared = RoleMap::new(vec![role("a", &[READ], &[]), role("b", &[WRITE, READ], &[])]);
    assert_eq!(shared.unwrap_err(), RoleMapError::SharedSecret("a".to_owned(), "b".to_owned()));
    let unknown = RoleMap::new(vec![role("a", &[READ], &["c"])]);
    assert_eq!(unknown.unwrap_err(), RoleMapError::Unknown("a".to_owned(), "c".to_owned()));
    let refused = RoleMap::new(vec![role("a", &[READ, WRITE, NEXT], &[])]);
    assert_eq!(refused.unwrap_err(), RoleMapError::Secrets("a".to_owned(), 3));
    for name in [String::new(), "a".repeat(64), "a\0".to_owned()] {
        assert_eq!(RoleMap::new(vec![role(&name, &[READ], &[])]).unwrap_err(), RoleMapError::Name(name));
    }
}

#[test]
fn a_secret_reads_back_as_its_digits() {
    assert_eq!(secret(READ).to_text().as_str(), READ);
    assert_eq!(secret(&WRITE.to_uppercase()).to_text().as_str(), WRITE);
}

#[test]
fn debug_hides_secrets() {
    let text = format!("{:?}", map());
    assert!(!text.contains("1f") && text.contains("[redacted]"), "{text}");
}

proptest! {
    #[test]
    fn only_the_exact_secret_opens(user in "[a-z_]{0,70}", password in "[0-9a-f]{60,66}") {
        prop_assert!(map().admit(user.as_bytes(), password.as_bytes()).is_none());
    }

    #[test]
    fn random_bytes_never_panic(user in prop::collection::vec(any::<u8>(), 0..80), password in prop::collection::vec(any::<u8>(), 0..80)) {
        prop_assert!(map().admit(&user, &password).is_none());
    }
}
