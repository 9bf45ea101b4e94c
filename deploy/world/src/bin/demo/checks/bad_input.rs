//! What the gateway's public port answers to clients that are broken, hostile or gone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use postern_world::Admin;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::hello::{hello, hello_for};
use crate::client::raw::{GSSENC_REQUEST, SSL_REQUEST, describe, read_to_end, send};
use postern_world::report::{Outcome, seconds, words};

/// Longer than the gateway's deadline for the opening of a connection.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that are sent, and how the answer has to begin when it is put into words.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    bytes: Vec<u8>,
    expected: &'static str,
}

/// Every case that is one write and one answer. `host` is the name of an app that is reachable.
pub(crate) fn cases(host: &str) -> Vec<Case> {
    let case = |name, bytes, expected| Case { name, bytes, expected };
    let (app, domain) = host.split_once('.').unwrap_or((host, ""));
    let named = |name: &str| hello_for(name);
    let nul = [app.as_bytes(), b"\0.", domain.as_bytes()].concat();
    vec![
        case("garbage", vec![0xff; 300], "08P01 "),
        case("a web browser", b"GET / HTTP/1.1\r\nHost: postern\r\n\r\n".to_vec(), "08P01 "),
        case("Postgres without TLS", startup(), "28000 TLS required"),
        case("SSLRequest with bytes glued to it", [&SSL_REQUEST[..], &named(host)].concat(), "08P01 "),
        case("GSSENCRequest with bytes glued to it", [&GSSENC_REQUEST[..], &SSL_REQUEST].concat(), "08P01 "),
        case("a ClientHello of 20 KB", hello(&[&[host.as_bytes()]], 20_000), "alert illegal_parameter"),
        case("a ClientHello without SNI", hello(&[], 0), "alert missing_extension"),
        case("SNI with NUL", hello(&[&[&nul]], 0), "alert unrecognized_name"),
        case("two names in SNI", hello(&[&[host.as_bytes(), host.as_bytes()]], 0), "alert illegal_parameter"),
        case("SNI twice", hello(&[&[host.as_bytes()], &[b"other.test"]], 0), "alert illegal_parameter"),
        case("an IP address as SNI", named("192.0.2.1"), "alert unrecognized_name"),
        case("SNI with a trailing dot", named(&format!("{host}.")), "alert unrecognized_name"),
        case("an unknown app", named(&format!("{}s.{domain}", "0b".repeat(20))), "alert unrecognized_name"),
        case("a name of another domain", named(&format!("{app}.example.org")), "alert unrecognized_name"),
    ]
}

impl Case {
    /// Sends the case's bytes and compares the answer.
    pub(crate) async fn run(&self, gateway: SocketAddr) -> Outcome {
        let started = Instant::now();
        let answer = describe(&send(gateway, &self.bytes).await?);
        if answer.starts_with(self.expected) {
            Ok(format!("refused with {answer}, {}", seconds(started)))
        } else {
            Err(format!("expected `{}`, got `{answer}`", self.expected))
        }
    }
}

/// A name in upper case leads to the same place.
pub(crate) async fn upper_case(gateway: SocketAddr, host: &str) -> Outcome {
    reaches_the_sidecar(gateway, &hello_for(&host.to_uppercase()), false).await
}

/// SSLRequest and ClientHello in segments of one byte.
pub(crate) async fn byte_by_byte(gateway: SocketAddr, host: &str) -> Outcome {
    reaches_the_sidecar(gateway, &hello_for(host), true).await
}

/// A client that connects and says nothing.
pub(crate) async fn silence(gateway: SocketAddr) -> Outcome {
    let started = Instant::now();
    let mut stream = TcpStream::connect(gateway).await.map_err(words)?;
    let answer = tokio::time::timeout(PATIENCE, read_to_end(&mut stream)).await.map_err(|_| "not closed")??;
    if answer.is_empty() { Ok(format!("closed after {}", seconds(started))) } else { Err(describe(&answer)) }
}

/// A client that stops after any byte of its opening: one connection for each length, all at once.
pub(crate) async fn stops_after_any_byte(gateway: SocketAddr, host: &str) -> Outcome {
    let started = Instant::now();
    let hello = hello_for(host);
    let opening = [&SSL_REQUEST[..], &hello].concat();
    let mut clients = JoinSet::new();
    for length in 1..opening.len() {
        let start = opening.get(..length).unwrap_or_default().to_vec();
        clients.spawn(
            async move { stop(gateway, &start).await.map_err(|error| format!("after {length} bytes: {error}")) },
        );
    }
    let count = clients.len();
    while let Some(outcome) = clients.join_next().await {
        outcome.map_err(words)??;
    }
    Ok(format!("{count} clients, all told or closed within {}", seconds(started)))
}

/// The gateway holds nothing of clients that are gone.
pub(crate) async fn nothing_left_behind(admin: Admin, before: (f64, f64)) -> Outcome {
    let (connections, tasks) = before;
    let end = Instant::now() + PATIENCE;
    loop {
        let now = open(admin).await?;
        if now.0 <= connections && now.1 <= tasks {
            return Ok(format!("{} connections and {} tasks, as before", now.0, now.1));
        }
        if Instant::now() > end {
            return Err(format!("{} connections and {} tasks; before: {connections} and {tasks}", now.0, now.1));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many connections and tasks the gateway has.
pub(crate) async fn open(admin: Admin) -> Result<(f64, f64), String> {
    let connections = admin.metric("postern_gateway_connections_open", "").await?;
    Ok((connections, admin.metric("tasks_running", "").await?))
}

async fn reaches_the_sidecar(gateway: SocketAddr, hello: &[u8], negotiate: bool) -> Outcome {
    let started = Instant::now();
    let mut stream = TcpStream::connect(gateway).await.map_err(words)?;
    stream.set_nodelay(true).map_err(words)?;
    if negotiate {
        write_bytewise(&mut stream, &SSL_REQUEST).await?;
        expect(&mut stream, b'S').await?;
        write_bytewise(&mut stream, hello).await?;
    } else {
        stream.write_all(hello).await.map_err(words)?;
    }
    // The first byte of a TLS record of type handshake: the sidecar's ServerHello.
    expect(&mut stream, 22).await?;
    Ok(format!("{} bytes, answered by the sidecar after {}", hello.len(), seconds(started)))
}

async fn stop(gateway: SocketAddr, start: &[u8]) -> Result<(), String> {
    let mut stream = TcpStream::connect(gateway).await.map_err(words)?;
    let (request, hello) = start.split_at(start.len().min(SSL_REQUEST.len()));
    stream.write_all(request).await.map_err(words)?;
    if request.len() == SSL_REQUEST.len() {
        expect(&mut stream, b'S').await?;
    }
    stream.write_all(hello).await.map_err(words)?;
    let answer = tokio::time::timeout(PATIENCE, read_to_end(&mut stream)).await.map_err(|_| "not closed")??;
    // A refusal is an alert or a short error; anything longer would have come from behind the gateway.
    if answer.len() < 512 && !answer.starts_with(&[22]) { Ok(()) } else { Err(describe(&answer)) }
}

async fn write_bytewise(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), String> {
    for byte in bytes {
        stream.write_all(std::slice::from_ref(byte)).await.map_err(words)?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn expect(stream: &mut TcpStream, byte: u8) -> Result<(), String> {
    let read = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
    let got = read.map_err(|_| "no answer")?.map_err(words)?;
    if got == byte { Ok(()) } else { Err(format!("answered {got:#04x} instead of {byte:#04x}")) }
}

/// A Postgres 3.0 startup message.
fn startup() -> Vec<u8> {
    let body = b"\0\x03\0\0user\0teesql_read\0database\0postgres\0\0";
    let length = u32::try_from(body.len() + 4).unwrap_or_default();
    [&length.to_be_bytes()[..], body].concat()
}
