//! More connections than there is room for before they are sessions: from one source, from many, and through a gateway.

use std::net::SocketAddr;
use std::time::Duration;

use postern_plumbing::Io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::cancel::{asleep, cancel_in_plaintext};
use crate::driver::{Driver, GSSENC_REQUEST, SSL_REQUEST, startup};
use crate::gateway::{GATEWAY_APP, Gateway};
use crate::memory::resident_kib;
use crate::secrecy::Program;
use crate::tunnel;
use crate::world::{Sidecar, World, assert_tasks_return_to, counted, metrics, tasks, tls};

/// How many are told at a time that there is no room.
const TOLD: usize = 64;
/// The time in which all are let go, and a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// TLS' internal_error.
const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];
/// The first bytes of a ClientHello.
const HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1];

/// A connection from one of this machine's own addresses.
async fn from(source: &str, sidecar: &Sidecar) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    socket.connect(sidecar.address).await.unwrap()
}

/// Connections that have said half a word, with a task each.
async fn half_open(source: &str, count: usize, sidecar: &Sidecar) -> Vec<TcpStream> {
    let before = sidecar.ground.sessions.count();
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = from(source, sidecar).await;
        stream.write_all(&SSL_REQUEST[..4]).await.unwrap();
        open.push(stream);
    }
    while sidecar.ground.sessions.count() < before + count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    open
}

/// All that is said to these bytes.
async fn said_to(mut stream: impl Io, bytes: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    let talk = async {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        stream.read_to_end(&mut said).await
    };
    // Who is closed without a word may see a reset.
    drop(timeout(PATIENCE, talk).await.expect("it never ends"));
    said
}

fn tells(said: &[u8], words: &str) -> bool {
    let text = String::from_utf8_lossy(said);
    text.contains("C53300\0") && text.contains(words)
}

#[tokio::test]
async fn one_source_cannot_take_the_room_of_others() {
    let limits = "[limits]\nhandshakes = 40\nhandshakes_per_source = 30\nhandshake = \"60s\"\n";
    let (world, sidecar) = World::serving(limits).await;
    let (metrics, identity) = (metrics(), world.client_identity().await);
    let refused = || counted(&metrics, &["postern_sidecar_refusals_total", "\"too_many_of_source\"", "direct"]);
    let held = half_open("127.0.0.2", 30, &sidecar).await;
    let mut more = Vec::new();
    for _ in 0..500 {
        let mut stream = from("127.0.0.2", &sidecar).await;
        stream.write_all(&SSL_REQUEST[..4]).await.unwrap();
        more.push(stream);
    }
    let another = tls(from("127.0.0.3", &sidecar).await, Some(identity.clone()), &["postgresql"]).await;
    Driver::reader(another).await.expect("another source has room");
    for mut stream in more {
        let end = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("it is let go");
        assert!(end.is_err() || end.is_ok_and(|count| count == 0));
    }
    assert_eq!(refused(), 500);

    drop(held);
    sidecar.assert_no_connection_is_left().await;
    let again = tls(from("127.0.0.2", &sidecar).await, Some(identity), &["postgresql"]).await;
    Driver::reader(again).await.expect("what was given back is there for all");
}

#[tokio::test]
async fn those_for_whom_there_is_no_room_are_told_in_their_own_language() {
    let (world, sidecar) = World::serving("[limits]\nhandshakes = 1\nhandshake = \"60s\"\n").await;
    let mut session = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let held = half_open("127.0.0.2", 1, &sidecar).await;
    let speak = async |words: &[u8]| said_to(from("127.0.0.3", &sidecar).await, words).await;
    let words = "too many connections are being established";
    assert!(tells(&speak(&SSL_REQUEST).await, words));
    assert!(tells(&speak(&startup(&[("user", "teesql_read")])).await, words));
    assert_eq!(speak(HELLO).await, ALERT);
    assert_eq!(speak(b"GET / HTTP/1.1\r\n\r\n").await, b"");
    assert_eq!(speak(&SSL_REQUEST[..4]).await, b"");

    let mut stream = from("127.0.0.3", &sidecar).await;
    stream.write_all(&GSSENC_REQUEST).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'N', "its driver would show no error here");
    assert!(tells(&said_to(stream, &SSL_REQUEST).await, words));

    session.ask("sleep").await;
    asleep(&world).await;
    cancel_in_plaintext(&sidecar, session.key.as_ref().unwrap()).await;
    assert_eq!(session.answer().await.unwrap_err().sqlstate, "57014", "queries can be cancelled");
    drop(held);
}

#[tokio::test]
async fn clients_of_one_gateway_are_told_apart_by_their_own_addresses() {
    let world = World::new().await;
    let mut gateway = tunnel::gateway(&world, "127.0.0.1:0").await;
    let limits = "[limits]\nhandshakes = 10\nhandshakes_per_source = 4\nhandshake = \"60s\"\n";
    let sidecar = world.serve(&(tunnel::config(gateway.address, GATEWAY_APP) + limits)).await;
    gateway.registered(1).await;
    let (metrics, identity) = (metrics(), world.client_identity().await);
    let refused = || counted(&metrics, &["postern_sidecar_refusals_total", "\"too_many_of_source\"", "tunnel"]);
    let introduced = async |gateway: &Gateway, port: u16| gateway.introduced(&format!("192.0.2.7:{port}")).await;
    let mut held = Vec::new();
    for port in 0..4 {
        let mut stream = introduced(&gateway, 5_000 + port).await;
        stream.write_all(&HELLO[..1]).await.unwrap();
        held.push(stream);
    }
    while sidecar.ground.sessions.count() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Each may have been counted a moment later than its task.
    while refused() == 0 {
        assert_eq!(said_to(introduced(&gateway, 6_000).await, HELLO).await, ALERT);
    }
    Driver::reader(gateway.client_from("198.51.100.9:4711", identity).await).await.expect("another client has room");
    drop(held);
}

#[tokio::test]
async fn ten_thousand_half_open_connections_cost_no_more_than_the_limit() {
    const LIMIT: usize = 64;
    let (world, sidecar) = World::serving(&format!("[limits]\nhandshakes = {LIMIT}\nhandshake = \"60s\"\n")).await;
    let metrics = metrics();
    let refused = || counted(&metrics, &["postern_sidecar_refusals_total", "too_many_handshakes"]);
    let (tasks_before, refused_before) = (tasks(), refused());
    let open = half_open("127.0.0.2", LIMIT, &sidecar).await;
    let memory = resident_kib();
    // Some say nothing, as if to be waited for; the others ask for TLS, which they would never begin.
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(from("127.0.0.3", &sidecar).await);
    }
    // A task ends a moment after its place was given to the next.
    assert!(sidecar.ground.sessions.count() <= LIMIT + 2 * TOLD, "those who are refused cost few tasks");
    for stream in silent {
        assert_eq!(said_to(stream, b"").await, b"");
    }
    for _ in LIMIT + 500..10_000 {
        let said = said_to(TcpStream::connect(sidecar.address).await.unwrap(), &SSL_REQUEST).await;
        assert!(tells(&said, "too many connections are being established"), "{said:?}");
    }
    assert_eq!(refused() - refused_before, 10_000 - LIMIT as u64);
    assert!(resident_kib() < memory + 4_096, "{} KiB more", resident_kib() - memory);
    drop(open);
    assert_tasks_return_to(tasks_before).await;
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_refusals_is_a_few_lines_and_a_count_in_the_log() {
    let world = World::new().await;
    let program = Program::start(&world, world.folder.path(), "info").await;
    for _ in 0..100 {
        let stream = TcpStream::connect(program.address).await.unwrap();
        said_to(stream, &startup(&[("user", "teesql_read")])).await;
    }
    program.said("more connections were refused", 1).await;
    let log = program.log();
    let lines = log.lines().filter(|line| line.contains("\"reason\":\"plaintext\""));
    let lines: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!((11..40).contains(&lines.len()), "{} lines", lines.len());
    let left_out: u64 = lines.iter().map(|line| line["left_out"].as_u64().unwrap()).sum();
    let told = lines.iter().filter(|line| line["message"] == "connection refused").count();
    assert_eq!(told as u64 + left_out, 100, "each is told of or counted");
}

#[tokio::test]
async fn sessions_take_no_room_from_those_who_are_to_become_some() {
    let (world, sidecar) = World::serving("[limits]\nhandshakes = 2\nhandshake = \"30s\"\n").await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(Driver::reader(world.attested(&sidecar).await).await.unwrap());
    }
    // One waits for its password, one has not said a word.
    let mut waiting = Driver::new(world.attested(&sidecar).await);
    waiting.send(&startup(&[("user", "teesql_read")])).await;
    assert_eq!(waiting.next().await.unwrap().tag(), b'R');
    let silent = half_open("127.0.0.2", 1, &sidecar).await;
    assert!(tells(&said_to(from("127.0.0.3", &sidecar).await, &SSL_REQUEST).await, ""));
    drop((waiting, silent, sessions));
    sidecar.assert_no_connection_is_left().await;
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
}
