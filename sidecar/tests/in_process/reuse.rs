//! Connections to Postgres that outlive their sessions.

use std::time::Duration;

use postern_sidecar::keys;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cancel::{asleep, cancel_in_plaintext};
use crate::driver::{Driver, startup};
use crate::libpq::{serving_with, straight};
use crate::real::psql;
use crate::world::{READ_SECRET, Sidecar, World, agent_client};

const POOL: &str = "[postgres.pool]\nsize = 4\n";
const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// A session that asks this and says farewell; gives its parameters.
async fn session(world: &World, sidecar: &Sidecar, name: &str, queries: &[&str]) -> Vec<Vec<u8>> {
    let opening = startup(&[("user", "teesql_read"), ("application_name", name)]);
    let mut driver = Driver::log_in(world.attested(sidecar).await, &opening, READ_SECRET).await.unwrap();
    for query in queries {
        driver.query(query).await.unwrap();
    }
    leave(&mut driver, sidecar).await;
    driver.parameters
}

async fn leave<S: postern_plumbing::Io>(driver: &mut Driver<S>, sidecar: &Sidecar) {
    driver.send(TERMINATE).await;
    driver.stream.shutdown().await.unwrap();
    assert_eq!(driver.stream.read(&mut [0; 1]).await.unwrap(), 0, "the session ends in order");
    sidecar.assert_no_connection_is_left().await;
}

/// The names of the sessions that Postgres was asked for, and how often it had to clean up behind one.
fn seen(world: &World) -> (Vec<String>, usize) {
    let name = |startup: &postern_pgwire::startup::Startup| {
        String::from_utf8(startup.parameter(b"application_name").unwrap().to_vec()).unwrap()
    };
    let cleaned = world.postgres.statements().iter().filter(|sql| *sql == "DISCARD ALL").count();
    (world.postgres.startups().iter().map(name).collect(), cleaned)
}

/// Waits until Postgres has so many connections of clients.
async fn assert_open(world: &World, count: usize) {
    let settled = async {
        while world.postgres.open() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(20), settled).await;
    outcome.unwrap_or_else(|_| panic!("{} are open where {count} should be", world.postgres.open()));
}

#[tokio::test]
async fn a_session_begins_on_a_connection_that_one_like_it_has_left() {
    let (world, sidecar) = World::serving(POOL).await;
    let first = session(&world, &sidecar, "a", &["select 1"]).await;
    let second = session(&world, &sidecar, "a", &[]).await;
    assert_eq!(first, second, "Postgres is introduced in the same words");
    session(&world, &sidecar, "b", &["select 2"]).await;
    session(&world, &sidecar, "a", &["select 3"]).await;
    assert_eq!(seen(&world), (vec!["a".to_owned(), "b".to_owned()], 4));
}

#[tokio::test]
async fn each_session_has_a_connection_of_its_own_unless_told_otherwise() {
    let (world, sidecar) = World::serving("").await;
    for _ in 0..2 {
        session(&world, &sidecar, "a", &["select 1"]).await;
    }
    assert_eq!(seen(&world), (vec!["a".to_owned(); 2], 0));
}

#[tokio::test]
async fn a_session_that_left_something_open_takes_its_connection_with_it() {
    let (world, sidecar) = World::serving(POOL).await;
    let mut driver = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    // Postgres has been asked for something, and for no word that it is done.
    driver.send(&[&b"P\0\0\0\x08\0\0\0\0"[..], TERMINATE].concat()).await;
    drop(driver);
    sidecar.assert_no_connection_is_left().await;
    // And who goes without farewell may have been cut off.
    drop(Driver::reader(world.attested(&sidecar).await).await.unwrap());
    sidecar.assert_no_connection_is_left().await;
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
    assert_eq!(world.postgres.startups().len(), 3);
    assert!(!world.postgres.statements().contains(&"DISCARD ALL".to_owned()));
}

#[tokio::test]
async fn no_key_cancels_the_queries_of_a_later_session() {
    let (world, sidecar) = World::serving(POOL).await;
    let mut first = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let old = first.key.clone().unwrap();
    leave(&mut first, &sidecar).await;
    let mut second = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    assert_eq!(world.postgres.startups().len(), 1, "it is on the same connection");
    second.ask("sleep").await;
    asleep(&world).await;
    cancel_in_plaintext(&sidecar, &old).await;
    assert_eq!(world.postgres.sleepers().len(), 1, "the first session's key is no more");
    cancel_in_plaintext(&sidecar, &second.key.clone().unwrap()).await;
    assert_eq!(second.answer().await.unwrap_err().sqlstate, "57014");
    // A signal that is late would find the next session.
    leave(&mut second, &sidecar).await;
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
    assert_eq!(world.postgres.startups().len(), 2);
}

#[tokio::test]
async fn connections_that_wait_leave_room_for_sessions() {
    let (world, sidecar) = World::serving(&format!("{POOL}[limits]\nsessions = 2\n")).await;
    for name in ["a", "b", "c"] {
        session(&world, &sidecar, name, &[]).await;
    }
    assert_open(&world, 2).await;
    let opening = startup(&[("user", "teesql_read"), ("application_name", "d")]);
    let mut driver = Driver::log_in(world.attested(&sidecar).await, &opening, READ_SECRET).await.unwrap();
    driver.query("select 1").await.unwrap();
    assert_open(&world, 2).await;
}

#[tokio::test]
async fn connections_are_given_up_when_postgres_is_provisioned_anew() {
    let (world, sidecar) = World::serving(POOL).await;
    session(&world, &sidecar, "a", &[]).await;
    assert_open(&world, 1).await;
    sidecar.serving.postgres().doubt();
    assert_open(&world, 0).await;
}

/// What a session can leave, and how the next one would see it. The first of each pair has to work.
const LEFTOVERS: [(&str, &str); 8] = [
    ("set timezone = 'Asia/Tokyo'", "select current_setting('timezone') = 'Asia/Tokyo'"),
    (
        "set role teesql_read; set search_path = pg_temp",
        "select current_setting('role') <> 'none' or current_setting('search_path') = 'pg_temp'",
    ),
    ("create temporary table leftover as select 1", "select to_regclass('pg_temp.leftover') is not null"),
    ("prepare leftover as select 1", "select exists (select from pg_prepared_statements)"),
    (
        "select pg_advisory_lock(42)",
        "select exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())",
    ),
    ("begin; listen leftover; commit", "select exists (select pg_listening_channels())"),
    ("begin; declare leftover cursor with hold for select 1; commit", "select exists (select from pg_cursors)"),
    ("select set_config('my.secret', 'leftover', false)", "select current_setting('my.secret', true) = 'leftover'"),
];

#[tokio::test]
async fn a_real_postgres_forgets_what_a_session_has_left() {
    let (world, cluster, sidecar) = serving_with("pool.size = 4\n", "").await;
    let connection = straight(&world, &sidecar).await;
    let superuser = keys::superuser_password(&agent_client(&world.server_agent)).await.unwrap();
    cluster.superuser(&superuser, "grant temporary on database postgres to teesql_read").await;
    let ask = async |sql: &str| {
        let answer = psql(&connection, READ_SECRET, sql).await.unwrap();
        sidecar.assert_no_connection_is_left().await;
        answer
    };
    let backend = ask("select pg_backend_pid()").await;
    for (left, seen) in LEFTOVERS {
        let within = ask(&format!("{left}; {seen}")).await;
        assert!(within.ends_with('t'), "{left}: {within}");
        let behind = ask(&format!("{seen}; select pg_backend_pid()")).await;
        assert_eq!(behind.split_once('\n').unwrap(), ("f", backend.as_str()), "{left}: on the same connection");
    }
    cluster.stop().await;
}
