//! For how long a verdict stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use postern_attest_io::{Attestor, PeerRefused};
use postern_plumbing::clock::unix_now;
use rustls_pki_types::CertificateDer;

use crate::world::{APP, Guest, TEE, appraiser, attestor, collateral};

async fn certificate() -> CertificateDer<'static> {
    Guest::of(APP).keeper().await.current().certificate().clone()
}

#[tokio::test]
async fn a_verdict_stands_for_an_hour_and_not_beyond_its_certificate() {
    let time = Arc::new(AtomicU64::new(unix_now()));
    let reading = Arc::clone(&time);
    let clock = Arc::new(move || reading.load(Ordering::Relaxed));
    let attestor = Attestor::with_clock(appraiser(&TEE), collateral(&TEE), clock);
    let guest = Guest::of(APP);
    let names = [];
    let two_hours = std::time::Duration::from_secs(7200);
    let identity = postern_attest_io::Identity::issue(&guest.agent, &names, two_hours).await.unwrap();
    let chain = [identity.certificate().clone()];

    let first = attestor.appraise_chain(&chain).await.unwrap();
    assert_eq!(first.valid_until, identity.not_after());
    time.fetch_add(3599, Ordering::Relaxed);
    let second = attestor.appraise_chain(&chain).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "the verdict was known");
    time.fetch_add(1, Ordering::Relaxed);
    let third = attestor.appraise_chain(&chain).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &third), "the verdict was made again");
    time.store(identity.not_after(), Ordering::Relaxed);
    time.fetch_add(1, Ordering::Relaxed);
    assert_eq!(attestor.appraise_chain(&chain).await.unwrap_err().label(), "certificate_expired");
}

#[tokio::test]
async fn other_collateral_makes_every_verdict_be_made_again() {
    let attestor = attestor();
    let chain = [certificate().await];
    let first = attestor.appraise_chain(&chain).await.unwrap();
    attestor.replace_collateral(collateral(&TEE));
    let second = attestor.appraise_chain(&chain).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    attestor.replace_collateral(postern_attest::Collateral::default());
    assert_eq!(attestor.appraise_chain(&chain).await.unwrap_err().label(), "unknown_platform");
    attestor.replace_collateral(collateral(&TEE));
    assert!(attestor.appraise_chain(&chain).await.is_ok(), "a refusal is not remembered");
}

#[tokio::test]
async fn handshakes_of_one_peer_at_the_same_time_share_a_verdict() {
    let attestor = attestor();
    let chain = [certificate().await];
    let (a, b, c) =
        tokio::join!(attestor.appraise_chain(&chain), attestor.appraise_chain(&chain), attestor.appraise_chain(&chain));
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    let known = attestor.appraise_chain(&chain).await.unwrap();
    // As many may be at work as there are cores; whoever waited finds the verdict of the first.
    assert!([&a, &b, &c].iter().any(|verdict| Arc::ptr_eq(verdict, &known)));
    assert_eq!((&a, &b), (&b, &c));
}

#[tokio::test]
async fn nothing_and_garbage_are_refused_at_once() {
    let attestor = attestor();
    assert_eq!(attestor.appraise_chain(&[]).await.unwrap_err(), PeerRefused::NoCertificate);
    let garbage = [CertificateDer::from(vec![0x30; 100])];
    assert_eq!(attestor.appraise_chain(&garbage).await.unwrap_err().label(), "certificate_not_x509");
    let large = [CertificateDer::from(vec![0x30; 61 * 1024])];
    assert_eq!(attestor.appraise_chain(&large).await.unwrap_err().label(), "certificate_too_large");
}

#[tokio::test]
async fn only_the_first_certificate_of_a_chain_counts() {
    let bad = CertificateDer::from(vec![1, 2, 3]);
    let good = certificate().await;
    assert!(attestor().appraise_chain(&[good.clone(), bad.clone()]).await.is_ok());
    assert!(attestor().appraise_chain(&[bad, good]).await.is_err());
}

#[tokio::test]
async fn a_source_causes_only_so_many_cold_appraisals() {
    let attestor = attestor();
    attestor.limit_sources(postern_attest_io::SourceLimit { per_minute: 1, burst: 2 });
    let (source, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    let known = [certificate().await];
    assert!(attestor.appraise_chain_from(&known, source).await.is_ok());
    // What is remembered is free, and garbage is refused before it costs anything.
    for _ in 0..10 {
        assert!(attestor.appraise_chain_from(&known, source).await.is_ok());
        let garbage = [CertificateDer::from(vec![0x30; 100])];
        assert_eq!(attestor.appraise_chain_from(&garbage, source).await.unwrap_err().label(), "certificate_not_x509");
    }
    assert!(attestor.appraise_chain_from(&[certificate().await], source).await.is_ok());
    let third = [certificate().await];
    assert_eq!(attestor.appraise_chain_from(&third, source).await.unwrap_err(), PeerRefused::SourceLimited);
    assert!(attestor.appraise_chain_from(&third, other).await.is_ok(), "another source is not concerned");
    assert!(attestor.appraise_chain_from(&known, source).await.is_ok());
}
