//! A Postgres that is away, starting, misconfigured or not Postgres at all.

use std::time::Duration;

use postern_sidecar::postgres::supervise::Condition;
use postern_sidecar::start::StartError;

use crate::driver::{Driver, words};
use crate::postgres::Manner;
use crate::world::World;

#[tokio::test]
async fn each_trouble_with_postgres_has_its_code_and_passes_with_it() {
    for (manner, code) in [
        (Manner::Starting, "57P03"),
        (Manner::Garbage, "57P03"),
        (Manner::HangUp, "57P03"),
        (Manner::Trust, "08006"),
        (Manner::Cleartext, "08006"),
        (Manner::NoDatabase, "28000"),
        (Manner::Stall, "57P03"),
    ] {
        let (world, sidecar) = World::serving("").await;
        world.postgres.set(manner);
        let error = Driver::reader(world.attested(&sidecar).await).await.unwrap_err();
        assert_eq!(words(&error).0, code, "{manner:?}: {error:?}");
        world.postgres.set(Manner::Proper);
        let recovery = async { while Driver::reader(world.attested(&sidecar).await).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(20), recovery).await.unwrap();
        sidecar.assert_no_connection_is_left().await;
    }
}

#[tokio::test]
async fn an_absent_postgres_is_waited_for() {
    let world = World::new().await;
    let socket = world.folder.path().join(".s.PGSQL.5432");
    let aside = world.folder.path().join("aside");
    std::fs::rename(&socket, &aside).unwrap();
    let sidecar = world.serve_unprovisioned("").await;
    let error = Driver::reader(world.attested(&sidecar).await).await.unwrap_err();
    assert_eq!(error.sqlstate, "57P03");
    assert!(!sidecar.ground.readiness.is_ready());
    std::fs::rename(&aside, &socket).unwrap();
    assert_eq!(sidecar.serving.postgres().clone().decided().await, Condition::Ready);
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
    assert!(sidecar.ground.readiness.is_ready());
    // Postgres goes away: the next client is told at once, and comes in as soon as it is back.
    std::fs::rename(&socket, &aside).unwrap();
    assert_eq!(Driver::reader(world.attested(&sidecar).await).await.unwrap_err().sqlstate, "57P03");
    std::fs::rename(&aside, &socket).unwrap();
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
}

#[tokio::test]
async fn a_start_in_front_of_trust_is_refused() {
    let world = World::new().await;
    world.postgres.set(Manner::Trust);
    let mut sidecar = world.serve_unprovisioned("").await;
    let ended = sidecar.serving.until_stopped(&sidecar.ground).await;
    assert!(matches!(ended, Err(StartError::Postgres)), "{ended:?}");
    assert!(world.postgres.statements().is_empty(), "nothing was set up there");
}
