//! A Postgres that is away, starting, misconfigured or not Postgres at all.

use std::time::Duration;

use postern_sidecar::config::ServeConfig;
use postern_sidecar::postgres::supervise::Condition;
use postern_sidecar::serve::run::Serving;
use postern_sidecar::start::{Ground, StartError};
use tokio::io::AsyncReadExt;

use crate::driver::{Driver, words};
use crate::postgres::Manner;
use crate::world::{World, assert_tasks_return_to, counted, metrics, tasks};

/// While Postgres behaves like this, the client reads `code`, the refusal is counted and nothing is left of the connection;
/// afterwards sessions work again.
async fn trouble(manner: Manner, code: &str) {
    let (world, sidecar) = World::serving("").await;
    let metrics = metrics();
    let refused = || counted(&metrics, &["postern_sidecar_refusals_total", "postgres", "direct"]);
    let (refused_before, tasks_before) = (refused(), tasks());
    world.postgres.set(manner);
    let error = Driver::reader(world.attested(&sidecar).await).await.unwrap_err();
    assert_eq!(words(&error).0, code, "{error:?}");
    sidecar.assert_no_connection_is_left().await;
    assert!(refused() > refused_before, "it is counted");
    world.postgres.forget_connections().await;
    assert_tasks_return_to(tasks_before).await;

    world.postgres.set(Manner::Proper);
    let recovery = async { while Driver::reader(world.attested(&sidecar).await).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), recovery).await.unwrap();
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn a_postgres_that_is_starting() {
    trouble(Manner::Starting, "57P03").await;
}

#[tokio::test]
async fn a_postgres_that_answers_garbage() {
    trouble(Manner::Garbage, "57P03").await;
}

#[tokio::test]
async fn a_postgres_that_closes_in_the_middle_of_a_message() {
    trouble(Manner::HangUp, "57P03").await;
}

#[tokio::test]
async fn a_postgres_that_announces_a_huge_message() {
    trouble(Manner::Huge, "57P03").await;
}

#[tokio::test]
async fn a_postgres_that_announces_a_negative_length() {
    trouble(Manner::Negative, "57P03").await;
}

#[tokio::test]
async fn a_postgres_that_never_answers() {
    trouble(Manner::Stall, "57P03").await;
}

#[tokio::test]
async fn a_postgres_that_never_ends_the_login() {
    trouble(Manner::StallInLogin, "57P03").await;
}

#[tokio::test]
async fn a_postgres_that_never_gets_ready() {
    trouble(Manner::StallInGreeting, "57P03").await;
}

#[tokio::test]
async fn a_postgres_that_talks_without_end() {
    trouble(Manner::Talkative, "08006").await;
}

#[tokio::test]
async fn a_postgres_that_asks_for_no_password() {
    trouble(Manner::Trust, "08006").await;
}

#[tokio::test]
async fn a_postgres_that_asks_for_the_password_in_clear() {
    trouble(Manner::Cleartext, "08006").await;
}

#[tokio::test]
async fn a_postgres_without_the_database() {
    trouble(Manner::NoDatabase, "28000").await;
}

#[tokio::test]
async fn what_postgres_said_before_it_broke_off_reaches_the_client_and_the_session_ends() {
    let (world, sidecar) = World::serving("").await;
    world.postgres.set(Manner::BreakOff);
    let tasks_before = tasks();
    let mut driver = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    driver.ask("select 1").await;
    let mut said = Vec::new();
    driver.stream.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"D\0\0\x01\0half");
    drop(driver);
    sidecar.assert_no_connection_is_left().await;
    assert_tasks_return_to(tasks_before).await;
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

/// On one thread, every turn of the start is looked at.
#[tokio::test]
async fn a_sidecar_is_not_ready_before_all_of_its_checks_are_known() {
    let world = World::new().await;
    world.postgres.set(Manner::Stall);
    let config =
        ServeConfig::parse(&(world.serve_config("") + "[listen]\naddresses = [\"127.0.0.1:0\"]\n"), []).unwrap();
    let ground = Ground::new();
    let looking = async {
        loop {
            assert!(!ground.readiness.is_ready(), "ready without Postgres");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        serving = Serving::start(&config, &ground) => drop(serving.unwrap().unwrap()),
        () = looking => {}
    }
    assert!(!ground.readiness.is_ready());
}
