//! COPY moves more than memory holds: a slow side slows the other, and nothing piles up between them.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::driver::Driver;
use crate::memory::resident_kib;
use crate::postgres::{ROW, message};
use crate::world::World;

/// How much is copied.
const SIZE: u64 = 200 << 20;
/// What the system's own buffers may take on the way, of which there are four.
const IN_BUFFERS: u64 = 24 << 20;
/// How much more memory the process may have during a copy than after its first part. Debug builds and allocators vary.
const MORE_KIB: u64 = 16 << 10;

type Session = Driver<TlsStream<TcpStream>>;

/// Waits until no more is copied, and says how much was.
async fn at_rest(world: &World) -> u64 {
    let mut copied = world.postgres.copied();
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if std::mem::replace(&mut copied, world.postgres.copied()) == copied {
            return copied;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_out_waits_for_a_client_that_does_not_read_and_holds_memory_flat() {
    let (world, sidecar) = World::serving("").await;
    let mut driver: Session = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    driver.ask(&format!("copy out {SIZE}")).await;
    let held = at_rest(&world).await;
    assert!(held < IN_BUFFERS, "{held} bytes left Postgres and nobody has read one");

    let (mut chunk, mut received, mut highest) = (vec![0; 256 << 10], 0, 0);
    let before = resident_kib();
    let rows = SIZE / ROW as u64;
    let expected = 8 + rows * (ROW as u64 + 5) + 5;
    while received < expected {
        received += driver.stream.read(&mut chunk).await.unwrap() as u64;
        highest = highest.max(resident_kib());
    }
    assert_eq!(world.postgres.copied(), rows * ROW as u64);
    assert!(highest < before + MORE_KIB, "{before} KiB before, {highest} KiB during the copy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_in_waits_for_a_postgres_that_does_not_read_and_holds_memory_flat() {
    let (world, sidecar) = World::serving("").await;
    let mut driver: Session = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    driver.ask("copy in").await;
    assert_eq!(driver.next().await.unwrap().tag(), b'G');
    let rows = SIZE / ROW as u64;
    let row = message(b'd', &[b'x'; ROW]);

    let mut given = 0;
    let mut rest = BytesMut::from(&row[..]);
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), driver.stream.write(&rest)).await {
        let written = written.unwrap();
        given += written as u64;
        rest.advance(written);
        if rest.is_empty() {
            rest.extend_from_slice(&row);
        }
        assert!(given < IN_BUFFERS, "{given} bytes were taken and Postgres has read none");
    }
    world.postgres.let_copy_in();
    driver.send(&rest).await;

    let begun = given.div_ceil(row.len() as u64);
    let (before, mut highest) = (resident_kib(), 0);
    for _ in begun.max(1)..rows {
        driver.stream.write_all(&row).await.unwrap();
        highest = highest.max(resident_kib());
    }
    driver.send(&message(b'c', b"")).await;
    assert_eq!(driver.answer().await.unwrap(), b"copy in");
    assert!(world.postgres.copied() >= (rows - 1) * ROW as u64);
    assert!(highest < before + MORE_KIB, "{before} KiB before, {highest} KiB during the copy");
}
