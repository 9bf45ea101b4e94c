//! Registration with a gateway, and sessions through its tunnel.

use std::net::SocketAddr;
use std::time::Duration;

use postern_identity::AppId;
use postern_pgwire::cancel::CancelKey;
use postern_sidecar::packets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::driver::{Driver, startup};
use crate::gateway::{GATEWAY_APP, Gateway, SLOT};
use crate::world::{READ_SECRET, World};

const ANYWHERE: &str = "127.0.0.1:0";

pub(crate) fn config(address: SocketAddr, app: AppId) -> String {
    format!("[[gateways]]\nurl = \"https://gateway.example:8432\"\naddress = \"{address}\"\napp_id = \"{app}\"\n")
}

pub(crate) async fn gateway(world: &World, listen: &str) -> Gateway {
    Gateway::start(world.folder.path(), listen.parse().unwrap(), "10.9.0.2".parse().unwrap()).await
}

#[tokio::test]
async fn clients_come_through_the_tunnel_with_keys_that_name_the_slot() {
    let world = World::new().await;
    let mut gateway = gateway(&world, ANYWHERE).await;
    let sidecar = world.serve(&config(gateway.address, GATEWAY_APP)).await;
    gateway.registered(1).await;
    let request = &gateway.requests()[0];
    assert_eq!(request["postern"]["sidecar_port"], 5433);

    let identity = world.client_identity().await;
    let mut driver = Driver::reader(gateway.client(identity).await).await.unwrap();
    assert_eq!(driver.query("select 1").await.unwrap(), b"select 1");
    let key = driver.key.clone().unwrap();
    assert_eq!(key.slot().number(), SLOT);
    assert!(sidecar.ground.readiness.is_ready());

    // A cancel request in plaintext, as a gateway forwards it.
    driver.ask("sleep").await;
    while world.postgres.sleepers().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut cancel = gateway.introduced("192.0.2.7:4712").await;
    packets::write(&mut cancel, &key.request()).await.unwrap();
    let mut said = Vec::new();
    drop(cancel.read_to_end(&mut said).await);
    assert!(said.is_empty());
    assert_eq!(driver.answer().await.unwrap_err().sqlstate, "57014");
}

#[tokio::test]
async fn a_client_that_guesses_is_slowed_by_the_address_that_its_gateway_saw() {
    let world = World::new().await;
    let mut gateway = gateway(&world, ANYWHERE).await;
    let _sidecar = world.serve(&config(gateway.address, GATEWAY_APP)).await;
    gateway.registered(1).await;
    let identity = world.client_identity().await;
    let mut driver = Driver::reader(gateway.client(identity.clone()).await).await.unwrap();
    driver.ask("sleep").await;
    while world.postgres.sleepers().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Cancel requests with wrong keys take all places of their network, for seconds.
    let wrong = CancelKey::new(driver.key.as_ref().unwrap().process_id(), &[0; 4]).unwrap();
    let mut guesses = Vec::new();
    for number in 0..16 {
        let mut guess = gateway.introduced(&format!("192.0.2.7:{}", 5_000 + number)).await;
        packets::write(&mut guess, &wrong.request()).await.unwrap();
        guesses.push(guess);
    }
    let mut cancel = gateway.introduced("198.51.100.9:4712").await;
    packets::write(&mut cancel, &driver.key.as_ref().unwrap().request()).await.unwrap();
    assert_eq!(driver.answer().await.unwrap_err().sqlstate, "57014");
    let last = tokio::time::timeout(Duration::from_millis(1), guesses.pop().unwrap().read(&mut [0; 1])).await;
    assert!(last.is_err(), "the guesses are still being paid for");

    // Wrong secrets slow their address, whichever role they are for next.
    let refused = async |client: &str, role: &str| {
        let started = Instant::now();
        let stream = gateway.client_from(client, identity.clone()).await;
        let login = Driver::log_in(stream, &startup(&[("user", role)]), &"0".repeat(64)).await;
        assert_eq!(login.unwrap_err().sqlstate, "28P01");
        started.elapsed()
    };
    for _ in 0..4 {
        refused("192.0.2.7:6000", "teesql_read").await;
    }
    let again = refused("192.0.2.7:6001", "teesql_readwrite").await;
    let another = refused("203.0.113.5:6000", "teesql_readwrite").await;
    assert!(another < again, "{another:?} {again:?}");
}

#[tokio::test]
async fn connections_that_are_not_introduced_are_closed() {
    let world = World::new().await;
    let mut gateway = gateway(&world, ANYWHERE).await;
    let sidecar = world.serve(&config(gateway.address, GATEWAY_APP)).await;
    gateway.registered(1).await;
    for bytes in [&startup(&[("user", "teesql_read")])[..], &[0x16; 40], b""] {
        let mut stream = gateway.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await;
        drop(ended.expect("it never closed"));
        assert!(said.is_empty());
    }
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn connections_that_wait_for_their_introduction_have_a_limit() {
    let world = World::new().await;
    let mut gateway = gateway(&world, ANYWHERE).await;
    let limits = "[limits]\nhandshakes = 1\n";
    let sidecar = world.serve(&(config(gateway.address, GATEWAY_APP) + limits)).await;
    gateway.registered(1).await;
    let mut silent = gateway.connect().await;
    silent.write_all(&[0x0d]).await.unwrap();
    while sidecar.ground.sessions.count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut one_more = gateway.connect().await;
    let end = tokio::time::timeout(Duration::from_secs(2), one_more.read(&mut [0; 1])).await;
    drop(end.expect("it is closed before the first one's time is up"));
    assert_eq!(sidecar.ground.sessions.count(), 1);
}

#[tokio::test]
async fn a_gateway_that_hangs_up_or_restarts_is_rejoined_at_once_and_sessions_survive_a_hang_up() {
    let world = World::new().await;
    let mut first = gateway(&world, ANYWHERE).await;
    let address = first.address;
    let _sidecar = world.serve(&config(address, GATEWAY_APP)).await;
    first.registered(1).await;
    let identity = world.client_identity().await;
    let mut driver = Driver::reader(first.client(identity.clone()).await).await.unwrap();

    let started = Instant::now();
    first.hang_up();
    first.registered(2).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert_eq!(driver.query("still there").await.unwrap(), b"still there");

    drop(first);
    let mut second = gateway(&world, &address.to_string()).await;
    let started = Instant::now();
    second.registered(1).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    Driver::log_in(second.client(identity).await, &startup(&[("user", "teesql_read")]), READ_SECRET).await.unwrap();
}

#[tokio::test]
async fn a_gateway_of_another_app_is_told_nothing() {
    let world = World::new().await;
    let gateway = gateway(&world, ANYWHERE).await;
    let sidecar = world.serve(&config(gateway.address, AppId([1; 20]))).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(gateway.requests().is_empty());
    assert!(!sidecar.ground.readiness.is_ready());
    // The sidecar itself serves on.
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
}

#[tokio::test]
async fn a_sidecar_that_is_refused_comes_back_by_itself_once_it_is_allowed() {
    let world = World::new().await;
    let mut gateway = gateway(&world, ANYWHERE).await;
    gateway.refuse(3);
    let sidecar = world.serve(&config(gateway.address, GATEWAY_APP)).await;
    assert!(!sidecar.ground.readiness.is_ready());
    gateway.registered(1).await;
    assert_eq!(gateway.requests().len(), 1, "nobody was let in before");
    Driver::log_in(
        gateway.client(world.client_identity().await).await,
        &startup(&[("user", "teesql_read")]),
        READ_SECRET,
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_gateway_that_is_not_there_yet_is_waited_for() {
    let world = World::new().await;
    let address = TcpListener::bind(ANYWHERE).await.unwrap().local_addr().unwrap();
    let sidecar = world.serve(&config(address, GATEWAY_APP)).await;
    assert!(!sidecar.ground.readiness.is_ready());
    let mut gateway = gateway(&world, &address.to_string()).await;
    gateway.registered(1).await;
}
