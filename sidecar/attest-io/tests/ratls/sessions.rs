//! What goes right between two CVMs, and what TLS itself does about the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postern_attest::PeerPolicy;
use postern_attest_io::{Acceptor, ClientRule, ConnectRefused, Connector, PeerRefused, TlsRefused};
use postern_simulator::Measurements;
use rustls::HandshakeKind;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::{ALPN, APP, Credentials, DEADLINE, Guest, OTHER_APP, Pair, TEE, attestor, cvm, trusting};

#[tokio::test]
async fn both_ends_know_each_other_before_the_first_byte() {
    let pair = Pair::new().await;
    let (accepted, connected) = pair.meet(&PeerPolicy::app(APP)).await;
    let (mut server, mut client) = (accepted.unwrap().admit().unwrap(), connected.unwrap());

    let seen_by_client = client.peer.as_ref().unwrap();
    assert_eq!(seen_by_client.identity.app_id, APP);
    assert_eq!(seen_by_client.device_id, TEE.device_id());
    assert_eq!(seen_by_client.tcb_status, "UpToDate");
    let server_cvm = cvm(&TEE, APP, Measurements::default());
    assert_eq!(seen_by_client.rtmr, server_cvm.measurements().rtmr);
    assert_eq!(seen_by_client.identity.compose_hash, server_cvm.compose_hash());
    assert_eq!(server.peer.as_ref().unwrap().identity.app_id, OTHER_APP);

    for session in [&server.alpn, &client.alpn] {
        assert_eq!(session.as_deref(), Some(b"postgresql".as_slice()));
    }
    let group = client.stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);

    client.stream.write_all(b"hello").await.unwrap();
    client.stream.flush().await.unwrap();
    let mut read = [0; 5];
    server.stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"hello");
}

#[tokio::test]
async fn what_a_client_sends_at_once_is_not_lost() {
    let pair = Pair::new().await;
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let client = async {
        let mut session =
            pair.connector.connect(ours, "db.postern.test", &PeerPolicy::default(), DEADLINE).await.unwrap();
        session.stream.write_all(b"startup").await.unwrap();
        session.stream.flush().await.unwrap();
        session
    };
    let (session, accepted) = tokio::join!(client, pair.acceptor.accept(theirs, DEADLINE));
    let mut read = [0; 7];
    accepted.unwrap().admit().unwrap().stream.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"startup");
    drop(session);
}

#[tokio::test]
async fn another_application_than_expected_is_refused_before_a_byte_goes_out() {
    let pair = Pair::new().await;
    let (accepted, connected) = pair.meet(&PeerPolicy::app(OTHER_APP)).await;
    let refused = connected.unwrap_err();
    assert!(matches!(refused, ConnectRefused::Server(PeerRefused::NotExpected(_))), "{refused}");
    assert_eq!(refused.label(), "app_not_expected");
    assert!(!refused.public().contains(&APP.to_string()));
    let mut read = Vec::new();
    // The server has a session in which nothing ever came.
    let ended = accepted.unwrap().stream.read_to_end(&mut read).await;
    assert!(ended.is_err() || read.is_empty());
    assert!(read.is_empty());
}

#[tokio::test]
async fn another_composition_than_expected_is_refused() {
    let pair = Pair::new().await;
    let expected =
        PeerPolicy { compose_hashes: Some([postern_identity::ComposeHash([1; 32])].into()), ..PeerPolicy::default() };
    assert_eq!(pair.meet(&expected).await.1.unwrap_err().label(), "compose_hash_not_expected");
}

#[tokio::test]
async fn a_refused_client_can_be_told_why_in_its_own_protocol() {
    let pair = Pair::new().await;
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let client = async {
        let connector = TlsConnector::from(Arc::new(Credentials::ordinary().client()));
        let mut session = connector.connect(ServerName::try_from("db.postern.test").unwrap(), ours).await.unwrap();
        let mut told = String::new();
        session.read_to_string(&mut told).await.unwrap();
        told
    };
    let server = async {
        let accepted = pair.acceptor.accept(theirs, DEADLINE).await.unwrap();
        let (mut session, refused) = *accepted.admit().unwrap_err();
        assert_eq!(refused, PeerRefused::NoQuote);
        session.write_all(refused.public().as_bytes()).await.unwrap();
        session.shutdown().await.unwrap();
    };
    let (told, ()) = tokio::join!(client, server);
    assert_eq!(told, "the certificate carries no TDX quote");
}

#[tokio::test]
async fn without_evidence_a_client_gets_in_only_where_none_is_required() {
    let guest = Guest::of(APP);
    let keeper = guest.keeper().await;
    for (rule, allowed) in [(ClientRule::Required, false), (ClientRule::Optional, true)] {
        let acceptor = Acceptor::new(Arc::clone(&keeper), attestor(), ALPN, rule);
        for config in [trusting().with_no_client_auth(), Credentials::ordinary().client()] {
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            let connector = TlsConnector::from(Arc::new(config));
            let name = ServerName::try_from("db.postern.test").unwrap();
            let (accepted, session) = tokio::join!(acceptor.accept(theirs, DEADLINE), connector.connect(name, ours));
            assert!(session.is_ok());
            let verdict = accepted.unwrap().verdict;
            assert_eq!(verdict.is_ok(), allowed);
            assert!(verdict.is_err() || verdict.unwrap().is_none());
        }
    }
}

#[tokio::test]
async fn a_client_that_offers_no_protocol_is_accepted_and_seen_to_have_offered_none() {
    let guest = Guest::of(APP);
    let acceptor = Acceptor::new(guest.keeper().await, attestor(), ALPN, ClientRule::Required);
    let silent = Connector::new(Some(guest.keeper().await), attestor(), &[]);
    let foreign = Connector::new(Some(guest.keeper().await), attestor(), &["h2"]);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let policy = PeerPolicy::default();
    let (accepted, connected) =
        tokio::join!(acceptor.accept(theirs, DEADLINE), silent.connect(ours, "a.test", &policy, DEADLINE));
    assert_eq!((accepted.unwrap().alpn, connected.unwrap().alpn), (None, None));
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (accepted, connected) =
        tokio::join!(acceptor.accept(theirs, DEADLINE), foreign.connect(ours, "a.test", &policy, DEADLINE));
    assert!(matches!(accepted.unwrap_err(), TlsRefused::Handshake(_)));
    assert!(matches!(connected.unwrap_err(), ConnectRefused::Handshake(_)));
}

/// Counts how often it is asked for a certificate: once per handshake in which the server verifies one.
#[derive(Debug)]
struct Counting(Arc<dyn rustls::client::ResolvesClientCert>, AtomicUsize);

impl rustls::client::ResolvesClientCert for Counting {
    fn resolve(&self, roots: &[&[u8]], schemes: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.resolve(roots, schemes)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn no_client_can_resume_a_session_with_us() {
    let guest = Guest::of(APP);
    let acceptor = Acceptor::new(guest.keeper().await, attestor(), ALPN, ClientRule::Required);
    let mut config = Credentials::of(&guest.cvm).client();
    let counting = Arc::new(Counting(Arc::clone(&config.client_auth_cert_resolver), AtomicUsize::new(0)));
    config.client_auth_cert_resolver = Arc::clone(&counting) as _;
    config.enable_early_data = true;
    let connector = TlsConnector::from(Arc::new(config));
    for round in 1..=3 {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let client = async {
            let name = ServerName::try_from("db.postern.test").unwrap();
            let mut session = connector.connect(name, ours).await.unwrap();
            session.read_u8().await.unwrap();
            session.get_ref().1.handshake_kind()
        };
        let server = async {
            let mut accepted = acceptor.accept(theirs, DEADLINE).await.unwrap();
            accepted.stream.write_all(b"!").await.unwrap();
            accepted.stream.flush().await.unwrap();
            accepted
        };
        let (kind, accepted) = tokio::join!(client, server);
        assert!(accepted.verdict.is_ok());
        assert!(matches!(kind, Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)), "{kind:?}");
        assert_eq!(counting.1.load(Ordering::Relaxed), round);
    }
}

/// Has `client` connect to a server that hands out tickets, and tells how the handshakes went.
async fn kinds_with_tickets<C: AsyncFn(tokio::io::DuplexStream)>(client: C) -> Vec<HandshakeKind> {
    let server = Credentials::of(&cvm(&TEE, APP, Measurements::default())).server();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let serving = async {
            let mut session = acceptor.accept(theirs).await.unwrap();
            session.write_all(b"!").await.unwrap();
            session.flush().await.unwrap();
            session.get_ref().1.handshake_kind().unwrap()
        };
        let (kind, ()) = tokio::join!(serving, client(ours));
        kinds.push(kind);
    }
    kinds
}

#[tokio::test]
async fn we_resume_no_session_with_a_server_that_offers_it() {
    let usual = TlsConnector::from(Arc::new(trusting().with_no_client_auth()));
    let kinds = kinds_with_tickets(async |io| {
        let name = ServerName::try_from("db.postern.test").unwrap();
        // The server's tickets come with its first byte.
        usual.connect(name, io).await.unwrap().read_u8().await.unwrap();
    });
    assert_eq!(kinds.await, [HandshakeKind::Full, HandshakeKind::Resumed], "a usual client does resume");

    let ours = Connector::new(None, attestor(), &[]);
    let kinds = kinds_with_tickets(async |io| {
        let mut session = ours.connect(io, "db.postern.test", &PeerPolicy::app(APP), DEADLINE).await.unwrap();
        session.stream.read_u8().await.unwrap();
    });
    assert_eq!(kinds.await, [HandshakeKind::Full, HandshakeKind::Full]);
}

#[tokio::test]
async fn a_client_that_stops_after_any_byte_is_given_up_at_the_deadline() {
    let guest = Guest::of(APP);
    let acceptor = Acceptor::new(guest.keeper().await, attestor(), ALPN, ClientRule::Required);
    let mut hello = Vec::new();
    let name = ServerName::try_from("db.postern.test").unwrap();
    let client = Arc::new(Credentials::of(&guest.cvm).client());
    rustls::ClientConnection::new(client, name).unwrap().write_tls(&mut hello).unwrap();
    tokio::time::pause();
    for length in (0..hello.len()).step_by(61).chain([hello.len()]) {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        ours.write_all(&hello[..length]).await.unwrap();
        let refused = acceptor.accept(theirs, DEADLINE).await.unwrap_err();
        assert!(matches!(refused, TlsRefused::Deadline(_)), "after {length} bytes: {refused}");
        drop(ours);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_at_the_deadline() {
    let (ours, _theirs) = tokio::io::duplex(64 * 1024);
    let connector = Connector::new(None, attestor(), &[]);
    let refused = connector.connect(ours, "db.postern.test", &PeerPolicy::default(), DEADLINE).await.unwrap_err();
    assert!(matches!(refused, ConnectRefused::Deadline(_)), "{refused}");
}

#[tokio::test]
async fn garbage_and_a_peer_that_hangs_up_are_no_sessions() {
    let guest = Guest::of(APP);
    let acceptor = Acceptor::new(guest.keeper().await, attestor(), ALPN, ClientRule::Required);
    for bytes in [&b""[..], b"\x16", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 20_000]] {
        let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
        ours.write_all(bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        let refused = acceptor.accept(theirs, DEADLINE).await.unwrap_err();
        assert_eq!(refused.label(), "tls_handshake");
    }
}

#[tokio::test]
async fn a_name_may_be_an_address_and_must_be_one_or_the_other() {
    let pair = Pair::new().await;
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let policy = PeerPolicy::default();
    let (accepted, connected) = tokio::join!(
        pair.acceptor.accept(theirs, DEADLINE),
        pair.connector.connect(ours, "127.0.0.1", &policy, DEADLINE)
    );
    assert!(accepted.unwrap().verdict.is_ok() && connected.is_ok());
    let (ours, _theirs) = tokio::io::duplex(64);
    let refused = pair.connector.connect(ours, "no name", &policy, DEADLINE).await.unwrap_err();
    assert!(matches!(refused, ConnectRefused::Name(_)));
}

#[tokio::test]
async fn a_source_that_brings_one_new_certificate_after_another_is_told_to_come_back() {
    let attestor = attestor();
    attestor.limit_sources(postern_attest_io::SourceLimit { per_minute: 1, burst: 1 });
    let acceptor = Acceptor::new(Guest::of(APP).keeper().await, Arc::clone(&attestor), ALPN, ClientRule::Required);
    let mut verdicts = Vec::new();
    for _ in 0..2 {
        let config = Credentials::of(&cvm(&TEE, OTHER_APP, Measurements::default())).client();
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("db.postern.test").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let source = "192.0.2.1".parse().unwrap();
        let (accepted, _client) =
            tokio::join!(acceptor.accept_from(theirs, source, DEADLINE), connector.connect(name, ours));
        verdicts.push(accepted.unwrap().verdict);
    }
    assert!(verdicts[0].is_ok());
    assert_eq!(verdicts[1].as_ref().unwrap_err(), &PeerRefused::SourceLimited);
}

#[tokio::test]
async fn a_servers_flight_fits_the_first_window_with_a_quote_as_long_as_real_ones() {
    /// A real quote without its padding.
    const REAL_QUOTE: usize = 5006 - 70;
    let (server, client) = (Guest::of(APP), Guest::of(OTHER_APP));
    let keeper = server.keeper().await;
    let certificate = keeper.current().certificate().clone();
    let acceptor = Acceptor::new(keeper, attestor(), ALPN, ClientRule::Required);
    let connector = Connector::new(Some(client.keeper().await), attestor(), ALPN);
    let (ours, mut near) = tokio::io::duplex(64 * 1024);
    let (mut far, theirs) = tokio::io::duplex(64 * 1024);
    let handshake = async {
        let policy = PeerPolicy::app(APP);
        let (accepted, connected) = tokio::join!(
            acceptor.accept(theirs, DEADLINE),
            connector.connect(ours, "db.postern.test", &policy, DEADLINE)
        );
        assert!(accepted.unwrap().verdict.is_ok() && connected.is_ok());
    };
    let ((), moved) = tokio::join!(handshake, tokio::io::copy_bidirectional(&mut near, &mut far));
    let (_, flight) = moved.unwrap();
    let quote = postern_attest::certificate::evidence(&certificate).unwrap().quote;
    let copies = certificate.windows(quote.len()).filter(|bytes| **bytes == *quote).count();
    assert_eq!(copies, 2, "in .1 and in .8");
    let real = usize::try_from(flight).unwrap() + copies * (REAL_QUOTE - quote.len());
    assert!(real < 14 * 1024, "{real} bytes");
}
