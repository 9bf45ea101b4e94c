//! Peers that are not what they claim, against both ends. Each refusal has its own name.

use std::sync::Arc;
use std::time::Duration;

use postern_attest::certificate::{self, Extension};
use postern_attest::event_log::{Event, EventLog};
use postern_attest::{Appraiser, Collateral, CollateralSet, PeerPolicy, TcbPolicy, TcbStatus, TrustRoot, oid};
use postern_attest_io::{Acceptor, Attestor, ClientRule, ConnectRefused, Connector, PeerRefused};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_simulator::{Faults, Measurements, Tee};
use rustls_pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::{
    ALPN, APP, Credentials, DEADLINE, Guest, OTHER_APP, TEE, appraiser, attestor, collateral, cvm, key,
};

/// An attestor whose clock stands: refusals name the time, and two of them have to be the same.
fn judge(appraiser: Appraiser, collateral: Collateral) -> Arc<Attestor> {
    let now = unix_now();
    Attestor::with_clock(appraiser, collateral, Arc::new(move || now))
}

fn usual_judge() -> Arc<Attestor> {
    judge(appraiser(&TEE), collateral(&TEE))
}

/// What our server and our client say to the same credentials. They have to agree.
async fn refused_by_both(credentials: &Credentials, attestor: &Arc<Attestor>) -> PeerRefused {
    let by_server = refused_by_server(credentials, attestor).await;
    let by_client = refused_by_client(credentials, attestor).await;
    assert_eq!(by_server, by_client);
    by_server
}

async fn refused_by_server(credentials: &Credentials, attestor: &Arc<Attestor>) -> PeerRefused {
    let guest = Guest::of(APP);
    let acceptor = Acceptor::new(guest.keeper().await, Arc::clone(attestor), ALPN, ClientRule::Required);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let connector = TlsConnector::from(Arc::new(credentials.client()));
    let name = ServerName::try_from("db.postern.test").unwrap();
    let (accepted, session) = tokio::join!(acceptor.accept(theirs, DEADLINE), connector.connect(name, ours));
    assert!(session.is_ok(), "the refusal is told in the application's protocol, not by TLS");
    accepted.unwrap().verdict.unwrap_err()
}

async fn refused_by_client(credentials: &Credentials, attestor: &Arc<Attestor>) -> PeerRefused {
    let connector = Connector::new(None, Arc::clone(attestor), &[]);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(Arc::new(credentials.server()));
    let policy = PeerPolicy::default();
    let (session, refused) =
        tokio::join!(acceptor.accept(theirs), connector.connect(ours, "db.postern.test", &policy, DEADLINE));
    drop(session);
    let ConnectRefused::Server(refused) = refused.unwrap_err() else { panic!("TLS itself refused") };
    refused
}

async fn label(credentials: &Credentials) -> &'static str {
    refused_by_both(credentials, &usual_judge()).await.label()
}

#[tokio::test]
async fn the_credentials_of_these_tests_are_good_when_nothing_is_wrong_with_them() {
    let good = Credentials::of(&cvm(&TEE, APP, Measurements::default()));
    let connector = Connector::new(None, attestor(), &[]);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(Arc::new(good.server()));
    let policy = PeerPolicy::app(APP);
    let (session, attested) =
        tokio::join!(acceptor.accept(theirs), connector.connect(ours, "db.postern.test", &policy, DEADLINE));
    assert!(session.is_ok());
    assert_eq!(attested.unwrap().peer.unwrap().identity.app_id, APP);
}

#[tokio::test]
async fn an_ordinary_certificate() {
    assert_eq!(refused_by_both(&Credentials::ordinary(), &usual_judge()).await, PeerRefused::NoQuote);
}

#[tokio::test]
async fn an_ordinary_certificate_with_another_kind_of_key() {
    for algorithm in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let mut ordinary = Credentials::ordinary();
        ordinary.key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        assert_eq!(refused_by_server(&ordinary, &attestor()).await, PeerRefused::NoQuote);
    }
}

#[tokio::test]
async fn a_captured_quote_under_another_key() {
    let victim = Credentials::of(&cvm(&TEE, APP, Measurements::default()));
    let mut thief = Credentials::ordinary();
    thief.params.custom_extensions = victim.params.custom_extensions.clone();
    assert_eq!(label(&thief).await, "key_not_bound");
}

#[tokio::test]
async fn a_captured_certificate_without_its_key() {
    let mut thief = Credentials::of(&cvm(&TEE, APP, Measurements::default()));
    thief.signing_key = Some(key());
    let guest = Guest::of(APP);
    let acceptor = Acceptor::new(guest.keeper().await, attestor(), ALPN, ClientRule::Required);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let connector = TlsConnector::from(Arc::new(thief.client()));
    let name = ServerName::try_from("db.postern.test").unwrap();
    let (accepted, session) = tokio::join!(acceptor.accept(theirs, DEADLINE), connector.connect(name, ours));
    drop(session);
    assert_eq!(accepted.unwrap_err().label(), "tls_handshake");

    let connector = Connector::new(None, attestor(), &[]);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(Arc::new(thief.server()));
    let policy = PeerPolicy::default();
    let (session, refused) =
        tokio::join!(acceptor.accept(theirs), connector.connect(ours, "db.postern.test", &policy, DEADLINE));
    drop(session);
    assert!(matches!(refused.unwrap_err(), ConnectRefused::Handshake(_)));
}

#[tokio::test]
async fn a_platform_under_another_root() {
    let other = Arc::new(Tee::new([8; 32]).unwrap());
    assert_eq!(label(&Credentials::of(&cvm(&other, APP, Measurements::default()))).await, "other_root");
}

#[tokio::test]
async fn a_simulated_platform_offered_to_a_verifier_of_real_ones() {
    let production = judge(Appraiser::new(TrustRoot::intel(), TcbPolicy::default()), collateral(&TEE));
    let simulated = Credentials::of(&cvm(&TEE, APP, Measurements::default()));
    assert_eq!(refused_by_both(&simulated, &production).await.label(), "other_root");
    let without_collateral = judge(Appraiser::new(TrustRoot::intel(), TcbPolicy::default()), <_>::default());
    assert_eq!(refused_by_both(&simulated, &without_collateral).await.label(), "unknown_platform");
}

#[tokio::test]
async fn a_debug_td() {
    let debug = cvm(&TEE, APP, Measurements { debug: true, ..Measurements::default() });
    assert_eq!(label(&Credentials::of(&debug)).await, "debug_td");
}

#[tokio::test]
async fn a_td_into_which_its_host_can_inject_exceptions() {
    let open = cvm(&TEE, APP, Measurements { sept_ve_disable: false, ..Measurements::default() });
    assert_eq!(label(&Credentials::of(&open)).await, "td_attributes");
}

#[tokio::test]
async fn a_platform_without_security_fixes() {
    let old = cvm(&TEE, APP, Measurements { module_svn: 4, ..Measurements::default() });
    assert_eq!(label(&Credentials::of(&old)).await, "tcb_status");
}

#[tokio::test]
async fn a_platform_without_security_fixes_passes_only_by_status_and_grace_together() {
    let old = Credentials::of(&cvm(&TEE, APP, Measurements { module_svn: 4, ..Measurements::default() }));
    let root = || TrustRoot::from_der(TEE.root_der().to_vec()).unwrap();
    let accepting = TcbPolicy { accept: TcbStatus::ALL.into(), ..TcbPolicy::default() };
    let attestor = judge(Appraiser::new(root(), accepting.clone()), collateral(&TEE));
    assert_eq!(refused_by_both(&old, &attestor).await.label(), "tcb_policy");

    let patient = TcbPolicy { out_of_date_grace: Duration::from_secs(50 * 365 * 86_400), ..accepting };
    let attestor = judge(Appraiser::new(root(), patient), collateral(&TEE));
    let connector = Connector::new(None, attestor, &[]);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(Arc::new(old.server()));
    let policy = PeerPolicy::default();
    let (session, attested) =
        tokio::join!(acceptor.accept(theirs), connector.connect(ours, "db.postern.test", &policy, DEADLINE));
    assert!(session.is_ok());
    assert_eq!(attested.unwrap().peer.unwrap().tcb_status, "OutOfDate");
}

#[tokio::test]
async fn a_revoked_tdx_module() {
    let revoked = cvm(&TEE, APP, Measurements { module_svn: 1, ..Measurements::default() });
    assert_eq!(label(&Credentials::of(&revoked)).await, "revoked");
}

#[tokio::test]
async fn a_revoked_platform() {
    let tee = Arc::new(Tee::with_faults([7; 32], Faults { revoked_pck: true, ..Faults::default() }).unwrap());
    let attestor = judge(appraiser(&tee), collateral(&tee));
    let revoked = Credentials::of(&cvm(&tee, APP, Measurements::default()));
    assert_eq!(refused_by_both(&revoked, &attestor).await.label(), "revoked");
}

#[tokio::test]
async fn expired_collateral() {
    let tee = Arc::new(Tee::with_faults([7; 32], Faults { expired_collateral: true, ..Faults::default() }).unwrap());
    let attestor = judge(appraiser(&tee), collateral(&tee));
    let stale = Credentials::of(&cvm(&tee, APP, Measurements::default()));
    assert_eq!(refused_by_both(&stale, &attestor).await.label(), "collateral_not_current");
}

#[tokio::test]
async fn an_expired_revocation_list_alone() {
    let expired = Tee::with_faults([7; 32], Faults { expired_collateral: true, ..Faults::default() }).unwrap();
    let (fresh, old) = (TEE.collateral(unix_now()).unwrap(), expired.collateral(unix_now()).unwrap());
    let of_the_root = CollateralSet { root_ca_crl: old.root_ca_crl, ..fresh.clone() };
    let of_the_platforms = CollateralSet { pck_crl: old.pck_crl, ..fresh };
    let current = Credentials::of(&cvm(&TEE, APP, Measurements::default()));
    for set in [of_the_root, of_the_platforms] {
        let mut collateral = Collateral::default();
        collateral.insert(set).unwrap();
        let attestor = judge(appraiser(&TEE), collateral);
        assert_eq!(refused_by_both(&current, &attestor).await.label(), "collateral_not_current");
    }
}

#[tokio::test]
async fn the_collateral_of_another_fmspc() {
    let intels = include_bytes!("../../../attest/testdata/tdx_quote_collateral.json");
    let mut collateral = Collateral::default();
    collateral.insert(serde_json::from_slice(intels).unwrap()).unwrap();
    let attestor = judge(appraiser(&TEE), collateral);
    let simulated = Credentials::of(&cvm(&TEE, APP, Measurements::default()));
    assert_eq!(refused_by_both(&simulated, &attestor).await.label(), "unknown_platform");
}

#[tokio::test]
async fn a_platform_that_the_policy_excludes() {
    let tee = Arc::new(Tee::with_faults([7; 32], Faults { smt: true, ..Faults::default() }).unwrap());
    let root = TrustRoot::from_der(tee.root_der().to_vec()).unwrap();
    let policy = TcbPolicy { allow_smt: false, ..TcbPolicy::default() };
    let attestor = judge(Appraiser::new(root, policy), collateral(&tee));
    let threaded = Credentials::of(&cvm(&tee, APP, Measurements::default()));
    assert_eq!(refused_by_both(&threaded, &attestor).await.label(), "tcb_policy");
}

#[tokio::test]
async fn the_event_log_of_another_application() {
    let (measured, wanted) = (cvm(&TEE, APP, Measurements::default()), cvm(&TEE, OTHER_APP, Measurements::default()));
    let mut liar = Credentials::ordinary();
    let quote = liar.quote(&measured);
    liar.carry(certificate::extensions(&quote, wanted.event_log(), &OTHER_APP).unwrap());
    assert_eq!(label(&liar).await, "event_log_not_measured");
}

#[tokio::test]
async fn a_payload_edited_under_an_unchanged_digest() {
    let measured = cvm(&TEE, APP, Measurements::default());
    let mut log = measured.event_log().clone();
    let edited = log.0.iter_mut().find(|event| event.event == "app-id").unwrap();
    edited.event_payload = OTHER_APP.0.to_vec();
    let mut liar = Credentials::ordinary();
    let quote = liar.quote(&measured);
    let mut extensions = certificate::extensions(&quote, measured.event_log(), &APP).unwrap();
    extensions.retain(|extension| extension.oid == oid::QUOTE);
    // Raw, as some issuers write it.
    extensions.push(Extension { oid: oid::EVENT_LOG, content: log.to_json().unwrap() });
    liar.carry(extensions);
    assert_eq!(label(&liar).await, "event_log");
}

#[tokio::test]
async fn identity_events_appended_by_the_application_change_nothing() {
    let honest = cvm(&TEE, APP, Measurements::default());
    let mut log = honest.event_log().clone();
    log.0.push(Event::runtime("app-id", &OTHER_APP.0));
    let rtmr3 = log.replay_rtmr3().unwrap();
    let mut measurements = honest.measurements().clone();
    measurements.rtmr[3] = rtmr3;
    let mut appended = Credentials::ordinary();
    let report_data = postern_attest::report_data(&rcgen::PublicKeyData::subject_public_key_info(&appended.key));
    let quote = TEE.quote(&measurements, report_data);
    appended.carry(certificate::extensions(&quote, &log, &APP).unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(appended.server()));
    let connector = Connector::new(None, attestor(), &[]);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let policy = PeerPolicy::default();
    let (session, attested) =
        tokio::join!(acceptor.accept(theirs), connector.connect(ours, "db.postern.test", &policy, DEADLINE));
    assert!(session.is_ok());
    assert_eq!(attested.unwrap().peer.unwrap().identity.app_id, APP);
}

#[tokio::test]
async fn an_app_id_that_only_the_certificate_claims() {
    let honest = cvm(&TEE, APP, Measurements::default());
    let mut liar = Credentials::ordinary();
    let quote = liar.quote(&honest);
    liar.carry(certificate::extensions(&quote, honest.event_log(), &AppId([0xee; 20])).unwrap());
    assert_eq!(label(&liar).await, "app_id_contradicted");
}

#[tokio::test]
async fn a_log_that_identifies_nobody() {
    let mut measurements = Measurements::default();
    let log = EventLog(vec![Event::runtime("app-id", &APP.0), Event::runtime("system-ready", b"")]);
    measurements.rtmr[3] = log.replay_rtmr3().unwrap();
    let mut nobody = Credentials::ordinary();
    let report_data = postern_attest::report_data(&rcgen::PublicKeyData::subject_public_key_info(&nobody.key));
    let quote = TEE.quote(&measurements, report_data);
    nobody.carry(certificate::extensions(&quote, &log, &APP).unwrap());
    assert_eq!(label(&nobody).await, "event_log");
}

#[tokio::test]
async fn certificates_outside_their_dates() {
    let date =
        |seconds: i64| time::OffsetDateTime::from_unix_timestamp(i64::try_from(unix_now()).unwrap() + seconds).unwrap();
    let honest = cvm(&TEE, APP, Measurements::default());
    let mut expired = Credentials::of(&honest);
    (expired.params.not_before, expired.params.not_after) = (date(-100), date(-10));
    assert_eq!(label(&expired).await, "certificate_expired");
    let mut early = Credentials::of(&honest);
    (early.params.not_before, early.params.not_after) = (date(100), date(1000));
    assert_eq!(label(&early).await, "certificate_not_yet_valid");
}

#[tokio::test]
async fn trailing_bytes_behind_a_quote() {
    let honest = cvm(&TEE, APP, Measurements::default());
    let mut sloppy = Credentials::ordinary();
    let mut quote = sloppy.quote(&honest);
    quote.push(1);
    sloppy.carry(certificate::extensions(&quote, honest.event_log(), &APP).unwrap());
    assert_eq!(label(&sloppy).await, "quote_malformed");
}

#[tokio::test]
async fn a_certificate_that_is_larger_than_anybody_needs() {
    let mut large = Credentials::of(&cvm(&TEE, APP, Measurements::default()));
    large.params.custom_extensions.push(rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![0; 60 * 1024]));
    let guest = Guest::of(APP);
    let acceptor = Acceptor::new(guest.keeper().await, attestor(), ALPN, ClientRule::Required);
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    let connector = TlsConnector::from(Arc::new(large.client()));
    let name = ServerName::try_from("db.postern.test").unwrap();
    let (accepted, session) = tokio::join!(acceptor.accept(theirs, DEADLINE), connector.connect(name, ours));
    drop(session);
    assert_eq!(accepted.unwrap_err().label(), "tls_handshake");
}

#[tokio::test]
async fn no_refusal_that_a_peer_reads_tells_a_measurement() {
    let measured = cvm(&TEE, OTHER_APP, Measurements { debug: true, ..Measurements::default() });
    let refused = refused_by_both(&Credentials::of(&measured), &usual_judge()).await;
    assert_eq!(refused.public(), "the quote is that of a TD in debug mode");
    let other = Arc::new(Tee::new([8; 32]).unwrap());
    let refused = refused_by_both(&Credentials::of(&cvm(&other, APP, Measurements::default())), &usual_judge()).await;
    assert_eq!(refused.public(), "the quote is not signed under the trusted root");
}
