//! Which protocol a session speaks: what clients ask for in front of Postgres 15 and of Postgres 18.

use postern_pgwire::negotiation::{Version, named_version};
use tokio::net::TcpStream;

use crate::driver::{Driver, startup_of, words};
use crate::postgres::Manner;
use crate::world::{READ_SECRET, Sidecar, World};

type Session = Driver<tokio_rustls::TlsStream<TcpStream>>;

async fn session(world: &World, sidecar: &Sidecar, version: Version, option: &str) -> Session {
    let mut parameters = vec![("user", "teesql_read")];
    parameters.extend((!option.is_empty()).then_some((option, "")));
    let startup = startup_of(version, &parameters);
    Driver::log_in(world.attested(sidecar).await, &startup, READ_SECRET).await.unwrap()
}

#[tokio::test]
async fn clients_are_promised_what_postgres_has_and_no_more() {
    let newer = Version::new(0x0003_0003).unwrap();
    for (manner, asked, spoken) in [
        (Manner::Proper, Version::V3_0, Version::V3_0),
        (Manner::Proper, Version::V3_2, Version::V3_0),
        (Manner::Proper, newer, Version::V3_0),
        (Manner::Newer, Version::V3_0, Version::V3_0),
        (Manner::Newer, Version::V3_2, Version::V3_2),
        (Manner::Newer, newer, Version::V3_2),
    ] {
        let (world, sidecar) = World::serving("").await;
        world.postgres.set(manner);
        let mut session = session(&world, &sidecar, asked, "").await;
        let promised = session.negotiated.as_ref().and_then(named_version);
        assert_eq!(promised, (asked != spoken).then_some(spoken), "{asked} of {manner:?}");
        assert_eq!(world.postgres.startups()[0].version(), spoken);
        let length = if spoken == Version::V3_2 { 32 } else { 4 };
        assert_eq!(session.key.as_ref().unwrap().secret().len(), length);
        assert_eq!(session.query("select 1").await.unwrap(), b"select 1");
    }
}

#[tokio::test]
async fn grease_is_declined_and_does_not_reach_postgres() {
    let (world, sidecar) = World::serving("").await;
    world.postgres.set(Manner::Newer);
    for (version, option) in [(Version::GREASE, "_pq_.test_protocol_negotiation"), (Version::V3_0, "_pq_.thing")] {
        let session = session(&world, &sidecar, version, option).await;
        let answer = session.negotiated.unwrap();
        assert_eq!(named_version(&answer), Some(version.min(Version::V3_2)));
        assert_eq!(&answer.body()[4..], [b"\0\0\0\x01", option.as_bytes(), b"\0"].concat());
        let startup = world.postgres.startups().pop().unwrap();
        assert_eq!((startup.version(), startup.parameter(option.as_bytes())), (version.min(Version::V3_2), None));
    }
}

#[tokio::test]
async fn a_postgres_that_was_replaced_by_an_older_one_is_noticed() {
    let (world, sidecar) = World::serving("").await;
    world.postgres.set(Manner::Newer);
    drop(session(&world, &sidecar, Version::V3_2, "").await);
    world.postgres.set(Manner::Proper);
    let startup = startup_of(Version::V3_2, &[("user", "teesql_read")]);
    let error = Driver::log_in(world.attested(&sidecar).await, &startup, READ_SECRET).await.unwrap_err();
    assert_eq!(words(&error).0, "57P03", "3.2 was promised and cannot be kept");
    let session = session(&world, &sidecar, Version::V3_2, "").await;
    assert_eq!(session.negotiated.as_ref().and_then(named_version), Some(Version::V3_0));
}

#[tokio::test]
async fn a_postgres_that_is_away_is_no_reason_to_promise_nothing() {
    let (world, sidecar) = World::serving("").await;
    std::fs::remove_file(world.folder.path().join(".s.PGSQL.5432")).unwrap();
    let startup = startup_of(Version::V3_2, &[("user", "teesql_read")]);
    let error = Driver::log_in(world.attested(&sidecar).await, &startup, READ_SECRET).await.unwrap_err();
    assert_eq!(words(&error).0, "57P03");
}
