//! Sessions that are as they should be, and the rules for who gets one.

use std::time::Duration;

use postern_attest::PeerPolicy;
use postern_attest_io::Connector;
use postern_sidecar::packets;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::driver::{Driver, GSSENC_REQUEST, SSL_REQUEST, startup, words};
use crate::postgres::Manner;
use crate::world::{READ_SECRET, SERVER_APP, SPARE_SECRET, WRITE_SECRET, World, attestor, spare_role, tls};

#[tokio::test]
async fn a_client_logs_in_and_queries() {
    let (world, sidecar) = World::serving("").await;
    let mut opening = startup(&[("user", "teesql_read"), ("application_name", "caf\u{e9}"), ("options", "-c a.b=??")]);
    let not_utf8 = opening.windows(2).position(|pair| pair == b"??").unwrap();
    opening[not_utf8..not_utf8 + 2].copy_from_slice(b"\xff\xfe");
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
async fn another_application_protocol_is_refused_by_tls() {
    let (world, sidecar) = World::serving("").await;
    for negotiated in [false, true] {
        let mut stream = TcpStream::connect(sidecar.address).await.unwrap();
        if negotiated {
            stream.write_all(&SSL_REQUEST).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'S');
        }
        let connector = Connector::new(Some(world.client_identity().await), attestor(), &["http/1.1"]);
        let refused =
            connector.connect(stream, "db.example", &PeerPolicy::app(SERVER_APP), Duration::from_secs(20)).await;
        let alert = rustls::AlertDescription::NoApplicationProtocol;
        assert!(format!("{:?}", refused.unwrap_err()).contains(&format!("{alert:?}")));
    }
    sidecar.assert_no_connection_is_left().await;
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
async fn replication_is_for_the_roles_that_may() {
    let world = World::new().await;
    let sidecar = world.serve(&spare_role(&world, "replication = true\n")).await;
    for kind in ["true", "database"] {
        for (user, secret, code) in [
            ("teesql_read", READ_SECRET, Some("0A000")),
            ("spare", SPARE_SECRET, None),
            // Nobody learns without a secret which roles may.
            ("teesql_read", SPARE_SECRET, Some("28P01")),
            ("spare", READ_SECRET, Some("28P01")),
        ] {
            let before = world.postgres.startups().len();
            let opening = startup(&[("user", user), ("replication", kind)]);
            let session = Driver::log_in(world.attested(&sidecar).await, &opening, secret).await;
            assert_eq!(session.as_ref().err().map(|error| error.sqlstate.as_str()), code, "{user} {kind}");
            assert_eq!(world.postgres.startups().len() > before, code.is_none());
        }
    }
    let altered = |role: &str, attribute: &str| {
        let statements = world.postgres.statements();
        let of_role = |sql: &&String| sql.contains(&format!("ALTER ROLE \"{role}\""));
        statements.iter().filter(of_role).all(|sql| sql.contains(&format!(" {attribute} ")))
    };
    assert!(altered("spare", "REPLICATION") && altered("teesql_read", "NOREPLICATION"));
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
async fn an_idle_session_lasts_for_hours() {
    let (world, sidecar) = World::serving("").await;
    let stream = tls(sidecar.serve_pipe("192.0.2.1:4711"), Some(world.client_identity().await), &[]).await;
    let mut driver = Driver::reader(stream).await.unwrap();
    // From here on all is in memory, and time passes when there is nothing else to do.
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(2 * 3_600)).await;
    assert_eq!(driver.query("still there").await.unwrap(), b"still there");
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
async fn a_role_has_a_limit_and_leaves_others_their_share() {
    let world = World::new().await;
    let spare = spare_role(&world, "max_connections = 2\nreserved_connections = 1\n");
    let sidecar = world.serve(&(spare + "[limits]\nsessions = 4\n")).await;
    let spare = async || {
        let opening = startup(&[("user", "spare")]);
        Driver::log_in(world.attested(&sidecar).await, &opening, SPARE_SECRET).await
    };
    let mut readers = Vec::new();
    for _ in 0..3 {
        readers.push(Driver::reader(world.attested(&sidecar).await).await.unwrap());
    }
    let error = Driver::reader(world.attested(&sidecar).await).await.unwrap_err();
    assert_eq!(words(&error), ("53300", "sorry, too many clients already"));
    let _first = spare().await.unwrap();
    assert_eq!(words(&spare().await.unwrap_err()).1, "sorry, too many clients already");
    readers.pop();
    let reopened = async {
        loop {
            if let Ok(session) = spare().await {
                return session;
            }
        }
    };
    let _second = tokio::time::timeout(Duration::from_secs(20), reopened).await.unwrap();
    assert_eq!(words(&spare().await.unwrap_err()), ("53300", "too many connections for role \"spare\""));
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
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed).await.unwrap();
    Driver::reader(world.attested(&sidecar).await).await.unwrap();
}
