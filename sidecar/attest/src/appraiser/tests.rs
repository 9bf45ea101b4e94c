//! Intel's own quotes, judged at a pinned time, and what becomes of them when something about them is wrong.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::event_log::{Event, EventLog, EventLogError};
use crate::{Fmspc, TcbStatus, report_data};

/// A version 4 quote of a TD 1.0, as dcap-qvl publishes it with its collateral.
const QUOTE: &[u8] = include_bytes!("../../testdata/tdx_quote");
/// A version 5 quote of a TD 1.5, likewise.
const QUOTE_V5: &[u8] = include_bytes!("../../testdata/tdx_quote_td15ex");
/// Both are of this kind of platform, and both were current at these times.
const FMSPC: Fmspc = Fmspc([0xb0, 0xc0, 0x6f, 0, 0, 0]);
const NOW: u64 = 1_751_000_000;
const NOW_V5: u64 = 1_792_000_000;

/// Where fields lie in a version 4 quote.
const TD_ATTRIBUTES: usize = 168;
const RTMR3: usize = 520;
const REPORT_DATA: usize = 568;
/// Where MRSERVICETD lies in a version 5 quote of a TD 1.5.
const SERVICE_TD_V5: usize = 654;

fn bundle(set: &[u8]) -> Collateral {
    let set: serde_json::Value = serde_json::from_slice(set).unwrap();
    Collateral::from_json(&serde_json::to_vec(&serde_json::json!({ "collateral": [set] })).unwrap()).unwrap()
}

fn collateral() -> Collateral {
    bundle(include_bytes!("../../testdata/tdx_quote_collateral.json"))
}

fn collateral_v5() -> Collateral {
    bundle(include_bytes!("../../testdata/tdx_quote_td15ex_collateral.json"))
}

fn intel() -> Appraiser {
    Appraiser::new(TrustRoot::intel(), TcbPolicy::default())
}

fn with_policy(change: impl FnOnce(&mut TcbPolicy)) -> Result<QuoteClaims, Rejection> {
    let mut policy = TcbPolicy::default();
    change(&mut policy);
    Appraiser::new(TrustRoot::intel(), policy).appraise_quote(QUOTE, &collateral(), NOW)
}

fn flipped(quote: &[u8], at: usize, bits: u8) -> Vec<u8> {
    let mut quote = quote.to_vec();
    quote[at] ^= bits;
    quote
}

#[test]
fn intels_version_4_quote_gives_its_registers() {
    let claims = intel().appraise_quote(QUOTE, &collateral(), NOW).unwrap();
    let registers =
        [claims.mrtd, claims.rtmr[0], claims.rtmr[1], claims.rtmr[2], claims.rtmr[3]].map(|r| r.to_string());
    assert_eq!(
        registers,
        [
            "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7",
            "44c0197b39157fdd7a4dcc44767f9d6b0bb3977c7a8e347b8492f827fe9d9e5c48aca29b220b80b6a540cf994b9bc9c0",
            "0084452c01668329d4bc06acdf58a7205c26743304509973949e5619bf81a6a7aea8c323c173019b3093d54e579e9378",
            "d833feef2cd945148aa38ead2c53e9b7f138190aaaebfc551dccd829fc207aa3ba80b70870d7330733642e01d48c3132",
            "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        ]
    );
    assert_eq!(claims.tcb_status, "UpToDate");
    assert_eq!(claims.advisory_ids, Vec::<String>::new());
    assert_eq!(claims.tcb_evaluation_number, 17);
    assert_eq!(claims.fmspc, FMSPC);
    assert_eq!(claims.device_id.to_string(), "a97a2d0b5e6df04773d42059b1d72df761856beda65f51d0b0d63349483a58cf");
    assert_eq!(hex::encode(&claims.report_data[..8]), "9a9d48e7f6799642");
}

#[test]
fn intels_version_5_quote_gives_its_registers() {
    let claims = intel().appraise_quote(QUOTE_V5, &collateral_v5(), NOW_V5).unwrap();
    let registers = [claims.mrtd, claims.rtmr[0], claims.rtmr[3], claims.mr_config_id].map(|r| r.to_string());
    assert_eq!(
        registers,
        [
            "2a674327c50218dba880066b349b8d559d749ed68dce33fd651c184a877d084b07a9e583767a7ad5da13ed91deec2b70",
            "0345d2a146eec673fb3861a4d88c5093ef0934b142884294377628cf09fb21bfa979acec61e79f925f5fccaad0827165",
            "556d4986cae57e7e3756b6471e4951be6f5f1b4e70942c72325223d6af239da90f1484eeb627727e6d2c0755393b5fdf",
            "0151ed70bddb5f12574176b37e3f53bbfc4ba15c33cbddc2d03d90b6de14596cc0000000000000000000000000000000",
        ]
    );
    assert_eq!(claims.tcb_status, "UpToDate");
    assert_eq!(claims.tcb_evaluation_number, 20);
}

#[test]
fn aggregates_are_dstacks() {
    // Computed from the quotes' bytes by another program.
    let provider = br#"{"name":"kms","id":"00"}"#;
    let claims = intel().appraise_quote(QUOTE, &collateral(), NOW).unwrap();
    let aggregates = [mr_aggregated(&claims), mr_system(&claims, b""), mr_system(&claims, provider)].map(hex::encode);
    assert_eq!(
        aggregates,
        [
            "8ef444fda246f7e0d5f9a3ba0a2822ae0be7dbec5e321277d03b73b198fa2545",
            "7d5e1721a57187770e1bfa99af56ced0a67d5e958b4e48a72807e1a0d941b957",
            "e7b162f21fd3aeca8396b12446e66365f61b7b13d8e376beab1b417764ff6b47",
        ]
    );
    // This one has a configuration id, which enters the aggregate.
    let claims = intel().appraise_quote(QUOTE_V5, &collateral_v5(), NOW_V5).unwrap();
    let aggregates = [mr_aggregated(&claims), mr_system(&claims, b"")].map(hex::encode);
    assert_eq!(
        aggregates,
        [
            "4fb8008c038254aa449fe4a70fde8efcc30abb4d7a6aa8d95ce50c6960312457",
            "60007de530df0ccc34183b7c37e01279399a326daff7e3936dfc6df613aca0a6",
        ]
    );
}

#[test]
fn collateral_counts_from_its_issue_to_its_expiry_and_not_a_second_longer() {
    let (fmspc, window) = collateral().windows().next().unwrap();
    assert_eq!((fmspc, window.from, window.until), (FMSPC, 1_750_329_147, 1_752_919_235));
    let at = |now| intel().appraise_quote(QUOTE, &collateral(), now);
    assert_eq!(at(window.from).unwrap().valid_until, window.until);
    assert!(at(window.until - 1).is_ok());
    assert_eq!(at(window.from - 1).unwrap_err().label(), "collateral_not_current");
    assert_eq!(at(window.until).unwrap_err().label(), "collateral_not_current");
}

#[test]
fn a_platform_without_collateral_is_refused() {
    let refused = intel().appraise_quote(QUOTE, &Collateral::default(), NOW).unwrap_err();
    assert_eq!(refused, Rejection::UnknownPlatform(FMSPC));
}

#[test]
fn a_quote_under_another_root_is_refused() {
    let quote = dcap_qvl::quote::Quote::parse(QUOTE).unwrap();
    let chain = dcap_qvl::intel::extract_cert_chain(&quote).unwrap();
    // The platform authority is a genuine certificate, only not the root.
    let other = TrustRoot::from_der(chain[1].clone()).unwrap();
    assert!(!other.is_intel());
    let appraiser = Appraiser::new(other, TcbPolicy::default());
    let refused = appraiser.appraise_quote(QUOTE, &collateral(), NOW).unwrap_err();
    assert_eq!(refused.label(), "other_root", "{refused}");
}

#[test]
fn each_allowance_for_real_servers_has_a_name_of_its_own() {
    let detail = |change: fn(&mut TcbPolicy)| match with_policy(change) {
        Err(Rejection::TcbPolicy(detail)) => detail,
        other => panic!("{other:?}"),
    };
    assert!(detail(|policy| policy.allow_smt = false).contains("SMT"));
    assert!(detail(|policy| policy.allow_cached_keys = false).contains("Cached keys"));
    assert!(detail(|policy| policy.allow_dynamic_platform = false).contains("Dynamic platform"));
    assert!(detail(|policy| policy.min_tcb_evaluation_number = 18).contains("below minimum"));
    assert!(with_policy(|policy| policy.min_tcb_evaluation_number = 17).is_ok());
}

#[test]
fn a_status_that_the_policy_leaves_out_is_refused_even_if_it_is_the_best() {
    let refused = with_policy(|policy| policy.accept = [TcbStatus::OutOfDate].into()).unwrap_err();
    assert_eq!(refused, Rejection::TcbStatus("UpToDate".to_owned()));
    assert!(with_policy(|policy| policy.out_of_date_grace = Duration::from_secs(1)).is_ok());
}

#[test]
fn tds_that_no_signature_redeems_are_named() {
    let of = |byte: usize, bits| {
        intel().appraise_quote(&flipped(QUOTE, TD_ATTRIBUTES + byte, bits), &collateral(), NOW).unwrap_err()
    };
    assert_eq!(of(0, 0x01), Rejection::Debug);
    assert_eq!(of(0, 0x10), Rejection::Attributes("it can be profiled"));
    assert_eq!(of(3, 0x20), Rejection::Migratable);
    assert_eq!(of(2, 0x02), Rejection::ServiceTd);
    assert_eq!(of(3, 0x10), Rejection::Attributes("its host can inject #VE"));
    assert_eq!(of(5, 0x01), Rejection::Attributes("reserved bits are set"));
    let bound = flipped(QUOTE_V5, SERVICE_TD_V5, 1);
    assert_eq!(intel().appraise_quote(&bound, &collateral_v5(), NOW_V5).unwrap_err(), Rejection::ServiceTd);
}

#[test]
fn zero_padding_is_tolerated_as_guests_send_it_and_nothing_else() {
    let judge = |quote: &[u8]| intel().appraise_quote(quote, &collateral(), NOW);
    let used = QUOTE.len() - 70;
    assert!(judge(&QUOTE[..used]).is_ok());
    assert!(judge(&[QUOTE, &[0; 58]].concat()).is_ok());
    assert_eq!(judge(&[QUOTE, &[0; 59]].concat()).unwrap_err().label(), "quote_malformed");
    assert_eq!(judge(&[QUOTE, &[1]].concat()).unwrap_err().label(), "quote_malformed");
    // One byte more inside the authentication data, and its length adjusted: no field owns the byte.
    let mut longer = QUOTE[..used].to_vec();
    let length = u32::from_le_bytes(longer[632..636].try_into().unwrap()) + 1;
    longer[632..636].copy_from_slice(&length.to_le_bytes());
    longer.push(0);
    assert_eq!(judge(&longer).unwrap_err().label(), "quote_malformed");
}

/// The boot events of an application, as a guest writes them.
fn boot() -> Vec<Event> {
    vec![
        Event::runtime("system-preparing", b""),
        Event::runtime("app-id", &[0xa0; 20]),
        Event::runtime("compose-hash", &[0xc0; 32]),
        Event::runtime("instance-id", &[0x1d; 20]),
        Event::runtime("boot-mr-done", b""),
        Event::runtime("key-provider", br#"{"name":"kms","id":"00"}"#),
        Event::runtime("system-ready", b""),
    ]
}

/// Evidence with which everything is right but the signature, since nobody can sign for Intel.
fn forged(events: Vec<Event>) -> Evidence {
    let (spki, event_log) = (b"a key".to_vec(), EventLog(events));
    let mut quote = QUOTE.to_vec();
    quote[REPORT_DATA..REPORT_DATA + 64].copy_from_slice(&report_data(&spki));
    quote[RTMR3..RTMR3 + 48].copy_from_slice(&event_log.replay_rtmr3().unwrap().0);
    let (not_before, not_after) = (NOW - 10, NOW + 10);
    Evidence {
        quote,
        event_log,
        claimed_app_id: None,
        claimed_app_info: None,
        usage: None,
        spki,
        not_before,
        not_after,
        fingerprint: [7; 32],
        shown: None,
    }
}

fn judge(change: impl FnOnce(&mut Evidence)) -> Rejection {
    let mut evidence = forged(boot());
    change(&mut evidence);
    intel().appraise(&evidence, &collateral(), NOW).unwrap_err()
}

#[test]
fn a_forged_quote_gets_as_far_as_its_signature() {
    let refused = judge(|_| {});
    assert_eq!(refused.label(), "quote_signature", "{refused}");
}

#[test]
fn each_cheap_check_has_its_own_reason() {
    assert_eq!(judge(|evidence| evidence.not_before = NOW + 1).label(), "certificate_not_yet_valid");
    assert_eq!(judge(|evidence| evidence.not_after = NOW - 1).label(), "certificate_expired");
    assert_eq!(judge(|evidence| evidence.spki = b"another key".to_vec()), Rejection::KeyNotBound);
    assert_eq!(judge(|evidence| evidence.quote[REPORT_DATA + 63] ^= 1), Rejection::KeyNotBound);
    assert_eq!(judge(|evidence| evidence.quote[RTMR3] ^= 1), Rejection::EventLogNotMeasured);
    assert_eq!(judge(|evidence| evidence.event_log.0.truncate(6)), Rejection::EventLogNotMeasured);
    let other = Some(postern_identity::AppId([0xbb; 20]));
    assert_eq!(judge(|evidence| evidence.claimed_app_id = other), Rejection::AppIdContradicted);
}

#[test]
fn an_issuers_word_about_another_application_is_refused() {
    use postern_identity::{AppId, ComposeHash, InstanceId};
    let said = AppInfo {
        app_id: AppId([0xa0; 20]),
        compose_hash: ComposeHash([0xc0; 32]),
        instance_id: Some(InstanceId([0x1d; 20])),
        device_id: DeviceId([0; 32]),
        mr_system: [0; 32],
        mr_aggregated: [0; 32],
        os_image_hash: None,
        key_provider: Vec::new(),
        init_script_hashes: Vec::new(),
    };
    let with = |change: fn(&mut AppInfo)| {
        let mut said = said.clone();
        change(&mut said);
        judge(|evidence| evidence.claimed_app_info = Some(said))
    };
    assert_eq!(with(|_| {}).label(), "quote_signature", "only the signature is missing");
    assert_eq!(with(|said| said.instance_id = None).label(), "quote_signature");
    assert_eq!(with(|said| said.app_id.0[0] ^= 1), Rejection::AppInfoContradicted);
    assert_eq!(with(|said| said.compose_hash.0[0] ^= 1), Rejection::AppInfoContradicted);
    assert_eq!(with(|said| said.instance_id = Some(InstanceId([0; 20]))), Rejection::AppInfoContradicted);
}

#[test]
fn a_payload_edited_under_an_unchanged_digest_is_refused() {
    let refused = judge(|evidence| evidence.event_log.0[1].event_payload = vec![0xbb; 20]);
    let expected = EventLogError::Altered { index: 1, name: "app-id".to_owned(), field: "digest" };
    assert_eq!(refused, Rejection::EventLog(expected));
}

#[test]
fn a_second_identity_is_refused_even_if_it_is_measured() {
    let mut events = boot();
    events.insert(2, Event::runtime("app-id", &[0xbb; 20]));
    let refused = intel().appraise(&forged(events), &collateral(), NOW).unwrap_err();
    assert_eq!(refused, Rejection::EventLog(EventLogError::Duplicate("app-id")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_quote_panics(at in 0..QUOTE.len(), bits in 1..=255_u8, length in 0..QUOTE.len()) {
        let damaged = flipped(QUOTE, at, bits);
        intel().appraise_quote(&damaged, &collateral(), NOW).map(drop).ok();
        intel().appraise_quote(&damaged[..length], &collateral(), NOW).map(drop).ok();
    }

    #[test]
    fn what_the_td_signed_cannot_be_changed(at in 0..632_usize, bits in 1..=255_u8) {
        prop_assert!(intel().appraise_quote(&flipped(QUOTE, at, bits), &collateral(), NOW).is_err());
    }
}

#[test]
fn refusals_that_a_peer_reads_hold_no_measurements() {
    for refused in [judge(|_| {}), judge(|e| e.quote[RTMR3] ^= 1), judge(|e| e.event_log.0[1].event_payload.clear())] {
        assert!(!refused.public().contains("91eb") && !refused.public().is_empty());
        assert!(refused.label().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    }
}
