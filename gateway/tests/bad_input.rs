//! What the gateway says to clients that do it wrong, on the wire.

#[cfg(test)]
mod common;

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use common::chain::refused;
use common::hello::{GSSENC_REQUEST, SSL_REQUEST, app_name, hello, hello_of, padding, records, server_name};
use common::{House, alert, error_response, limits, rest};

const KNOWN: u8 = 0xaa;
const UNKNOWN: u8 = 0xbb;

#[tokio::test]
async fn hellos_that_cannot_be_routed_are_answered_with_the_alert_that_fits() {
    let house = House::open(limits()).await;
    let _instance = house.instance(1, KNOWN).await;
    let name = app_name(KNOWN);
    let with_nul = [&name.as_bytes()[..3], b"\0", &name.as_bytes()[4..]].concat();
    let cases: Vec<(&str, Vec<u8>, u8)> = vec![
        ("unknown app", hello(&app_name(UNKNOWN)), 112),
        ("other domain", hello("www.example.org"), 112),
        ("base domain", hello("postern.test"), 112),
        ("label that is no id", hello("gateway.postern.test"), 112),
        ("TLS termination", hello(&name.replacen('s', "", 1)), 112),
        ("trailing dot", hello(&format!("{name}.")), 112),
        ("IP address", hello("127.0.0.1"), 112),
        ("NUL in the name", hello_of(&[server_name(&[&with_nul])]), 112),
        ("two names", hello_of(&[server_name(&[name.as_bytes(), name.as_bytes()])]), 47),
        ("two SNI extensions", hello_of(&[server_name(&[name.as_bytes()]), server_name(&[b"b.test"])]), 47),
        ("no SNI", hello_of(&[]), 109),
        ("a hello of 20 KB", hello_of(&[server_name(&[name.as_bytes()]), padding(20_000)]), 47),
        ("an empty record", vec![22, 3, 1, 0, 0], 50),
        ("a record that is too long", vec![22, 3, 1, 0x40, 1], 50),
        ("another handshake message", vec![22, 3, 1, 0, 4, 2, 0, 0, 0], 50),
        ("a closed port", hello(&format!("{}-22s.postern.test", "aa".repeat(20))), 49),
    ];
    for (what, bytes, description) in cases {
        assert_eq!(house.answer_to(&bytes).await, alert(description), "{what}");
        let negotiated = [&SSL_REQUEST[..]].concat();
        let mut stream = house.connect().await;
        stream.write_all(&negotiated).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'S', "{what}");
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(rest(&mut stream).await, alert(description), "{what}, after SSLRequest");
    }
    house.settle().await;
}

#[tokio::test]
async fn an_app_that_is_registered_and_not_allowed_is_told_apart_from_an_unknown_one() {
    let house = House::open(limits()).await;
    let instance = house.instance(1, KNOWN).await;
    house.edge.members.refuse(&instance.boot).unwrap();
    assert_eq!(house.answer_to(&hello(&app_name(KNOWN))).await, alert(49));
    house.settle().await;
}

#[tokio::test]
async fn what_the_chain_says_now_counts_even_before_it_is_announced() {
    let house = House::open(limits()).await;
    let instance = house.instance(1, KNOWN).await;
    house.chain.say(&instance.boot, Err(refused(9)));
    assert_eq!(house.answer_to(&hello(&app_name(KNOWN))).await, alert(49));
    house.chain.say(&instance.boot, Err(postern_allowlist::NotAdmitted::ViewTooOld { age: 901 }));
    assert_eq!(house.answer_to(&hello(&app_name(KNOWN))).await, alert(80));
    house.settle().await;
}

#[tokio::test]
async fn a_session_without_tls_is_refused_as_postgres_would() {
    let house = House::open(limits()).await;
    let mut startup = vec![0, 0, 0, 23, 0, 3, 0, 0];
    startup.extend(b"user\0postgres\0\0");
    let refusal = error_response(&house.answer_to(&startup).await);
    for field in ["SFATAL", "C28000", "MTLS required: connect with sslmode=require"] {
        assert!(refusal.contains(field), "{field} in {refusal}");
    }
    let mut stream = house.connect().await;
    stream.write_all(&GSSENC_REQUEST).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'N');
    stream.write_all(&startup).await.unwrap();
    assert!(error_response(&rest(&mut stream).await).contains("C28000"));
    house.settle().await;
}

#[tokio::test]
async fn bytes_glued_behind_a_request_are_refused_without_an_answer_to_it() {
    let house = House::open(limits()).await;
    let _instance = house.instance(1, KNOWN).await;
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let glued = [&request[..], &hello(&app_name(KNOWN))].concat();
        let refusal = error_response(&house.answer_to(&glued).await);
        assert!(refusal.contains("C08P01") && refusal.contains("unencrypted data"), "{refusal}");
    }
    house.settle().await;
}

#[tokio::test]
async fn other_protocols_get_a_sentence() {
    let house = House::open(limits()).await;
    for garbage in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &[0xff; 3_000]] {
        let refusal = error_response(&house.answer_to(garbage).await);
        assert!(refusal.contains("C08P01") && refusal.contains("speaks TLS and the PostgreSQL protocol"), "{refusal}");
    }
    house.settle().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_hears_nothing() {
    let house = House::open(limits()).await;
    let started = Instant::now();
    assert_eq!(house.answer_to(&[]).await, b"");
    assert!(started.elapsed() >= limits().opening, "it had its time");
    let mut gone = house.connect().await;
    gone.shutdown().await.unwrap();
    assert_eq!(rest(&mut gone).await, b"");
    house.settle().await;
}

#[tokio::test]
async fn one_byte_at_a_time_is_as_good_as_all_at_once() {
    let house = House::open(limits()).await;
    let mut instance = house.instance(1, KNOWN).await;
    let whole = hello(&app_name(KNOWN).to_uppercase());
    for bytes in [whole.clone(), records(&whole[5..], 1), records(&whole[5..], 7)] {
        let mut stream = house.connect().await;
        stream.set_nodelay(true).unwrap();
        for byte in &bytes {
            stream.write_all(&[*byte]).await.unwrap();
        }
        let mut echo = vec![0; bytes.len()];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, bytes, "the sidecar got exactly what was sent");
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, b"");
        instance.heard().await;
    }
    house.settle().await;
}

/// A client that stops after any byte and keeps the connection: it has one deadline, and then hears why.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_after_any_byte_is_let_go_at_the_deadline() {
    let house = House::open(limits()).await;
    let bytes = hello(&app_name(KNOWN));
    let started = Instant::now();
    let prefixes = (0..bytes.len()).map(|end| {
        let bytes = &bytes;
        let house = &house;
        async move {
            let direct = house.answer_to(&bytes[..end]).await;
            assert_eq!(direct, if end == 0 { vec![] } else { alert(40) }, "{end} bytes");
            let mut stream = house.connect().await;
            stream.write_all(&SSL_REQUEST).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'S');
            stream.write_all(&bytes[..end]).await.unwrap();
            assert_eq!(rest(&mut stream).await, alert(40), "{end} bytes after SSLRequest");
        }
    });
    let requests = (1..SSL_REQUEST.len()).map(|end| {
        let house = &house;
        async move {
            let refusal = error_response(&house.answer_to(&SSL_REQUEST[..end]).await);
            assert!(refusal.contains("not opened in time"), "{end} bytes: {refusal}");
        }
    });
    tokio::join!(all(prefixes.collect()), all(requests.collect()));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    house.settle().await;
}

/// A client that stops after any byte and says that it is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ends_after_any_byte_is_let_go_at_once() {
    let limits = gateway::edge::Limits { opening: Duration::from_secs(60), ..limits() };
    let house = House::open(limits).await;
    let bytes = hello(&app_name(KNOWN));
    for end in 0..bytes.len() {
        let mut stream = house.connect().await;
        stream.write_all(&bytes[..end]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, if end == 0 { vec![] } else { alert(40) }, "{end} bytes");
    }
    house.settle().await;
}

/// Runs futures at the same time.
async fn all(futures: Vec<impl Future<Output = ()>>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
