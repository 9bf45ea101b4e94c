//! Certificates that somebody else signed: a dstack KMS, whose root is pinned, and whoever pretends to be one.

use std::sync::Arc;

use postern_attest::certificate::Usage;
use postern_attest::event_log::Event;
use postern_attest::{CertificateRules, KmsRoot, PeerPolicy, certificate, oid};
use postern_attest_io::{Acceptor, Attestor, ClientRule, Connector, PeerRefused};
use postern_identity::AppId;
use postern_plumbing::clock::unix_now;
use postern_simulator::certificate::{Attestation, Certificate, CertificateRequest};
use postern_simulator::{Cvm, Measurements, Tee};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PublicKeyData as _,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::{ALPN, APP, Credentials, DEADLINE, Guest, OTHER_APP, TEE, attestor, cvm, key, trusting};

/// An attestor that accepts what the KMS with this root issued.
fn pinning(root_pem: &str) -> Arc<Attestor> {
    let attestor = attestor();
    let kms_root = Some(KmsRoot::from_pem(root_pem.as_bytes()).unwrap());
    attestor.hold_certificates_to(CertificateRules { kms_root, ..CertificateRules::default() });
    attestor
}

/// What the guest agent hands out.
pub(crate) fn issued(cvm: &Cvm, attestation: Attestation) -> Certificate {
    let request =
        CertificateRequest { attestation, app_info: true, client_auth: true, ..CertificateRequest::default() };
    cvm.certificate(&request, unix_now()).unwrap()
}

pub(crate) fn ders(certificate: &Certificate) -> Vec<CertificateDer<'static>> {
    certificate.chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect()
}

async fn label(attestor: &Arc<Attestor>, chain: &[CertificateDer<'_>]) -> &'static str {
    attestor.appraise_chain(chain).await.unwrap_err().label()
}

#[tokio::test]
async fn what_the_guest_agent_issues_is_accepted_of_a_client_and_of_a_server_where_its_kms_is_pinned() {
    let attestor = pinning(TEE.kms_root_pem());
    let certificate = issued(&cvm(&TEE, OTHER_APP, Measurements::default()), Attestation::Bound);
    let key = || PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap();

    let guest = Guest::of(APP);
    let acceptor = Acceptor::new(guest.keeper().await, Arc::clone(&attestor), ALPN, ClientRule::Required);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let client = trusting().with_client_auth_cert(ders(&certificate), key()).unwrap();
    let name = ServerName::try_from("db.postern.test").unwrap();
    let (accepted, session) =
        tokio::join!(acceptor.accept(theirs, DEADLINE), TlsConnector::from(Arc::new(client)).connect(name, ours));
    assert!(session.is_ok());
    assert_eq!(accepted.unwrap().verdict.unwrap().unwrap().identity.app_id, OTHER_APP);

    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(ders(&certificate), key())
        .unwrap();
    let connector = Connector::new(None, pinning(TEE.kms_root_pem()), &[]);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (acceptor, policy) = (TlsAcceptor::from(Arc::new(server)), PeerPolicy::app(OTHER_APP));
    let (session, attested) =
        tokio::join!(acceptor.accept(theirs), connector.connect(ours, "db.postern.test", &policy, DEADLINE));
    assert!(session.is_ok() && attested.is_ok());
}

#[tokio::test]
async fn a_kms_that_nobody_pinned_vouches_for_nobody() {
    let chain = ders(&issued(&cvm(&TEE, APP, Measurements::default()), Attestation::Bound));
    assert_eq!(label(&attestor(), &chain).await, "issuer_not_pinned");
    let other = Tee::new([8; 32]).unwrap();
    assert_eq!(label(&pinning(other.kms_root_pem()), &chain).await, "kms_chain");
}

#[tokio::test]
async fn a_chain_never_takes_the_place_of_a_quote() {
    let attestor = pinning(TEE.kms_root_pem());
    let guest = cvm(&TEE, APP, Measurements::default());
    let without = ders(&issued(&guest, Attestation::None));
    assert_eq!(attestor.appraise_chain(&without).await.unwrap_err(), PeerRefused::NoQuote);
    assert_eq!(label(&attestor, &ders(&issued(&guest, Attestation::OtherKey))).await, "key_not_bound");
    let debug = cvm(&TEE, APP, Measurements { debug: true, ..Measurements::default() });
    assert_eq!(label(&attestor, &ders(&issued(&debug, Attestation::Bound))).await, "debug_td");
}

#[tokio::test]
async fn an_incomplete_chain_is_refused_unless_the_whole_one_was_seen_before() {
    let attestor = pinning(TEE.kms_root_pem());
    let chain = ders(&issued(&cvm(&TEE, APP, Measurements::default()), Attestation::Bound));
    assert_eq!(label(&attestor, &chain[..1]).await, "kms_chain");
    // The root itself need not be sent.
    let first = attestor.appraise_chain(&chain[..2]).await.unwrap();
    let again = attestor.appraise_chain(&chain[..1]).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again), "that the KMS issued it stays true");
    attestor.reappraise(&chain[0]).await.unwrap();
}

#[tokio::test]
async fn more_certificates_than_a_kms_issues_are_not_looked_at() {
    let mut chain = ders(&issued(&cvm(&TEE, APP, Measurements::default()), Attestation::Bound));
    chain.extend(vec![chain[2].clone(); 3]);
    assert_eq!(label(&pinning(TEE.kms_root_pem()), &chain).await, "kms_chain");
}

/// A KMS of which everything may be wrong.
struct Forger {
    root: Issuer<'static, KeyPair>,
    root_pem: String,
    spki: Vec<u8>,
}

/// What stands between the leaf and the root.
struct Between {
    params: CertificateParams,
    leaf_usage: Usage,
}

impl Forger {
    fn new() -> Self {
        Self::until(4_102_444_800)
    }

    fn until(end: i64) -> Self {
        let (mut params, key) = (CertificateParams::new(Vec::new()).unwrap(), key());
        params.not_after = time::OffsetDateTime::from_unix_timestamp(end).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a KMS");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        let (root_pem, spki) = (params.self_signed(&key).unwrap().pem(), key.subject_public_key_info());
        Self { root: Issuer::new(params, key), root_pem, spki }
    }

    /// The authority of an application, as dstack's KMS issues it.
    fn between(app: AppId) -> Between {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "an app's authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.custom_extensions = vec![custom(oid::APP_ID, &app.0), custom(oid::USAGE, b"app:ca")];
        Between { params, leaf_usage: Usage::App }
    }

    /// A leaf of [`APP`] with a good quote, of a guest that has its keys from elsewhere.
    fn leaf(usage: &Usage) -> Credentials {
        Self::marked(Credentials::of(&cvm(&TEE, APP, Measurements::default())), usage)
    }

    /// The same of a guest that measured this KMS as its key provider.
    fn leaf_of_its_own(&self) -> Credentials {
        let honest = cvm(&TEE, APP, Measurements::default());
        let (mut log, mut measurements) = (honest.event_log().clone(), honest.measurements().clone());
        let provider = format!(r#"{{"name":"kms","id":"{}"}}"#, hex::encode(&self.spki));
        let measured = log.0.iter_mut().find(|event| event.event == "key-provider").unwrap();
        *measured = Event::runtime("key-provider", provider.as_bytes());
        measurements.rtmr[3] = log.replay_rtmr3().unwrap();
        let mut leaf = Credentials::ordinary();
        let quote = TEE.quote(&measurements, postern_attest::report_data(&leaf.key.subject_public_key_info()));
        leaf.carry(certificate::extensions(&quote, &log, &APP).unwrap());
        Self::marked(leaf, &Usage::App)
    }

    fn marked(mut leaf: Credentials, usage: &Usage) -> Credentials {
        leaf.params.distinguished_name.push(DnType::CommonName, "a leaf");
        leaf.params.custom_extensions.push(custom(oid::USAGE, usage.as_str().as_bytes()));
        leaf
    }

    async fn verdict(&self, leaf: &Credentials, between: Vec<Between>) -> &'static str {
        label(&pinning(&self.root_pem), &self.chain(leaf, between)).await
    }

    fn chain(&self, leaf: &Credentials, between: Vec<Between>) -> Vec<CertificateDer<'static>> {
        let (mut chain, mut issuer) = (Vec::new(), None);
        for authority in between {
            let key = key();
            let signer = issuer.as_ref().unwrap_or(&self.root);
            chain.insert(0, authority.params.signed_by(&key, signer).unwrap().der().clone());
            issuer = Some(Issuer::new(authority.params, key));
        }
        let signer = issuer.as_ref().unwrap_or(&self.root);
        chain.insert(0, leaf.params.signed_by(&leaf.key, signer).unwrap().der().clone());
        chain
    }
}

fn custom(oid: &[u64], content: &[u8]) -> rcgen::CustomExtension {
    let length = u8::try_from(content.len()).unwrap();
    rcgen::CustomExtension::from_oid_content(oid, [&[4, length], content].concat())
}

#[tokio::test]
async fn a_kms_that_the_guest_does_not_have_its_keys_from_is_refused() {
    let forger = Forger::new();
    let good = Forger::between(APP);
    let leaf = Forger::leaf(&good.leaf_usage);
    assert_eq!(forger.verdict(&leaf, vec![good]).await, "kms_other_key_provider");
}

#[tokio::test]
async fn the_authority_of_another_application_is_refused() {
    let other = Forger::between(OTHER_APP);
    let leaf = Forger::leaf(&other.leaf_usage);
    assert_eq!(Forger::new().verdict(&leaf, vec![other]).await, "kms_other_app");
}

#[tokio::test]
async fn what_the_kms_signs_for_anything_but_an_application_is_refused() {
    let forger = Forger::new();
    assert_eq!(forger.verdict(&Forger::leaf(&Usage::App), Vec::new()).await, "kms_not_of_an_app", "by the root itself");
    for usage in [Usage::Kms, Usage::AppCa, Usage::Other("app:later".to_owned())] {
        let verdict = forger.verdict(&Forger::leaf(&usage), vec![Forger::between(APP)]).await;
        assert_eq!(verdict, "kms_not_of_an_app", "{usage:?}");
    }
    for without in [oid::APP_ID, oid::USAGE] {
        let mut unmarked = Forger::between(APP);
        unmarked.params.custom_extensions.retain(|extension| !extension.oid_components().eq(without.iter().copied()));
        assert_eq!(forger.verdict(&Forger::leaf(&Usage::App), vec![unmarked]).await, "kms_not_of_an_app");
    }
}

#[tokio::test]
async fn a_chain_that_x509_does_not_allow_is_refused() {
    let date = |seconds: i64| time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let now = i64::try_from(unix_now()).unwrap();
    let mut expired = Forger::between(APP);
    (expired.params.not_before, expired.params.not_after) = (date(now - 100), date(now - 10));
    let mut no_authority = Forger::between(APP);
    no_authority.params.is_ca = IsCa::ExplicitNoCa;
    let mut critical = Forger::between(APP);
    let mut unknown = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
    unknown.set_criticality(true);
    critical.params.custom_extensions.push(unknown);
    let too_deep = vec![Forger::between(APP), Forger::between(APP)];
    for (what, between) in [
        ("an expired authority", vec![expired]),
        ("an authority that is none", vec![no_authority]),
        ("an authority with a rule that nobody knows", vec![critical]),
        ("a longer path than the authority may have", too_deep),
    ] {
        assert_eq!(Forger::new().verdict(&Forger::leaf(&Usage::App), between).await, "kms_chain", "{what}");
    }
    let mut for_code = Forger::leaf(&Usage::App);
    for_code.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    assert_eq!(Forger::new().verdict(&for_code, vec![Forger::between(APP)]).await, "kms_chain", "a leaf for code");
    for_code.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let verdict = Forger::new().verdict(&for_code, vec![Forger::between(APP)]).await;
    assert_eq!(verdict, "kms_other_key_provider", "a leaf for servers is a leaf for TLS");
}

#[tokio::test]
async fn a_verdict_ends_with_the_authorities_that_it_rests_on() {
    let now = unix_now();
    let (forger, mut short) = (Forger::new(), Forger::between(APP));
    let end = now + 100;
    short.params.not_after = time::OffsetDateTime::from_unix_timestamp(i64::try_from(end).unwrap()).unwrap();
    let chain = forger.chain(&forger.leaf_of_its_own(), vec![short]);
    let appraisal = pinning(&forger.root_pem).appraise_chain(&chain).await.unwrap();
    assert_eq!(appraisal.valid_until, end);
    let ended = Forger::until(i64::try_from(now).unwrap() - 1);
    let verdict = ended.verdict(&ended.leaf_of_its_own(), vec![Forger::between(APP)]).await;
    assert_eq!(verdict, "kms_chain", "the root has ended");
}
