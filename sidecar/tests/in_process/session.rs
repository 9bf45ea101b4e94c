//! Sessions that are as they should be, and the rules for who gets one.

use postern_sidecar::packets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::driver::{Driver, GSSENC_REQUEST, SSL_REQUEST, startup, words};
use crate::postgres::Manner;
use crate::world::{READ_SECRET, WRITE_SECRET, World, tls};

#[tokio::test]
async fn a_client_logs_in_and_queries() {
    let (world, sidecar) = World::serving("").await;
    let opening = startup(&[("user", "teesql_read"), ("application_name", "caf\u{e9}"), ("_pq_.any", "thing")]);
    let mut driver = Driver::log_in(world.attested(&sidecar).await, &opening, READ_SECRET).await.unwrap();
    assert_eq!(driver.query("select 1").await.unwrap(), b"select 1");
    assert_eq!(driver.parameters, [b"server_version\x0017.0\0"]);
    let key = driver.key.clone().unwrap();
    assert!(key.process_id() < 1_000 || key.secret() != [9; 4], "the real key stays inside");
    assert_eq!(&world.postgres.startups()[0].raw()[..], &opening[..], "the startup packet is passed on untouched");
    drop(driver);
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn every_opening_of_a_driver_leads_to_tls() {
    let (world, sidecar) = World::serving("").await;
    let identity = world.client_identity().await;
    for openings in [vec![SSL_REQUEST], vec![GSSENC_REQUEST, SSL_REQUEST], vec![]] {
        let mut stream = TcpStream::connect(sidecar.address).await.unwrap();
        for packet in openings {
            stream.write_all(&packet).await.unwrap();
            let expected = if packet == SSL_REQUEST { b'S' } else { b'N' };
            assert_eq!(stream.read_u8().await.unwrap(), expected);
        }
        for alpn in [&[][..], &["postgresql"]] {
            if alpn.is_empty() {
                continue;
            }
            let stream = tls(TcpStream::connect(sidecar.address).await.unwrap(), Some(identity.clone()), alpn).await;
            Driver::reader(stream).await.unwrap();
        }
        let stream = tls(stream, Some(identity.clone()), &[]).await;
        Driver::reader(stream).await.unwrap();
    }
}

#[tokio::test]
async fn encryption_is_declined_inside_tls() {
    let (world, sidecar) = World::serving("").await;
    let mut stream = world.attested(&sidecar).await;
    for packet in [GSSENC_REQUEST, SSL_REQUEST] {
        packets::write(&mut stream, &packet).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'N');
    }
    Driver::reader(stream).await.unwrap();
}

#[tokio::test]
async fn alpn_can_be_required_of_direct_tls() {
    let (world, sidecar) = World::serving("[listen]\naddresses = [\"127.0.0.1:0\"]\nrequire_alpn = true\n").await;
    let identity = world.client_identity().await;
    let stream = TcpStream::connect(sidecar.address).await.unwrap();
    let error = Driver::reader(tls(stream, Some(identity.clone()), &[]).await).await.unwrap_err();
    assert_eq!(error.sqlstate, "08P01");
    let mut stream = TcpStream::connect(sidecar.address).await.unwrap();
    stream.write_all(&SSL_REQUEST).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    Driver::reader(tls(stream, Some(identity), &[]).await).await.unwrap();
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
}

#[tokio::test]
async fn secrets_open_their_roles_and_nothing_else() {
    let (world, sidecar) = World::serving("").await;
    for (user, secret, allowed) in [
        ("teesql_read", READ_SECRET, true),
        ("teesql_readwrite", WRITE_SECRET, true),
        ("teesql_read", WRITE_SECRET, true),
        ("teesql_readwrite", READ_SECRET, false),
        ("nobody", READ_SECRET, false),
        ("postgres", WRITE_SECRET, false),
        ("teesql_read", "ratls", false),
        ("teesql_read", "", false),
    ] {
        let before = world.postgres.startups().len();
        let login = Driver::log_in(world.attested(&sidecar).await, &startup(&[("user", user)]), secret).await;
        let asked_postgres = world.postgres.startups().len() > before;
        assert_eq!((login.is_ok(), asked_postgres), (allowed, allowed), "{user}");
        if let Err(error) = login {
            let expected = format!("password authentication failed for user \"{user}\"");
            assert_eq!(words(&error), ("28P01", expected.as_str()));
        }
    }
}

#[tokio::test]
async fn replication_is_refused_before_a_secret_is_asked_for() {
    let (world, sidecar) = World::serving("").await;
    let mut driver = Driver::new(world.attested(&sidecar).await);
    driver.send(&startup(&[("user", "teesql_read"), ("replication", "database")])).await;
    assert_eq!(driver.refusal().await.sqlstate, "0A000");
}

#[tokio::test]
async fn what_is_sent_ahead_is_not_lost_and_half_close_is_passed_on() {
    let (world, sidecar) = World::serving("").await;
    let mut driver = Driver::new(world.attested(&sidecar).await);
    driver.send(&startup(&[("user", "teesql_read")])).await;
    assert_eq!(driver.next().await.unwrap().tag(), b'R');
    // The password and the first query in one write.
    let password = [b"p\0\0\0\x45".as_slice(), READ_SECRET.as_bytes(), b"\0", b"Q\0\0\0\x0aahead\0"].concat();
    driver.send(&password).await;
    driver.stream.shutdown().await.unwrap();
    let mut tags = Vec::new();
    while let Ok(message) = driver.next().await {
        tags.push(message.tag());
    }
    assert_eq!(tags, b"RSKZCZ");
    assert!(world.postgres.statements().contains(&"ahead".to_owned()));
    sidecar.assert_no_connection_is_left().await;
}

#[tokio::test]
async fn large_answers_and_questions_pass() {
    let (world, sidecar) = World::serving("").await;
    let mut driver = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let sql = "x".repeat(3_000_000);
    assert_eq!(driver.query(&sql).await.unwrap().len(), sql.len());
}

#[tokio::test]
async fn sessions_have_a_limit() {
    let (world, sidecar) = World::serving("[limits]\nsessions = 1\n").await;
    let first = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let error = Driver::reader(world.attested(&sidecar).await).await.unwrap_err();
    assert_eq!(error.sqlstate, "53300");
    drop(first);
    sidecar.assert_no_connection_is_left().await;
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
}

#[tokio::test]
async fn a_drain_lets_sessions_end_and_begins_none() {
    let (world, sidecar) = World::serving("").await;
    let mut session = Driver::reader(world.attested(&sidecar).await).await.unwrap();
    let mut late = Driver::new(world.attested(&sidecar).await);
    late.send(&startup(&[("user", "teesql_read")])).await;
    assert_eq!(late.next().await.unwrap().tag(), b'R');
    sidecar.ground.shutdown.trigger();
    late.password(READ_SECRET).await;
    assert_eq!(late.refusal().await.sqlstate, "57P01");
    assert_eq!(session.query("still").await.unwrap(), b"still");
    drop(session);
    let drained = sidecar.ground.sessions.close_and_wait(std::time::Duration::from_secs(10)).await;
    assert!(drained.clean);
}

#[tokio::test]
async fn roles_are_provisioned_as_verifiers_and_again_when_they_are_lost() {
    let (world, sidecar) = World::serving("").await;
    let first = world.postgres.verifier("teesql_readwrite").unwrap();
    assert!(first.starts_with("SCRAM-SHA-256$4096:"));
    let statements = world.postgres.statements();
    assert!(statements[0].starts_with("SET log_statement = 'none'"), "nothing is logged before: {statements:?}");
    assert!(
        statements.iter().any(|sql| sql.contains("GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"teesql_read\""))
    );

    world.postgres.set(Manner::Forgetful);
    let error = Driver::reader(world.attested(&sidecar).await).await.unwrap_err();
    assert_eq!(error.sqlstate, "08006", "the client's secret was right");
    world.postgres.set(Manner::Proper);
    let renewed = async {
        while world.postgres.verifier("teesql_readwrite").unwrap() == first {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), renewed).await.unwrap();
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
}
