//! Cancel requests: in plaintext, inside TLS, with keys of both lengths, and with wrong keys.

use postern_pgwire::cancel::CancelKey;
use postern_pgwire::negotiation::Version;
use postern_sidecar::packets;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::driver::{Driver, startup_of};
use crate::postgres::Manner;
use crate::world::{READ_SECRET, Sidecar, World};

/// Waits for the end of a cancel connection; nothing may come before.
async fn ended(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert!(said.is_empty());
}

pub(crate) async fn cancel_in_plaintext(sidecar: &Sidecar, key: &CancelKey) {
    let mut stream = TcpStream::connect(sidecar.address).await.unwrap();
    packets::write(&mut stream, &key.request()).await.unwrap();
    ended(&mut stream).await;
}

pub(crate) async fn asleep(world: &World) {
    while world.postgres.sleepers().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_query_is_cancelled_from_outside_and_inside_tls() {
    for (manner, length) in [(Manner::Proper, 4), (Manner::Newer, 32)] {
        let (world, sidecar) = World::serving("").await;
        world.postgres.set(manner);
        let startup = startup_of(Version::V3_2, &[("user", "teesql_read")]);
        let mut driver = Driver::log_in(world.attested(&sidecar).await, &startup, READ_SECRET).await.unwrap();
        let key = driver.key.clone().unwrap();
        assert_eq!(key.secret().len(), length);

        driver.ask("sleep").await;
        asleep(&world).await;
        cancel_in_plaintext(&sidecar, &key).await;
        assert_eq!(driver.answer().await.unwrap_err().sqlstate, "57014");

        driver.ask("sleep").await;
        asleep(&world).await;
        let mut stream = world.attested(&sidecar).await;
        packets::write(&mut stream, &key.request()).await.unwrap();
        ended(&mut stream).await;
        assert_eq!(driver.answer().await.unwrap_err().sqlstate, "57014");
    }
}

#[tokio::test]
async fn wrong_keys_cancel_nothing() {
    let (world, sidecar) = World::serving("").await;
    let mut driver = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let key = driver.key.clone().unwrap();
    driver.ask("sleep").await;
    asleep(&world).await;
    let real = world.postgres.sleepers()[0].clone();
    let wrong = CancelKey::new(key.process_id(), &[0; 4]).unwrap();
    for key in [real, wrong, CancelKey::new(1, &[0; 256]).unwrap()] {
        cancel_in_plaintext(&sidecar, &key).await;
        assert_eq!(world.postgres.sleepers().len(), 1);
    }
    cancel_in_plaintext(&sidecar, &key).await;
    assert!(driver.answer().await.is_err());
}

#[tokio::test]
async fn a_key_dies_with_its_session() {
    let (world, sidecar) = World::serving("").await;
    let driver = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let key = driver.key.clone().unwrap();
    drop(driver);
    sidecar.assert_no_connection_is_left().await;
    cancel_in_plaintext(&sidecar, &key).await;
    sidecar.assert_no_connection_is_left().await;
}
