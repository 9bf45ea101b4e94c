use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postern_attest::{Appraiser, CertificateRules, Collateral, KmsRoot, PeerPolicy, TcbPolicy, TrustRoot};
use postern_attest_io::Attestor;
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_simulator::certificate::CertificateRequest;
use postern_simulator::{Cvm, Faults, Tee};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;

use super::Evidence;

const APP: AppId = AppId([0xc1; 20]);
const WHILE: Duration = Duration::from_secs(600);

fn tee(faults: Faults) -> Tee {
    Tee::with_faults([7; 32], faults).unwrap()
}

fn collateral(faults: Faults) -> Collateral {
    Collateral::from_json(tee(faults).collateral_bundle_json(unix_now()).unwrap().as_bytes()).unwrap()
}

fn attestor(now: Arc<AtomicU64>) -> Arc<Attestor> {
    let root = TrustRoot::from_der(tee(Faults::default()).root_der().to_vec()).unwrap();
    let appraiser = Appraiser::new(root, TcbPolicy::default());
    let clock = Arc::new(move || now.load(Ordering::Relaxed));
    let attestor = Attestor::with_clock(appraiser, collateral(Faults::default()), clock);
    let kms_root = KmsRoot::from_pem(tee(Faults::default()).kms_root_pem().as_bytes()).ok();
    attestor.hold_certificates_to(CertificateRules { kms_root, ..CertificateRules::default() });
    attestor
}

/// What a client showed whose whole chain the attestor has seen.
async fn shown(attestor: &Arc<Attestor>) -> Evidence {
    let cvm = Cvm::new(Arc::new(tee(Faults::default())), APP, b"{}".to_vec(), "client");
    let not_after = Some(unix_now() + 86_400);
    let request = CertificateRequest { client_auth: true, not_after, ..CertificateRequest::default() };
    let chain = cvm.certificate(&request, unix_now()).unwrap().chain;
    let chain: Vec<_> = chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect();
    attestor.appraise_chain(&chain).await.unwrap();
    Evidence { certificate: chain.into_iter().next(), ..Evidence::awaited(attestor) }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_evidence_stands_ends_nothing_and_one_that_it_does_not_ends_the_session() {
    let attestor = attestor(Arc::new(AtomicU64::new(unix_now())));
    let evidence = shown(&attestor).await;
    let peer = attestor.appraise_chain(evidence.certificate.as_slice()).await.unwrap();
    let expected = PeerPolicy::app(APP);
    let mut disbelieved = std::pin::pin!(evidence.disbelieved(Some(&peer), &expected));
    attestor.replace_collateral(collateral(Faults::default()));
    assert!(timeout(WHILE, disbelieved.as_mut()).await.is_err());
    attestor.replace_collateral(collateral(Faults { revoked_pck: true, ..Faults::default() }));
    let refused = timeout(WHILE, disbelieved).await.expect("the session goes on");
    assert!(matches!(refused, postern_attest_io::PeerRefused::Rejected(_)), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_change_between_handshake_and_session_is_seen() {
    let attestor = attestor(Arc::new(AtomicU64::new(unix_now())));
    let evidence = shown(&attestor).await;
    let peer = attestor.appraise_chain(evidence.certificate.as_slice()).await.unwrap();
    attestor.replace_collateral(Collateral::default());
    assert!(timeout(WHILE, evidence.disbelieved(Some(&peer), &PeerPolicy::default())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_verdict_leads_to_the_next_one() {
    let now = Arc::new(AtomicU64::new(unix_now()));
    let attestor = attestor(Arc::clone(&now));
    let (held, late) = (shown(&attestor).await, shown(&attestor).await);
    let mut peer = (*attestor.appraise_chain(held.certificate.as_slice()).await.unwrap()).clone();
    peer.valid_until = 0;
    assert!(timeout(WHILE, held.disbelieved(Some(&peer), &PeerPolicy::default())).await.is_err(), "it still stands");
    now.store(unix_now() + 100 * 365 * 86_400, Ordering::Relaxed);
    assert!(timeout(WHILE, late.disbelieved(Some(&peer), &PeerPolicy::default())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn evidence_is_judged_again_when_it_has_reached_its_greatest_age() {
    let now = Arc::new(AtomicU64::new(unix_now()));
    let attestor = attestor(Arc::clone(&now));
    attestor.limit_evidence_age(Duration::from_secs(3600));
    let evidence = shown(&attestor).await;
    let mut peer = (*attestor.appraise_chain(evidence.certificate.as_slice()).await.unwrap()).clone();
    // Nothing asks for another verdict but its age, by which the collateral has come to its end.
    peer.valid_until = u64::MAX;
    now.store(unix_now() + 100 * 86_400, Ordering::Relaxed);
    let (expected, began) = (PeerPolicy::default(), tokio::time::Instant::now());
    let mut disbelieved = std::pin::pin!(evidence.disbelieved(Some(&peer), &expected));
    assert!(timeout(Duration::from_secs(3590), disbelieved.as_mut()).await.is_err(), "it is not old enough");
    timeout(WHILE, disbelieved).await.expect("the session goes on");
    assert!(began.elapsed() < Duration::from_secs(3610), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_showed_nothing_has_nothing_to_lose() {
    let attestor = attestor(Arc::new(AtomicU64::new(unix_now())));
    let evidence = Evidence::awaited(&attestor);
    attestor.replace_collateral(Collateral::default());
    assert!(timeout(WHILE, evidence.disbelieved(None, &PeerPolicy::default())).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_session_outlasts_the_certificate_that_opened_it() {
    let now = Arc::new(AtomicU64::new(unix_now()));
    let attestor = attestor(Arc::clone(&now));
    let evidence = shown(&attestor).await;
    let mut peer = (*attestor.appraise_chain(evidence.certificate.as_slice()).await.unwrap()).clone();
    peer.valid_until = 0;
    now.store(certificate_end(&evidence) + 1, Ordering::Relaxed);
    let leaf = evidence.certificate.clone();
    assert!(attestor.appraise_chain(leaf.as_slice()).await.is_err(), "it opens no session any more");
    assert!(timeout(WHILE, evidence.disbelieved(Some(&peer), &PeerPolicy::default())).await.is_err());
    assert!(attestor.appraise_chain(leaf.as_slice()).await.is_err(), "nor does what the old session was granted");
}

/// When the shown certificate ends, which has to be before the collateral does.
fn certificate_end(evidence: &Evidence) -> u64 {
    let leaf = evidence.certificate.as_ref().unwrap();
    postern_attest::certificate::evidence(leaf).unwrap().not_after
}
