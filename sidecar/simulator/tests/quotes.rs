//! Simulated quotes before a real verifier: dcap-qvl, with its strict policy.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::sync::Arc;

use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteCollateralV3, QuotePolicy, TcbStatus};
use postern_identity::AppId;
use postern_simulator::{Cvm, Faults, Measurements, ORGANIZATION, Tee};

const NOW: u64 = 1_800_000_000;
const SEED: [u8; 32] = [7; 32];

struct AwsLc;

impl CryptoProvider for AwsLc {
    fn sig_algo() -> &'static dyn rustls_pki_types::SignatureVerificationAlgorithm {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref().try_into().unwrap()
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, data).as_ref().try_into().unwrap()
    }
}

struct Verifier;

impl Config for Verifier {
    type X509 = dcap_qvl::x509::X509CertBackend;
    type SigEncoder = dcap_qvl::signature::DerSigEncoder;
    type Crypto = AwsLc;
}

/// The verdict under the strict policy: the TCB status, or the reason of the refusal.
fn verify(root: &[u8], collateral: &QuoteCollateralV3, quote: &[u8]) -> Result<TcbStatus, String> {
    QuoteVerifier::<Verifier>::new_with_config(root.to_vec())
        .verify_with_policy(quote, collateral, NOW, &QuotePolicy::strict(NOW))
        .map(|claims| claims.tcb.status)
        .map_err(|error| format!("{error:#}"))
}

/// The verdict on a quote with `measurements` by a platform with `faults`, for a verifier that trusts the seed's root.
fn verdict(faults: Faults, measurements: &Measurements) -> Result<TcbStatus, String> {
    let tee = Tee::with_faults(SEED, faults).map_err(|error| error.to_string())?;
    let collateral = tee.collateral(NOW).map_err(|error| error.to_string())?;
    verify(tee.root_der(), &collateral, &tee.quote(measurements, [0x42; 64]))
}

fn refusal(faults: Faults, measurements: &Measurements) -> String {
    verdict(faults, measurements).unwrap_err()
}

#[test]
fn a_good_quote_is_up_to_date_under_the_strict_policy() {
    assert_eq!(verdict(Faults::default(), &Measurements::default()), Ok(TcbStatus::UpToDate));
}

#[test]
fn the_verified_report_is_the_one_that_was_asked_for() {
    let tee = Arc::new(Tee::new(SEED).unwrap());
    let cvm = Cvm::new(Arc::clone(&tee), AppId([1; 20]), b"{}".to_vec(), "one");
    let claims = QuoteVerifier::<Verifier>::new_with_config(tee.root_der().to_vec())
        .verify_with_policy(&cvm.quote([9; 64]), tee.collateral(NOW).unwrap(), NOW, &QuotePolicy::strict(NOW))
        .unwrap();
    let report = claims.report.as_td10().unwrap();
    assert_eq!(report.report_data, [9; 64]);
    assert_eq!(report.mr_td, cvm.measurements().mrtd.0);
    assert_eq!(report.rt_mr3, cvm.event_log().replay_rtmr3().unwrap().0);
}

#[test]
fn two_processes_with_one_seed_agree_on_the_root() {
    assert_eq!(Tee::new(SEED).unwrap().root_der(), Tee::new(SEED).unwrap().root_der());
    assert_ne!(Tee::new(SEED).unwrap().root_der(), Tee::new([8; 32]).unwrap().root_der());
}

#[test]
fn no_simulated_certificate_can_be_taken_for_one_of_intel() {
    let tee = Tee::new(SEED).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(tee.root_der()).unwrap();
    let organization = root.subject().iter_organization().next().unwrap().as_str().unwrap();
    assert_eq!(organization, ORGANIZATION);
}

#[test]
fn intel_root_refuses_a_simulated_quote() {
    let tee = Tee::new(SEED).unwrap();
    let quote = tee.quote(&Measurements::default(), [0; 64]);
    let outcome =
        QuoteVerifier::<Verifier>::new_with_config(include_bytes!("../../attest/src/intel-root-ca.der").to_vec())
            .verify_with_policy(&quote, tee.collateral(NOW).unwrap(), NOW, &QuotePolicy::strict(NOW));
    assert!(outcome.is_err());
}

#[test]
fn another_root_refuses_the_quote() {
    let ours = Tee::new(SEED).unwrap();
    let theirs = Tee::new([8; 32]).unwrap();
    let quote = theirs.quote(&Measurements::default(), [0; 64]);
    assert!(verify(ours.root_der(), &theirs.collateral(NOW).unwrap(), &quote).is_err());
    assert!(verify(ours.root_der(), &ours.collateral(NOW).unwrap(), &quote).is_err());
}

#[test]
fn a_changed_report_is_refused() {
    let tee = Tee::new(SEED).unwrap();
    let mut quote = tee.quote(&Measurements::default(), [0; 64]);
    quote[600] ^= 1;
    assert!(verify(tee.root_der(), &tee.collateral(NOW).unwrap(), &quote).is_err());
}

#[test]
fn a_debug_td_is_refused() {
    let reason = refusal(Faults::default(), &Measurements { debug: true, ..Measurements::default() });
    assert!(reason.contains("Debug"), "{reason}");
}

#[test]
fn a_td_without_sept_ve_disable_is_refused() {
    let reason = refusal(Faults::default(), &Measurements { sept_ve_disable: false, ..Measurements::default() });
    assert!(reason.contains("SEPT_VE_DISABLE"), "{reason}");
}

#[test]
fn an_old_or_revoked_module_is_refused() {
    let reason = refusal(Faults::default(), &Measurements { module_svn: 4, ..Measurements::default() });
    assert!(reason.contains("OutOfDate"), "{reason}");
    let reason = refusal(Faults::default(), &Measurements { module_svn: 1, ..Measurements::default() });
    assert!(reason.contains("evoked"), "{reason}");
}

#[test]
fn a_revoked_platform_is_refused() {
    let reason = refusal(Faults { revoked_pck: true, ..Faults::default() }, &Measurements::default());
    assert!(reason.contains("Revoked"), "{reason}");
}

#[test]
fn expired_collateral_is_refused() {
    let reason = refusal(Faults { expired_collateral: true, ..Faults::default() }, &Measurements::default());
    assert!(reason.to_lowercase().contains("expired"), "{reason}");
}

#[test]
fn a_platform_with_hyper_threading_is_refused() {
    let reason = refusal(Faults { smt: true, ..Faults::default() }, &Measurements::default());
    assert!(reason.contains("SMT"), "{reason}");
}
