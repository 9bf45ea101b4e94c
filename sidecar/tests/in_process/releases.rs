//! Everything that the sidecar asks of PostgreSQL, of each release that it serves.

use std::pin::pin;
use std::time::Duration;

use postern_pgwire::negotiation::Version;
use postern_sidecar::keys;
use postern_sidecar::postgres::supervise::Condition;
use tokio::time::timeout;

use crate::cancel::cancel_in_plaintext;
use crate::driver::{Driver, startup_of, words};
use crate::libpq;
use crate::real::{Cluster, psql};
use crate::world::{READ_SECRET, Sidecar, WRITE_SECRET, World, agent_client};

const PATIENCE: Duration = Duration::from_secs(60);
const READER: [(&str, &str); 2] = [("user", "teesql_read"), ("database", "postgres")];

/// A world, a PostgreSQL of a release, and a sidecar before it.
async fn serving(release: &str) -> (World, Cluster, Sidecar) {
    let world = World::new().await;
    let superuser = keys::superuser_password(&agent_client(&world.server_agent)).await.unwrap();
    let cluster = Cluster::of_release(release, &superuser).await;
    let sidecar = world.serve_before(cluster.folder(), "", "").await;
    assert_eq!(sidecar.serving.postgres().clone().decided().await, Condition::Ready);
    (world, cluster, sidecar)
}

/// Roles have what their names say, and no more.
async fn roles(world: &World, sidecar: &Sidecar, release: &str) {
    let reader = libpq::straight(world, sidecar).await;
    let writer = reader.replace("teesql_read ", "teesql_readwrite ");
    let version = psql(&reader, READ_SECRET, "show server_version").await.unwrap();
    assert!(version.starts_with(release), "{version}");
    psql(&writer, WRITE_SECRET, "create table notes as select 1 as number").await.unwrap();
    assert_eq!(psql(&reader, READ_SECRET, "select number from notes").await.as_deref(), Ok("1"));
    let refused = psql(&reader, READ_SECRET, "insert into notes values (2)").await.unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
    let refused = psql(&writer, READ_SECRET, "select 1").await.unwrap_err();
    assert!(refused.contains("password authentication failed for user \"teesql_readwrite\""), "{refused}");
}

/// The newest protocol that both sides have is spoken, and its cancel keys work.
async fn cancels(world: &World, sidecar: &Sidecar, newest: Version) {
    let opening = startup_of(Version::V3_2, &READER);
    let mut driver = Driver::log_in(world.attested(sidecar).await, &opening, READ_SECRET).await.unwrap();
    assert_eq!(driver.negotiated.is_none(), newest == Version::V3_2);
    let key = driver.key.clone().unwrap();
    assert_eq!(key.secret().len(), if newest == Version::V3_2 { 32 } else { 4 });
    driver.ask("select pg_sleep(600)").await;
    // A cancel that comes before its query finds nothing to cancel, and one that is still on its way would find the next query.
    let outcome = timeout(PATIENCE, async {
        let mut ready = pin!(driver.until_ready());
        loop {
            cancel_in_plaintext(sidecar, &key).await;
            if let Ok(end) = timeout(Duration::from_millis(100), &mut ready).await {
                break end;
            }
        }
    });
    assert_eq!(outcome.await.expect("it is not cancelled").unwrap_err().sqlstate, "57014");
    driver.ask("copy (select repeat('x', 1000) from generate_series(1, 20000)) to stdout").await;
    driver.until_ready().await.unwrap();
}

/// Clients of a sidecar that stops read Postgres' own words.
async fn ends(world: &World, sidecar: &Sidecar) {
    let opening = startup_of(Version::V3_0, &READER);
    let mut idle = Driver::log_in(world.attested(sidecar).await, &opening, READ_SECRET).await.unwrap();
    sidecar.ground.shutdown.trigger();
    let drain = sidecar.serving.drain(&sidecar.ground, Duration::from_millis(100));
    let (error, ()) = timeout(PATIENCE, async { tokio::join!(idle.refusal(), drain) }).await.expect("it goes on");
    assert_eq!(words(&error), ("57P01", "terminating connection due to administrator command"));
}

/// A Postgres that is gone is told from one that never was.
async fn away(world: &World, sidecar: &Sidecar) {
    let opening = startup_of(Version::V3_0, &READER);
    let error = Driver::log_in(world.attested(sidecar).await, &opening, READ_SECRET).await.unwrap_err();
    assert_eq!(words(&error).0, "57P03", "{error:?}");
}

async fn serves(release: &str, newest: Version) {
    let (world, cluster, sidecar) = serving(release).await;
    roles(&world, &sidecar, release).await;
    cancels(&world, &sidecar, newest).await;
    ends(&world, &sidecar).await;

    let sidecar = world.serve_before(cluster.folder(), "", "").await;
    assert_eq!(sidecar.serving.postgres().clone().decided().await, Condition::Ready);
    cluster.stop().await;
    away(&world, &sidecar).await;
}

#[tokio::test]
async fn postgresql_15_is_served() {
    serves("15", Version::V3_0).await;
}

#[tokio::test]
async fn postgresql_17_is_served() {
    serves("17", Version::V3_0).await;
}

#[tokio::test]
async fn postgresql_18_is_served() {
    serves("18", Version::V3_2).await;
}
