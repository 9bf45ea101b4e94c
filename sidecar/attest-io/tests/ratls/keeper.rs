//! Our own certificate and its renewal.

use std::time::Duration;

use postern_attest::certificate::{MAX_CERTIFICATE_BYTES, evidence};
use postern_attest_io::{Identity, IdentityError, IdentityKeeper};
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Tasks;

use crate::world::{APP, Guest, OTHER_APP, Pair};

#[tokio::test]
async fn a_leaf_carries_every_form_and_serves_both_ends() {
    let guest = Guest::of(APP);
    let names = ["db.postern.test".to_owned(), "127.0.0.1".to_owned()];
    let identity = Identity::issue(&guest.agent, &names, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(identity.app().app_id, APP);
    assert!(identity.not_after() >= unix_now() + 3590);

    let read = evidence(identity.certificate()).unwrap();
    assert!(read.is_bound());
    assert_eq!(read.claimed_app_id, Some(APP));
    assert!(read.not_before < unix_now());
    // Both forms of the evidence are there, none of it critical.
    let text = identity.certificate().as_ref();
    let arcs = |last: u8| [0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xe7, 0x3d, 0x01, last, 0x04];
    for last in [1, 2, 3, 8] {
        assert!(text.windows(13).any(|window| window == arcs(last)), ".{last}");
    }
    assert!(text.len() < 14 * 1024 && text.len() < MAX_CERTIFICATE_BYTES, "{}", text.len());

    assert!(identity.certificate_pem().starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(identity.private_key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(!format!("{identity:?}").contains("PRIVATE"));
}

#[tokio::test]
async fn each_identity_has_a_key_of_its_own() {
    let guest = Guest::of(APP);
    let issue = || Identity::issue(&guest.agent, &[], Duration::from_secs(3600));
    let (first, second) = (issue().await.unwrap(), issue().await.unwrap());
    let spki = |identity: &Identity| evidence(identity.certificate()).unwrap().spki;
    assert_ne!(spki(&first), spki(&second));
}

#[tokio::test]
async fn without_a_guest_agent_there_is_no_identity() {
    let guest = Guest::of(APP);
    let agent = guest.agent.clone();
    guest.stop().await;
    let refused = Identity::issue(&agent, &[], Duration::from_secs(60)).await.unwrap_err();
    assert!(matches!(refused, IdentityError::Agent(_)), "{refused}");
}

#[tokio::test]
async fn an_identity_is_renewed_before_it_ends_and_sessions_go_on() {
    let guest = Guest::of(APP);
    let tasks = Tasks::new();
    let keeper = IdentityKeeper::start(guest.agent.clone(), Vec::new(), Duration::from_secs(1), &tasks).await.unwrap();
    let first = keeper.current();
    let renewed = async {
        while keeper.current().certificate() == first.certificate() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), renewed).await.unwrap();
    assert_ne!(evidence(first.certificate()).unwrap().spki, evidence(keeper.current().certificate()).unwrap().spki);
    assert_eq!(tasks.count(), 1);
    assert_eq!(tasks.close_and_wait(Duration::ZERO).await.left, 1);
}

#[tokio::test]
async fn the_old_identity_is_served_while_the_guest_agent_is_away() {
    let guest = Guest::of(APP);
    let tasks = Tasks::new();
    let keeper =
        IdentityKeeper::start(guest.agent.clone(), Vec::new(), Duration::from_millis(300), &tasks).await.unwrap();
    let first = keeper.current();
    guest.stop().await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(keeper.current().certificate(), first.certificate());
    assert_eq!(tasks.count(), 1, "it goes on trying");
    tasks.close_and_wait(Duration::ZERO).await;
}

#[tokio::test]
async fn new_sessions_show_the_identity_of_the_moment() {
    let pair = Pair::new().await;
    let (_, first) = pair.meet(&Default::default()).await;
    let (_, second) = pair.meet(&Default::default()).await;
    let fingerprint = |session: &postern_attest_io::Attested<_>| session.peer.as_ref().unwrap().fingerprint;
    assert_eq!(fingerprint(&first.unwrap()), fingerprint(&second.unwrap()));
    let other = Guest::of(OTHER_APP).keeper().await;
    assert!(other.is_current());
}
