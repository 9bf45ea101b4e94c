//! The sidecar is asked to stop while sessions last.

use std::time::Duration;

use tokio::time::timeout;

use crate::cancel::{asleep, cancel_in_plaintext};
use crate::driver::{Driver, startup, words};
use crate::world::{READ_SECRET, World};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_drain_lets_sessions_end_and_nobody_begin_to_log_in() {
    let (world, sidecar) = World::serving("").await;
    let mut session = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let mut late = Driver::new(world.attested(&sidecar).await);
    late.send(&startup(&[("user", "teesql_read")])).await;
    assert_eq!(late.next().await.unwrap().tag(), b'R');
    sidecar.ground.shutdown.trigger();
    let client = async {
        late.password(READ_SECRET).await;
        late.until_ready().await.expect("who has begun is let in");
        drop(late);
        let error = Driver::reader(world.attested(&sidecar).await).await.unwrap_err();
        assert_eq!(words(&error).0, "57P01", "who comes later is told so, too");
        // The session is whole, and its queries can be cancelled.
        session.ask("sleep").await;
        asleep(&world).await;
        cancel_in_plaintext(&sidecar, session.key.as_ref().unwrap()).await;
        assert_eq!(session.answer().await.unwrap_err().sqlstate, "57014");
        assert_eq!(session.query("still").await.unwrap(), b"still");
        drop(session);
    };
    let drain = timeout(LONG, sidecar.serving.drain(&sidecar.ground, LONG * 2));
    let (drained, ()) = tokio::join!(drain, client);
    drained.expect("the drain ends with the last session");
    assert_eq!(sidecar.ground.sessions.count(), 0);
}

#[tokio::test]
async fn sessions_that_are_left_at_the_deadline_read_57p01_from_postgres() {
    let (world, sidecar) = World::serving("").await;
    let mut idle = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let mut busy = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    busy.ask("sleep").await;
    asleep(&world).await;
    sidecar.ground.shutdown.trigger();
    let clients = async {
        for session in [&mut idle, &mut busy] {
            let error = session.refusal().await;
            assert_eq!(words(&error), ("57P01", "terminating connection due to administrator command"));
        }
    };
    let drain = sidecar.serving.drain(&sidecar.ground, Duration::from_millis(200));
    timeout(LONG, async { tokio::join!(drain, clients) }).await.expect("it ends");
    assert_eq!(sidecar.ground.sessions.count(), 0);
    let asked = world.postgres.statements().into_iter().filter(|sql| sql.contains("pg_terminate_backend")).count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn without_postgres_sessions_are_cut_at_the_deadline() {
    let (world, sidecar) = World::serving("").await;
    let mut session = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    std::fs::remove_file(world.folder.path().join(".s.PGSQL.5432")).unwrap();
    sidecar.ground.shutdown.trigger();
    let drain = sidecar.serving.drain(&sidecar.ground, Duration::from_millis(200));
    timeout(LONG, drain).await.expect("it ends");
    assert!(session.next().await.is_err());
}
