//! Quotes that vouch for a key by SHA-256 of it alone.

use std::sync::Arc;

use postern_attest::{CertificateRules, certificate};
use postern_attest_io::Attestor;
use postern_simulator::Measurements;
use rcgen::PublicKeyData as _;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use crate::world::{APP, Credentials, TEE, attestor, cvm};

/// A certificate with a quote over the padded digest of its key, in which `change` changed something.
fn bound(change: impl FnOnce(&mut [u8; 64])) -> Vec<CertificateDer<'static>> {
    let mut credentials = Credentials::ordinary();
    let mut report_data = [0; 64];
    report_data[..32].copy_from_slice(&Sha256::digest(credentials.key.subject_public_key_info()));
    change(&mut report_data);
    let guest = cvm(&TEE, APP, Measurements::default());
    credentials.carry(certificate::extensions(&guest.quote(report_data), guest.event_log(), &APP).unwrap());
    vec![credentials.params.self_signed(&credentials.key).unwrap().der().clone()]
}

fn lenient() -> Arc<Attestor> {
    let attestor = attestor();
    attestor.hold_certificates_to(CertificateRules { insecure_legacy_binding: true, ..CertificateRules::default() });
    attestor
}

#[tokio::test]
async fn a_legacy_binding_is_refused_by_its_name_unless_it_is_asked_for() {
    let legacy = bound(|_| {});
    assert_eq!(attestor().appraise_chain(&legacy).await.unwrap_err().label(), "legacy_binding");
    let telemetry = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().unwrap();
    let attestor = lenient();
    attestor.appraise_chain(&legacy).await.unwrap();
    let metrics = telemetry.render();
    assert!(metrics.contains("attest_legacy_bindings_total 1"), "{metrics}");
    assert!(metrics.contains("attest_insecure_legacy_binding 1"), "{metrics}");
    // What is bound as it should be is not counted.
    let credentials = Credentials::of(&cvm(&TEE, APP, Measurements::default()));
    let ordinary = credentials.params.self_signed(&credentials.key).unwrap().der().clone();
    attestor.appraise_chain(&[ordinary]).await.unwrap();
    assert!(telemetry.render().contains("attest_legacy_bindings_total 1"));
}

#[tokio::test]
async fn a_legacy_binding_has_to_hold_in_every_byte() {
    for at in [0, 31, 32, 63] {
        let damaged = bound(|report_data| report_data[at] ^= 1);
        assert_eq!(lenient().appraise_chain(&damaged).await.unwrap_err().label(), "key_not_bound", "byte {at}");
    }
}

#[tokio::test]
async fn a_certificate_of_our_own_never_rests_on_a_legacy_binding() {
    let legacy = bound(|_| {});
    let evidence = certificate::evidence(&legacy[0]).unwrap();
    // This is what an identity is held to, whatever peers are held to.
    assert!(!evidence.is_bound());
    assert_eq!(evidence.binding(), Some(certificate::Binding::Legacy));
}
