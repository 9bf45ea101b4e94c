use proptest::prelude::*;
use rcgen::{CertificateParams, CustomExtension, KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};

use super::*;
use crate::event_log::{Event, EventVersion};
use crate::oid;

const QUOTE: &[u8] = include_bytes!("../../testdata/tdx_quote");
const QUOTE_V5: &[u8] = include_bytes!("../../testdata/tdx_quote_td15ex");
const APP: AppId = AppId([0xa0; 20]);

fn log() -> EventLog {
    EventLog(vec![
        Event { imr: 0, event_type: 4, digest: vec![1; 48], ..Event::runtime("", b"boot") },
        Event::runtime("app-id", &APP.0),
        Event::runtime("system-ready", b""),
    ])
}

fn runtime_only() -> EventLog {
    EventLog(log().0.split_off(1))
}

fn certificate(extensions: &[(&[u64], Vec<u8>)]) -> Vec<u8> {
    let mut params = CertificateParams::new(vec!["db.test".to_owned()]).unwrap();
    for (oid, value) in extensions {
        params.custom_extensions.push(CustomExtension::from_oid_content(oid, value.clone()));
    }
    params.self_signed(&key()).unwrap().der().to_vec()
}

fn key() -> KeyPair {
    static KEY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    KeyPair::from_pem(KEY.get_or_init(|| KeyPair::generate().unwrap().serialize_pem())).unwrap()
}

fn wrapped(list: &[Extension]) -> Vec<(&'static [u64], Vec<u8>)> {
    list.iter().map(|extension| (extension.oid, extension.content.clone())).collect()
}

fn ours() -> Vec<(&'static [u64], Vec<u8>)> {
    wrapped(&extensions(QUOTE, &log(), &APP).unwrap())
}

fn only(oids: &[&[u64]]) -> Vec<(&'static [u64], Vec<u8>)> {
    ours().into_iter().filter(|(oid, _)| oids.contains(oid)).collect()
}

/// Without the 70 zeros that the guest left behind the version 4 quote.
fn unpadded(quote: &[u8]) -> &[u8] {
    if quote == QUOTE { &quote[..QUOTE.len() - 70] } else { quote }
}

#[test]
fn what_we_issue_reads_back_in_every_form() {
    for (quote, forms) in [
        (QUOTE, vec![oid::QUOTE, oid::EVENT_LOG, oid::APP_ID, oid::ATTESTATION]),
        (QUOTE, vec![oid::QUOTE, oid::EVENT_LOG]),
        (QUOTE, vec![oid::ATTESTATION]),
        (QUOTE_V5, vec![oid::QUOTE, oid::EVENT_LOG]),
        (QUOTE_V5, vec![oid::ATTESTATION]),
    ] {
        let list = wrapped(&extensions(quote, &log(), &APP).unwrap());
        let chosen: Vec<_> = list.into_iter().filter(|(oid, _)| forms.contains(oid)).collect();
        assert_eq!(chosen.len(), forms.len());
        let der = certificate(&chosen);
        let evidence = evidence(&der).unwrap();
        assert_eq!(evidence.quote, unpadded(quote));
        assert_eq!(evidence.event_log.replay_rtmr3(), log().replay_rtmr3());
        assert_eq!(evidence.event_log.0.len(), 2, "boot events are left out");
        assert_eq!(evidence.claimed_app_id, forms.contains(&oid::APP_ID).then_some(APP));
        assert_eq!(evidence.spki, key().subject_public_key_info());
        assert_eq!(evidence.fingerprint[..], Sha256::digest(&der)[..]);
        assert!(evidence.not_before < evidence.not_after);
    }
}

#[test]
fn the_event_log_of_a_certificate_has_its_digests_and_the_attestation_has_none() {
    let stripped = EventLog(runtime_only().0.into_iter().map(|event| Event { digest: Vec::new(), ..event }).collect());
    let list = wrapped(&extensions(QUOTE, &stripped, &APP).unwrap());
    let legacy = evidence(&certificate(&list)).unwrap();
    assert_eq!(legacy.event_log, runtime_only());
    let versioned = evidence(&certificate(&only(&[oid::ATTESTATION]))).unwrap();
    assert_eq!(versioned.event_log, stripped);
}

#[test]
fn content_may_stand_without_its_octet_string() {
    let raw = [
        (oid::QUOTE, QUOTE.to_vec()),
        (oid::EVENT_LOG, runtime_only().to_json().unwrap()),
        // Raw, these 20 bytes could be taken for an OCTET STRING of 18.
        (oid::APP_ID, [&[4, 18][..], &[0; 18]].concat()),
    ];
    let evidence = evidence(&certificate(&raw)).unwrap();
    assert_eq!(evidence.quote, QUOTE);
    assert_eq!(evidence.event_log, runtime_only());
    assert_eq!(evidence.claimed_app_id.unwrap().0[..2], [4, 18]);
}

#[test]
fn a_version_2_log_travels_in_both_forms() {
    let log = EventLog(vec![Event { version: EventVersion::V2, digest: Vec::new(), ..Event::runtime("x", b"") }]);
    let list = extensions(QUOTE, &log, &APP).unwrap();
    for oids in [&[oid::QUOTE, oid::EVENT_LOG, oid::ATTESTATION][..], &[oid::ATTESTATION]] {
        let chosen: Vec<_> = wrapped(&list).into_iter().filter(|(oid, _)| oids.contains(oid)).collect();
        assert_eq!(chosen.len(), oids.len());
        let read = evidence(&certificate(&chosen)).unwrap();
        assert_eq!(read.event_log.replay_rtmr3(), log.replay_rtmr3());
    }
}

#[test]
fn a_compressed_event_log_is_read() {
    let mut list = only(&[oid::QUOTE]);
    list.push((oid::EVENT_LOG, der::octet_string(&log().to_compressed().unwrap())));
    assert_eq!(evidence(&certificate(&list)).unwrap().event_log, log());
}

#[test]
fn usage_and_app_info_are_read_where_they_are() {
    let info = AppInfo {
        app_id: APP,
        compose_hash: postern_identity::ComposeHash([2; 32]),
        instance_id: None,
        device_id: postern_identity::DeviceId([4; 32]),
        mr_system: [5; 32],
        mr_aggregated: [6; 32],
        os_image_hash: None,
        key_provider: Vec::new(),
        init_script_hashes: Vec::new(),
    };
    let mut list = ours();
    let bare = evidence(&certificate(&list)).unwrap();
    assert_eq!((bare.usage, bare.claimed_app_info), (None, None));
    list.extend(wrapped(&[Usage::App.extension(), info.extension()]));
    let read = evidence(&certificate(&list)).unwrap();
    assert_eq!((read.usage, read.claimed_app_info), (Some(Usage::App), Some(info.clone())));
    for extension in [Usage::App.extension(), info.extension()] {
        let mut twice = list.clone();
        twice.extend(wrapped(&[extension]));
        assert!(matches!(refusal(&twice), CertificateError::Duplicate(".4" | ".9")));
    }
}

#[test]
fn a_log_that_contradicts_itself_is_not_issued() {
    let mut log = log();
    log.0[1].event_payload = vec![0; 20];
    assert!(matches!(extensions(QUOTE, &log, &APP), Err(ExtensionError::EventLog(_))));
    assert!(matches!(extensions(b"no quote", &self::log(), &APP), Err(ExtensionError::Quote(_))));
}

fn refusal(list: &[(&[u64], Vec<u8>)]) -> CertificateError {
    evidence(&certificate(list)).unwrap_err()
}

#[test]
fn ordinary_certificates_and_half_evidence_are_told_apart() {
    assert_eq!(refusal(&[]), CertificateError::NoQuote);
    assert_eq!(refusal(&only(&[oid::EVENT_LOG, oid::APP_ID])), CertificateError::NoQuote);
    assert_eq!(refusal(&only(&[oid::QUOTE])), CertificateError::NoEventLog);
}

#[test]
fn an_extension_that_stands_twice_is_refused() {
    for (oid, name) in [(oid::QUOTE, ".1"), (oid::EVENT_LOG, ".2"), (oid::APP_ID, ".3"), (oid::ATTESTATION, ".8")] {
        let mut list = ours();
        list.extend(only(&[oid]));
        // The parser may refuse such a certificate by itself; both will do.
        let refused = refusal(&list);
        assert!(matches!(refused, CertificateError::Duplicate(found) if found == name), "{refused}");
    }
}

#[test]
fn trailing_bytes_are_refused_everywhere() {
    for at in 0..4 {
        let mut list = ours();
        list[at].1.push(0);
        assert_eq!(refusal(&list).label(), "certificate_trailing_bytes");
    }
    let mut attestation = der::content(&only(&[oid::ATTESTATION])[0].1, ".8").unwrap().to_vec();
    attestation.push(0);
    let refused = refusal(&[(oid::ATTESTATION, der::octet_string(&attestation))]);
    assert_eq!(refused, CertificateError::TrailingBytes { what: ".8", bytes: 1 });
    let mut whole = certificate(&ours());
    whole.push(0);
    assert_eq!(evidence(&whole).unwrap_err(), CertificateError::TrailingBytes { what: "the certificate", bytes: 1 });
}

#[test]
fn two_forms_that_disagree_are_refused() {
    let other = EventLog(vec![Event::runtime("app-id", &[0xbb; 20])]);
    let mut list = only(&[oid::QUOTE, oid::EVENT_LOG]);
    list.extend(wrapped(&extensions(QUOTE, &other, &APP).unwrap()).pop());
    assert_eq!(refusal(&list), CertificateError::Contradiction("event log"));
    list.pop();
    list.extend(wrapped(&extensions(QUOTE_V5, &log(), &APP).unwrap()).pop());
    assert_eq!(refusal(&list), CertificateError::Contradiction("quote"));
}

#[test]
fn other_attestations_are_named() {
    let of = |content: &[u8]| refusal(&[(oid::ATTESTATION, der::octet_string(content))]);
    assert_eq!(of(&[0, 3, 0]).label(), "attestation_unsupported");
    assert_eq!(of(&[0x82, 0xa7]).label(), "extension_malformed");
    assert_eq!(of(&[0x7f]).label(), "attestation_unsupported");
    assert_eq!(of(&[0, 0, 0xff]).label(), "extension_malformed");
}

#[test]
fn a_certificate_beyond_60_kib_is_refused() {
    let mut list = ours();
    list.push((&[1, 2, 3, 4], vec![0; MAX_CERTIFICATE_BYTES]));
    let refused = refusal(&list);
    assert!(matches!(refused, CertificateError::TooLarge { found } if found > MAX_CERTIFICATE_BYTES));
    assert!(refused.public().contains("60 KiB"));
}

#[test]
fn a_leaf_with_a_real_quote_fits_a_first_flight() {
    let size = certificate(&ours()).len();
    assert!(size < 14 * 1024, "{size}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        evidence(&bytes).map(drop).ok();
    }

    #[test]
    fn no_damage_panics(at in any::<prop::sample::Index>(), bits in 1..=255_u8, end in any::<prop::sample::Index>()) {
        let mut der = certificate(&ours());
        let at = at.index(der.len());
        der[at] ^= bits;
        evidence(&der).map(drop).ok();
        prop_assert!(evidence(&der[..end.index(der.len())]).is_err());
    }
}
