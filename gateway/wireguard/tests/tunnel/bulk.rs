//! Much of everything.

use std::time::Duration;

use postern_plumbing::tasks::Task;
use postern_wireguard::TunnelStream;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::ends::{LONG, PORT, at, connection, echo, pair};

/// Numbers that look random and differ from way to way.
fn block(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let step = std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    step.take(1_000_003).collect()
}

async fn send(mut to: impl AsyncWrite + Unpin, seed: u64, blocks: usize) -> Vec<u8> {
    let (data, mut hash) = (block(seed), Sha256::new());
    for _ in 0..blocks {
        to.write_all(&data).await.unwrap();
        hash.update(&data);
    }
    to.shutdown().await.unwrap();
    hash.finalize().to_vec()
}

async fn receive(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut buf, mut hash) = (vec![0; 64 * 1024], Sha256::new());
    loop {
        match from.read(&mut buf).await.unwrap() {
            0 => return hash.finalize().to_vec(),
            count => hash.update(&buf[..count]),
        }
    }
}

async fn both_ways(stream: TunnelStream, seed: u64, blocks: usize) -> (Vec<u8>, Vec<u8>) {
    let (read, write) = tokio::io::split(stream);
    tokio::join!(send(write, seed, blocks), receive(read))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_megabytes_each_way_at_once_arrive_unchanged() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (near, far) = connection(&client, &server, &listener).await;
    let near = Task::spawn("near", both_ways(near, 1, 50));
    let far = Task::spawn("far", both_ways(far, 2, 50));
    let (near, far) = (near.join().await.unwrap(), far.join().await.unwrap());
    assert_eq!((near.0, near.1), (far.1, far.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_connections_stay_alive_beside_a_busy_one() {
    const IDLE: usize = 2000;
    let (client, server) = pair().await;
    let _echo = echo(&server);
    let mut idle = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        idle.push(client.connect(at(&server), LONG).await.unwrap());
    }
    let busy = client.connect(at(&server), LONG).await.unwrap();
    let (sent, received) = timeout(4 * LONG, both_ways(busy, 3, 10)).await.unwrap();
    assert_eq!(sent, received);
    for (index, stream) in idle.iter_mut().enumerate() {
        stream.write_all(&index.to_be_bytes()).await.unwrap();
    }
    for (index, stream) in idle.iter_mut().enumerate() {
        let mut back = [0; 8];
        timeout(LONG, stream.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, index.to_be_bytes());
    }
    assert!(timeout(Duration::from_millis(10), idle[0].read(&mut [0; 1])).await.is_err());
}
