//! Sessions that are cut while they last: their clients are told why, wherever the protocol has a place for it.

use std::time::Duration;

use postern_attest::Collateral;
use postern_plumbing::clock::unix_now;
use postern_sidecar::keys;
use postern_simulator::{Faults, Tee};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::connect::Beside;
use crate::driver::{Driver, words};
use crate::libpq;
use crate::postgres::{Manner, ROW};
use crate::real::psql;
use crate::world::{READ_SECRET, SERVER_APP, World, agent_client, counted, metrics};

const PATIENCE: Duration = Duration::from_secs(30);
/// What every client of a revoked platform reads.
const REASON: &str = "terminating connection: the client's evidence is no longer good enough: ";

/// Intel revokes the platform that everybody runs on.
pub(crate) fn revoke_platform(world: &World) {
    std::fs::write(world.folder.path().join("collateral.json"), revoked()).unwrap();
}

fn revoked() -> String {
    let revoked = Tee::with_faults([7; 32], Faults { revoked_pck: true, ..Faults::default() }).unwrap();
    revoked.collateral_bundle_json(unix_now()).unwrap()
}

#[tokio::test]
async fn an_idle_client_and_a_waiting_one_are_told_why_they_are_cut() {
    let (world, sidecar) = World::serving("").await;
    let metrics = metrics();
    let told = || counted(&metrics, &["postern_sidecar_sessions_cut_total", "told=\"yes\""]);
    let before = told();
    let mut idle = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let mut waiting = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    waiting.ask("sleep").await;
    revoke_platform(&world);
    for client in [&mut idle, &mut waiting] {
        let error = timeout(PATIENCE, client.refusal()).await.expect("the session goes on");
        assert_eq!(words(&error).0, "57P01");
        assert!(words(&error).1.starts_with(REASON), "{error:?}");
    }
    sidecar.assert_no_connection_is_left().await;
    assert_eq!(told() - before, 2);
}

#[tokio::test]
async fn a_client_in_the_midst_of_a_copy_reads_whole_rows_and_then_why() {
    let (world, sidecar) = World::serving("").await;
    let mut client = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    client.ask(&format!("copy out {}", u64::MAX >> 20)).await;
    assert_eq!(client.next().await.unwrap().tag(), b'H');
    revoke_platform(&world);
    let error = loop {
        let message = timeout(PATIENCE, client.next()).await.expect("it goes on").expect("it ends in a message");
        match message.tag() {
            b'd' => assert_eq!(message.body(), [b'x'; ROW]),
            tag => break (tag, message.raw().clone()),
        }
    };
    assert!(error.0 == b'E' && String::from_utf8_lossy(&error.1).contains(REASON), "{error:?}");
    assert!(client.next().await.is_err());
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn inside_a_message_of_which_the_rest_does_not_come_the_session_just_ends() {
    let (world, sidecar) = World::serving("").await;
    let metrics = metrics();
    let untold = || counted(&metrics, &["postern_sidecar_sessions_cut_total", "told=\"no\""]);
    let before = untold();
    world.postgres.set(Manner::Halt);
    let mut client = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    client.ask("select 1").await;
    client.stream.read_exact(&mut [0; 9]).await.unwrap();
    revoke_platform(&world);
    let mut rest = Vec::new();
    timeout(PATIENCE, client.stream.read_to_end(&mut rest)).await.expect("it goes on").expect("TLS ends in order");
    assert_eq!(rest, b"");
    sidecar.assert_no_connection_is_left().await;
    assert_eq!(untold() - before, 1);
}

#[tokio::test]
async fn a_driver_beside_a_sidecar_is_told_why_its_server_is_left() {
    let (world, sidecar) = World::serving("").await;
    for several in [false, true] {
        let servers = crate::connect::target("connect.target", sidecar.address, SERVER_APP);
        let more = if several { "target_session_attrs = \"read-write\"\n" } else { "" };
        world.postgres.stand_by(false);
        let beside = Beside::with(&world, more, &servers).await;
        let mut driver = Driver::reader(beside.connect().await).await.unwrap();
        beside.attestor.replace_collateral(Collateral::from_json(revoked().as_bytes()).unwrap());
        let error = timeout(PATIENCE, driver.refusal()).await.expect("the session goes on");
        assert_eq!(words(&error).0, "57P01");
        let reason = "terminating connection: the server's evidence is no longer good enough: ";
        assert!(words(&error).1.starts_with(reason), "{error:?}");
    }
}

#[tokio::test]
async fn stock_clients_of_a_real_postgres_show_the_reason() {
    let (world, cluster, sidecar) = libpq::serving("").await;
    let psycopg = libpq::Psycopg::installed().await;
    let connection = libpq::straight(&world, &sidecar).await;
    let superuser = keys::superuser_password(&agent_client(&world.server_agent)).await.unwrap();
    let revocation = async {
        let asleep = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep%'";
        while cluster.superuser(&superuser, asleep).await != "2" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        revoke_platform(&world);
    };
    let query = "select pg_sleep(600)";
    let (psql, python) = (psql(&connection, READ_SECRET, query), psycopg.query(&connection, READ_SECRET, query));
    let (psql, python, ()) = timeout(PATIENCE * 2, async { tokio::join!(psql, python, revocation) }).await.unwrap();
    for said in [psql.unwrap_err(), python.unwrap_err()] {
        assert!(said.contains(REASON), "{said}");
    }
    cluster.stop().await;
}
