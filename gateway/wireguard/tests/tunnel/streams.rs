//! What a caller sees of connections.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ends::{PORT, connection, pair};

#[tokio::test]
async fn bytes_come_back() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (mut near, mut far) = connection(&client, &server, &listener).await;
    near.write_all(b"ping").await.unwrap();
    let mut buf = [0; 4];
    far.read_exact(&mut buf).await.unwrap();
    far.write_all(&buf).await.unwrap();
    near.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_throughput() {
    let (client, server) = pair().await;
    let listener = server.listen(PORT).unwrap();
    let (mut near, mut far) = connection(&client, &server, &listener).await;
    let start = Instant::now();
    const N: usize = 500_000_000;
    let t = tokio::task::spawn(async move {
        let buf = vec![7u8; 65536];
        let mut left = N;
        while left > 0 {
            let n = left.min(buf.len());
            near.write_all(&buf[..n]).await.unwrap();
            left -= n;
        }
        near.shutdown().await.unwrap();
        near
    });
    let mut buf = vec![0; 65536];
    let mut got = 0;
    loop {
        let n = far.read(&mut buf).await.unwrap();
        if n == 0 {
            break;
        }
        got += n;
    }
    assert_eq!(got, N);
    let s = start.elapsed().as_secs_f64();
    println!("{:.2} Gb/s", N as f64 * 8.0 / s / 1e9);
    drop(t.await.unwrap());
}
