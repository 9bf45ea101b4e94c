//! Peers that send nonsense, too much, too little, or nothing at all.

use std::time::Duration;

use postern_pgwire::error_response::ServerError;
use postern_sidecar::packets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::driver::{Driver, SSL_REQUEST, startup, words};
use crate::world::{READ_SECRET, World, assert_tasks_return_to, tasks};

/// A short deadline, so that the tests wait for it and not for ever.
const SHORT: &str = "[limits]\nhandshake = \"1500ms\"\n";
/// The deadline, the farewell, and a slow machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the sidecar says to these bytes until it closes. The sender keeps its side open.
async fn said_to(world: &World, address: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut said = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it never closed");
    // A reset is an end as well.
    drop(read);
    assert!(world.postgres.startups().is_empty());
    said
}

#[tokio::test]
async fn plaintext_nonsense_is_refused_clearly_or_silently() {
    let (world, sidecar) = World::serving(SHORT).await;
    let startup = startup(&[("user", "teesql_read")]);
    let told = |said: Vec<u8>, code: &str| String::from_utf8_lossy(&said).contains(code);
    assert!(told(said_to(&world, sidecar.address, &startup).await, "C28000"));
    assert!(told(said_to(&world, sidecar.address, &[0, 0, 0, 9, 0, 2, 0, 0, 0]).await, "C0A000"));
    assert!(told(said_to(&world, sidecar.address, &[0, 0, 0, 3]).await, "C08P01"));
    assert!(told(said_to(&world, sidecar.address, &[0, 0, 0x7f, 0xff]).await, "C08P01"));
    for silent in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xff; 64], &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3]] {
        let said = said_to(&world, sidecar.address, silent).await;
        assert!(said.len() < 8, "{said:?}");
    }
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn a_client_that_comes_without_a_gateway_cannot_say_who_it_is() {
    let (world, sidecar) = World::serving(SHORT).await;
    let client: std::net::SocketAddr = "192.0.2.7:4711".parse().unwrap();
    let pair = ppp::v2::Builder::with_addresses(
        ppp::v2::Version::Two | ppp::v2::Command::Proxy,
        ppp::v2::Protocol::Stream,
        (client, sidecar.address),
    );
    for header in [b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 5432\r\n".to_vec(), pair.build().unwrap()] {
        let said = said_to(&world, sidecar.address, &[header, SSL_REQUEST.to_vec()].concat()).await;
        assert!(!said.starts_with(b"S"), "the header is taken for nothing but garbage: {said:?}");
    }
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn bytes_glued_to_an_ssl_request_end_the_connection_before_the_answer() {
    let (world, sidecar) = World::serving(SHORT).await;
    let glued = [SSL_REQUEST.as_slice(), &startup(&[("user", "teesql_read")])].concat();
    assert_eq!(said_to(&world, sidecar.address, &glued).await, b"");
    // Plaintext behind the answer is no TLS either.
    let mut stream = TcpStream::connect(sidecar.address).await.unwrap();
    stream.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    stream.write_all(&startup(&[("user", "teesql_read")])).await.unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"");
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn a_client_that_stops_at_any_point_is_let_go_within_the_deadline() {
    let (world, sidecar) = World::serving(SHORT).await;
    let started = Instant::now();
    let mut open = Vec::new();
    for bytes in [&b""[..], &SSL_REQUEST[..1], &SSL_REQUEST[..7], &SSL_REQUEST, &[0x16, 3, 1]] {
        let mut stream = TcpStream::connect(sidecar.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        open.push(stream);
    }
    let startup = startup(&[("user", "teesql_read")]);
    let mut inside = Vec::new();
    for bytes in [&b""[..], &startup[..1], &startup[..startup.len() - 1], &startup] {
        let mut stream = world.attested(&sidecar).await;
        packets::write(&mut stream, bytes).await.unwrap();
        inside.push(stream);
    }
    sidecar.assert_no_connection_is_left().await;
    assert!(started.elapsed() < PATIENCE);
    // Inside TLS the client is told why.
    for mut stream in inside {
        let mut said = Vec::new();
        drop(stream.read_to_end(&mut said).await);
        assert!(String::from_utf8_lossy(&said).contains("C57014"), "{said:?}");
    }
}

#[tokio::test]
async fn an_authentication_that_never_ends_is_ended_at_the_deadline() {
    let (world, sidecar) = World::serving("[limits]\nhandshake = \"15s\"\n").await;
    let identity = world.client_identity().await;
    let before = tasks();
    let mut open = Vec::new();
    for said in 0..4 {
        let stream = crate::world::tls(sidecar.serve_pipe("192.0.2.1:4711"), Some(identity.clone()), &[]).await;
        let mut driver = Driver::new(stream);
        let startup = startup(&[("user", "teesql_read")]);
        driver.send(&startup[..[0, 3, startup.len(), startup.len()][said]]).await;
        if said == 3 {
            assert_eq!(driver.next().await.unwrap().tag(), b'R');
            driver.send(b"p\0\0\0\x45half").await;
        }
        open.push(driver);
    }
    // From here on all is in memory, and time passes when there is nothing else to do.
    tokio::time::pause();
    let started = Instant::now();
    for driver in &mut open {
        let error = loop {
            let message = driver.next().await.unwrap();
            if message.tag() == b'E' {
                break ServerError::parse(message.raw(), message.body());
            }
        };
        assert_eq!(words(&error), ("57014", "canceling authentication due to timeout"));
    }
    let elapsed = started.elapsed();
    assert!((10..=15).contains(&elapsed.as_secs()), "{elapsed:?}");
    tokio::time::resume();
    drop(open);
    assert_tasks_return_to(before).await;
}

#[tokio::test]
async fn a_password_of_a_megabyte_is_refused_when_its_length_is_known() {
    let (world, sidecar) = World::serving("").await;
    for length in [1_024_u32, 1 << 20, i32::MAX as u32] {
        let mut driver = Driver::new(world.attested(&sidecar).await);
        driver.send(&startup(&[("user", "teesql_read")])).await;
        assert_eq!(driver.next().await.unwrap().tag(), b'R');
        let sent = vec![b'x'; usize::try_from(length).unwrap().min(1 << 20)];
        driver.send(&[b"p".as_slice(), &length.to_be_bytes(), &sent].concat()).await;
        assert_eq!(words(&driver.refusal().await), ("08P01", "invalid password packet"));
    }
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn bytes_one_at_a_time_are_as_good_as_any() {
    let (world, sidecar) = World::serving("").await;
    let mut stream = TcpStream::connect(sidecar.address).await.unwrap();
    for byte in SSL_REQUEST {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let mut stream = crate::world::tls(stream, Some(world.client_identity().await), &[]).await;
    for byte in &startup(&[("user", "teesql_read")])[..] {
        packets::write(&mut stream, &[*byte]).await.unwrap();
    }
    let mut driver = Driver::new(stream);
    assert_eq!(driver.next().await.unwrap().tag(), b'R');
    driver.password(READ_SECRET).await;
    assert_eq!(driver.next().await.unwrap().tag(), b'R');
}

#[tokio::test]
async fn malformed_startups_and_passwords_inside_tls_are_protocol_violations() {
    let (world, sidecar) = World::serving("").await;
    for bytes in [
        b"\0\0\0\x0d\0\x03\0\0user\0".as_slice(),
        b"\0\0\0\x1d\0\x03\0\0user\0a\0user\0b\0\0\0\0\0\0\0\0",
        b"\0\0\0\0",
        &[0, 0, 0x27, 0x11],
    ] {
        let mut driver = Driver::new(world.attested(&sidecar).await);
        driver.send(bytes).await;
        assert_eq!(driver.refusal().await.sqlstate, "08P01", "{bytes:?}");
    }
    for answer in [
        b"p\0\x10\0\0".as_slice(),
        b"p\0\0\0\x03",
        b"p\xff\xff\xff\xff",
        b"p\0\0\0\x08a\0b\0",
        b"Q\0\0\0\x05\0",
        b"X\0\0\0\x04",
    ] {
        let mut driver = Driver::new(world.attested(&sidecar).await);
        driver.send(&startup(&[("user", "teesql_read")])).await;
        assert_eq!(driver.next().await.unwrap().tag(), b'R');
        driver.send(answer).await;
        assert_eq!(driver.refusal().await.sqlstate, "08P01", "{answer:?}");
    }
    assert!(world.postgres.startups().is_empty());
    sidecar.assert_no_connection_is_left().await;
}
