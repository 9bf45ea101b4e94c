//! How clients show which role they may log in as, other than by sending a secret.

use bytes::BytesMut;
use postern_identity::ComposeHash;
use postern_pgwire::error_response::ServerError;
use postern_plumbing::Io;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::connect::Beside;
use crate::driver::{Driver, SSL_REQUEST, startup, words};
use crate::rules;
use crate::world::{CLIENT_APP, CLIENT_COMPOSE, READ_SECRET, SERVER_APP, Sidecar, WRITE_SECRET, World, identity, tls};

const SCRAM: &str = "[clients]\nauthentication = \"scram-sha-256\"\n";
const PLUS: &str = "SCRAM-SHA-256-PLUS";
const PLAIN: &str = "SCRAM-SHA-256";

/// The mechanisms that a server offers after a startup packet.
async fn offered<S: Io>(driver: &mut Driver<S>, user: &str) -> Vec<String> {
    driver.send(&startup(&[("user", user)])).await;
    let message = driver.next().await.unwrap();
    let names = message.body().strip_prefix(&[0, 0, 0, 10]).expect("AuthenticationSASL");
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
}

/// Proves a password and logs in, as a driver that has been offered mechanisms.
async fn prove<S: Io>(
    driver: &mut Driver<S>,
    mechanism: &str,
    password: &str,
    binding: ChannelBinding,
) -> Result<(), ServerError> {
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    let mut reply = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut reply).unwrap();
    driver.send(&reply).await;
    loop {
        let message = driver.next().await.unwrap();
        match (message.tag(), message.body()) {
            (b'R', [0, 0, 0, 11, challenge @ ..]) => {
                scram.update(challenge).unwrap();
                let mut reply = BytesMut::new();
                frontend::sasl_response(scram.message(), &mut reply).unwrap();
                driver.send(&reply).await;
            }
            (b'R', [0, 0, 0, 12, conclusion @ ..]) => scram.finish(conclusion).unwrap(),
            (b'R' | b'S' | b'K', _) => {}
            (b'Z', _) => return Ok(()),
            (b'E', body) => return Err(ServerError::parse(message.raw(), body)),
            (tag, _) => panic!("unexpected message {tag}"),
        }
    }
}

/// What a driver binds to: the hash of the certificate that it was shown.
fn binding_of(stream: &TlsStream<TcpStream>) -> ChannelBinding {
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    ChannelBinding::tls_server_end_point(
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &shown).as_ref().to_vec(),
    )
}

async fn connected(sidecar: &Sidecar) -> TcpStream {
    TcpStream::connect(sidecar.address).await.unwrap()
}

#[tokio::test]
async fn a_secret_is_proven_without_being_sent() {
    let (world, sidecar) = World::serving(SCRAM).await;
    for (user, secret) in
        [("teesql_read", READ_SECRET), ("teesql_read", WRITE_SECRET), ("teesql_readwrite", WRITE_SECRET)]
    {
        for bound in [true, false] {
            let stream = world.attested(&sidecar).await;
            let binding = if bound { binding_of(&stream) } else { ChannelBinding::unsupported() };
            let mut driver = Driver::new(stream);
            assert_eq!(offered(&mut driver, user).await, [PLUS, PLAIN]);
            prove(&mut driver, if bound { PLUS } else { PLAIN }, secret, binding).await.unwrap();
            assert_eq!(driver.query("select 1").await.unwrap(), b"select 1");
        }
    }
}

#[tokio::test]
async fn a_proof_that_is_wrong_or_bound_to_something_else_is_refused() {
    let (world, sidecar) = World::serving(SCRAM).await;
    let foreign = || ChannelBinding::tls_server_end_point(vec![7; 32]);
    for (mechanism, user, secret, binding, code, text) in [
        (PLAIN, "teesql_readwrite", READ_SECRET, ChannelBinding::unsupported(), "28P01", "password"),
        (PLAIN, "nobody", READ_SECRET, ChannelBinding::unsupported(), "28P01", "password"),
        (PLUS, "teesql_read", READ_SECRET, foreign(), "28000", "channel binding check failed"),
        (PLAIN, "teesql_read", READ_SECRET, ChannelBinding::unrequested(), "28000", "negotiation"),
        (PLAIN, "teesql_read", READ_SECRET, foreign(), "08P01", "malformed"),
        ("PLAIN", "teesql_read", READ_SECRET, ChannelBinding::unsupported(), "08P01", "invalid SASL"),
    ] {
        let mut driver = Driver::new(world.attested(&sidecar).await);
        offered(&mut driver, user).await;
        let error = prove(&mut driver, mechanism, secret, binding).await.unwrap_err();
        assert_eq!(error.sqlstate, code, "{error:?}");
        assert!(error.message.contains(text), "{error:?}");
    }
    assert!(world.postgres.startups().is_empty(), "Postgres was not asked for any of them");
    let mut driver = Driver::new(world.attested(&sidecar).await);
    offered(&mut driver, "teesql_read").await;
    driver.password(READ_SECRET).await;
    assert_eq!(driver.refusal().await.sqlstate, "08P01", "a secret in clear is no message of SCRAM");
}

#[tokio::test]
async fn channel_binding_is_offered_only_to_drivers_that_do_tls_themselves() {
    let (world, sidecar) = World::serving(SCRAM).await;
    let id = world.client_identity().await;
    for (asks, alpn, expected) in [
        (true, &[][..], &[PLUS, PLAIN][..]),
        (true, &["postgresql"], &[PLUS, PLAIN]),
        (false, &["postgresql"], &[PLUS, PLAIN]),
        // TeeSQL's forwarders: the driver behind them has no TLS.
        (false, &[], &[PLAIN]),
        (false, &["postern-forwarded-postgresql", "postgresql"], &[PLAIN]),
    ] {
        let mut stream = connected(&sidecar).await;
        if asks {
            stream.write_all(&SSL_REQUEST).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'S');
        }
        let mut driver = Driver::new(tls(stream, Some(id.clone()), alpn).await);
        assert_eq!(offered(&mut driver, "teesql_read").await, expected, "{asks} {alpn:?}");
    }
    let beside = Beside::start(&world, sidecar.address, SERVER_APP, "").await;
    let mut driver = Driver::new(beside.connect().await);
    assert_eq!(offered(&mut driver, "teesql_read").await, [PLAIN]);
    prove(&mut driver, PLAIN, READ_SECRET, ChannelBinding::unsupported()).await.unwrap();
}

/// All that the server says to a client that is refused, with the client's name and what is random left out.
async fn conversation(world: &World, sidecar: &Sidecar, user: &str) -> Vec<String> {
    let mut driver = Driver::new(world.attested(sidecar).await);
    let mut said = Vec::new();
    driver.send(&startup(&[("user", user)])).await;
    let mut proof = ScramSha256::new(READ_SECRET.as_bytes(), ChannelBinding::unsupported());
    while let Ok(message) = driver.next().await {
        let (mut words, mut reply) = (format!("{:?}", message.raw()).replace(user, "<user>"), BytesMut::new());
        match message.body() {
            [0, 0, 0, 3, ..] => frontend::password_message(READ_SECRET.as_bytes(), &mut reply).unwrap(),
            [0, 0, 0, 10, ..] => frontend::sasl_initial_response(PLAIN, proof.message(), &mut reply).unwrap(),
            [0, 0, 0, 11, challenge @ ..] => {
                proof.update(challenge).unwrap();
                frontend::sasl_response(proof.message(), &mut reply).unwrap();
                // A nonce for each conversation and a salt for each name. What they are made of has to look the same.
                let parts = challenge.split(|byte| *byte == b',').map(|part| (char::from(part[0]), part.len()));
                words = format!("challenge {:?}", parts.collect::<Vec<_>>());
            }
            _ => {}
        }
        said.push(words);
        driver.send(&reply).await;
    }
    said
}

#[tokio::test]
async fn an_unknown_role_and_a_wrong_secret_read_the_same_byte_for_byte() {
    for (more, messages) in [("", 2), (SCRAM, 3)] {
        let (world, sidecar) = World::serving(more).await;
        // Of one length, because lengths stand in the messages.
        let known = conversation(&world, &sidecar, "teesql_readwrite").await;
        let unknown = conversation(&world, &sidecar, "teesql_readwrong").await;
        assert_eq!(known, unknown);
        assert_eq!(known.len(), messages, "{known:?}");
        assert!(
            known.last().unwrap().contains("C28P01") && known.last().unwrap().contains("\\\"<user>\\\""),
            "{known:?}"
        );
    }
}

/// A role that no secret opens, and what opens it and the reader's role to the client CVM.
fn indexer(more: &str) -> String {
    let compose_hash = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, CLIENT_COMPOSE));
    format!(
        "[[roles]]\nname = \"indexer\"\n[clients]\n{more}[[clients.rules]]\napp_id = \"{CLIENT_APP}\"\n\
         compose_hashes = [\"{compose_hash}\"]\nroles = [\"indexer\", \"teesql_read\"]\n"
    )
}

/// Starts a session without a word about a secret; gives the tag and the start of what comes first.
async fn asks_nothing<S: Io>(stream: S, user: &str) -> Result<bool, ServerError> {
    let mut driver = Driver::new(stream);
    driver.send(&startup(&[("user", user)])).await;
    let message = driver.next().await.unwrap();
    if message.tag() == b'E' {
        return Err(ServerError::parse(message.raw(), message.body()));
    }
    Ok(message.body() == [0; 4])
}

#[tokio::test]
async fn a_client_that_a_rule_knows_is_asked_for_nothing() {
    for more in ["", "authentication = \"scram-sha-256\"\n"] {
        let (world, sidecar) = rules::serving(&indexer(more)).await;
        for user in ["indexer", "teesql_read"] {
            assert!(asks_nothing(world.attested(&sidecar).await, user).await.unwrap(), "{user}");
        }
        for user in ["teesql_readwrite", "nobody", "postgres"] {
            assert!(!asks_nothing(world.attested(&sidecar).await, user).await.unwrap(), "{user}");
        }
        let started: Vec<_> = world.postgres.startups().iter().map(|startup| startup.user().to_vec()).collect();
        assert_eq!(started, [b"indexer".to_vec(), b"teesql_read".to_vec()]);
    }
}

#[tokio::test]
async fn a_client_that_no_rule_knows_needs_a_secret() {
    let (world, sidecar) = rules::serving(&indexer("")).await;
    let other = identity(&world.server_agent).await;
    let connect = async || tls(connected(&sidecar).await, Some(other.clone()), &["postgresql"]).await;
    let error = asks_nothing(connect().await, "indexer").await.unwrap_err();
    let expected = "role \"indexer\" is open to certain attested clients only, and this client is none of them";
    assert_eq!(words(&error), ("28000", expected));
    assert!(!asks_nothing(connect().await, "teesql_read").await.unwrap());
    Driver::reader(connect().await).await.unwrap();
}

#[tokio::test]
async fn a_client_without_evidence_is_nobody_even_where_it_is_let_in() {
    let (_world, sidecar) = rules::serving(&indexer("insecure_allow_unattested_clients = true\n")).await;
    let connect = async || tls(connected(&sidecar).await, None, &["postgresql"]).await;
    assert_eq!(asks_nothing(connect().await, "indexer").await.unwrap_err().sqlstate, "28000");
    assert!(!asks_nothing(connect().await, "teesql_read").await.unwrap());
    Driver::reader(connect().await).await.unwrap();
}

#[tokio::test]
async fn a_rule_opens_nothing_to_clients_that_may_not_connect() {
    let other = ComposeHash([7; 32]);
    let (world, sidecar) = rules::serving(&indexer(&format!("compose_hashes = [\"{other}\"]\n"))).await;
    let error = asks_nothing(world.attested(&sidecar).await, "indexer").await.unwrap_err();
    assert_eq!(words(&error), ("28000", "client refused: the peer runs another composition than expected"));
}
