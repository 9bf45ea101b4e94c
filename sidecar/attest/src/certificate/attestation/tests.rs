use proptest::prelude::*;
use serde_json::json;

use super::*;

const REPORT_DATA: [u8; 64] = [7; 64];

fn attestation(events: Vec<Event>) -> Attestation {
    Attestation { quote: vec![4, 0, 200], event_log: EventLog(events), config: "{}".to_owned() }
}

fn stripped(events: &[Event]) -> EventLog {
    EventLog(events.iter().map(|event| Event { digest: Vec::new(), ..event.clone() }).collect())
}

fn first() -> Event {
    Event::runtime("app-id", &[0xa0; 20])
}

fn second() -> Event {
    Event { version: EventVersion::V2, digest: Vec::new(), ..Event::runtime("app-id", &[0xa0; 20]) }
}

fn msgpack(document: &serde_json::Value) -> Vec<u8> {
    rmp_serde::to_vec_named(document).unwrap()
}

/// A version 1 attestation as an encoder may write it that is not ours, from JSON. Lists of numbers stay lists.
fn foreign(change: impl FnOnce(&mut serde_json::Value)) -> Result<Attestation, CertificateError> {
    let mut document = json!({
        "version": 1,
        "platform": {"kind": "tdx", "data": {
            "quote": [4, 0, 200],
            "event_log": [
                {"imr": 0, "event_type": 10, "digest": "00ff", "event": "", "event_payload": "41", "preimage": null},
                {"imr": 3, "event_type": 134_217_729, "digest": "", "event": "app-id", "event_payload": "0102"},
            ],
        }},
        "stack": {"kind": "dstack", "data": {
            "report_data": vec![7; 64],
            "runtime_events": [{"event": "app-id", "payload": "AQI="}],
            "config": "{}",
        }},
    });
    change(&mut document);
    Attestation::decode(&msgpack(&document))
}

#[test]
fn the_oldest_version_that_can_express_the_log_is_written() {
    let old = attestation(vec![first()]).encode(&REPORT_DATA);
    assert_eq!(old[..2], [0, 0]);
    let new = attestation(vec![second()]).encode(&REPORT_DATA);
    assert_eq!(new[..9], *b"\x83\xa7version");
    assert_eq!(
        Attestation::decode(&old).unwrap(),
        Attestation { event_log: stripped(&[first()]), ..attestation(vec![]) }
    );
    assert_eq!(
        Attestation::decode(&new).unwrap(),
        Attestation { event_log: stripped(&[second()]), ..attestation(vec![]) }
    );
}

#[test]
fn version_1_is_written_as_dstack_reads_it() {
    let bytes = attestation(vec![first()]).encode_v1(&REPORT_DATA);
    let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(contains(b"\xa5quote\x93\x04\x00\xcc\xc8"), "the quote is a list of numbers");
    assert!(contains(b"\xadevent_payload\xc4\x14\xa0"), "payloads are binary");
    assert!(contains(b"\xa7payload\xc4\x14\xa0"));
    assert!(contains(b"\xa4kind\xa6dstack"));
    assert!(!contains(b"preimage"));
}

#[test]
fn text_stands_for_bytes_where_other_encoders_put_it() {
    let read = foreign(|_| {}).unwrap();
    assert_eq!(read.quote, [4, 0, 200]);
    assert_eq!(read.event_log.0[0].digest, [0, 0xff]);
    assert_eq!(read.event_log.0[1].event_payload, [1, 2]);
    // Only the short list, and numbers for its payload.
    let read = foreign(|document| {
        document["platform"]["data"]["event_log"] = json!([]);
        document["stack"]["data"]["runtime_events"][0]["payload"] = json!([1, 2]);
    });
    assert_eq!(read.unwrap().event_log, stripped(&[Event::runtime("app-id", &[1, 2])]));
    let unknown = foreign(|document| document["platform"]["data"]["later"] = json!({"a": [1]}));
    assert!(unknown.is_ok(), "fields of later guests do no harm");
}

#[test]
fn a_quote_may_be_binary() {
    let bytes = attestation(vec![first()]).encode_v1(&REPORT_DATA);
    let list = b"\xa5quote\x93\x04\x00\xcc\xc8";
    let at = bytes.windows(list.len()).position(|window| window == list).unwrap();
    let binary = [&bytes[..at], b"\xa5quote\xc4\x03\x04\x00\xc8", &bytes[at + list.len()..]].concat();
    assert_eq!(Attestation::decode(&binary).unwrap().quote, [4, 0, 200]);
}

#[test]
fn version_1_of_others_is_named() {
    let unsupported = |change: fn(&mut serde_json::Value)| match foreign(change) {
        Err(CertificateError::Unsupported(what)) => what,
        other => panic!("{other:?}"),
    };
    assert!(unsupported(|document| document["version"] = json!(2)).contains("unknown version"));
    assert!(unsupported(|document| document["platform"] = json!({"kind": "sev-snp", "data": {}})).contains("platform"));
    assert!(unsupported(|document| document["stack"]["kind"] = json!("dstack-pod")).contains("stack"));
}

#[test]
fn version_1_that_is_malformed_or_contradicts_itself_is_refused() {
    let malformed =
        |change: fn(&mut serde_json::Value)| assert_eq!(foreign(change).unwrap_err().label(), "extension_malformed");
    malformed(|document| document["stack"]["data"]["runtime_events"][0]["payload"] = json!("AQM="));
    malformed(|document| document["stack"]["data"]["runtime_events"][0]["payload"] = json!("not base64"));
    malformed(|document| document["platform"]["data"]["event_log"][0]["digest"] = json!("0"));
    malformed(|document| document["platform"]["data"]["quote"] = json!("text"));
    malformed(|document| document["platform"]["data"]["quote"] = json!([256]));
    malformed(|document| document["stack"]["data"]["report_data"] = json!([7]));
    malformed(|document| document["stack"]["data"]["runtime_events"][0]["version"] = json!(3));
    malformed(|document| document["platform"] = json!([]));
}

#[test]
fn a_field_that_stands_twice_is_refused() {
    let mut bytes = attestation(vec![first()]).encode_v1(&REPORT_DATA);
    bytes[0] = 0x84;
    bytes.extend_from_slice(b"\xa7version\x01");
    assert_eq!(Attestation::decode(&bytes).unwrap_err().label(), "extension_malformed");
}

#[test]
fn lengths_that_lie_and_nesting_without_end_cost_nothing() {
    for bytes in
        [&b"\xdf\xff\xff\xff\xff"[..], b"\x81\xa7version\xc6\xff\xff\xff\xff", b"\x81\xa8platform\xdd\xff\xff\xff\xff"]
    {
        assert_eq!(Attestation::decode(bytes).unwrap_err().label(), "extension_malformed");
    }
    let deep = [&b"\x81\xa1x"[..], &vec![0x91; 50_000]].concat();
    assert_eq!(Attestation::decode(&deep).unwrap_err().label(), "extension_malformed");
}

fn any_events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec((".*", any::<Vec<u8>>(), any::<bool>()), 0..6).prop_map(|events| {
        let event = |(name, payload, second): (String, Vec<u8>, bool)| Event {
            version: if second { EventVersion::V2 } else { EventVersion::V1 },
            digest: Vec::new(),
            ..Event::runtime(&name, &payload)
        };
        events.into_iter().map(event).collect()
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        for start in [&[][..], &[0, 0], &[0x83], &[0xde]] {
            Attestation::decode(&[start, &bytes].concat()).map(drop).ok();
        }
    }

    #[test]
    fn every_attestation_reads_back_and_no_part_of_it_does(
        events in any_events(),
        quote: Vec<u8>,
        config: String,
        bits in 1..=255_u8,
        at in any::<prop::sample::Index>(),
    ) {
        let written = Attestation { quote, event_log: EventLog(events), config };
        for mut encoded in [written.encode(&REPORT_DATA), written.encode_v1(&REPORT_DATA)] {
            prop_assert_eq!(&Attestation::decode(&encoded).unwrap(), &written);
            for end in 0..encoded.len() {
                prop_assert!(Attestation::decode(&encoded[..end]).is_err());
            }
            encoded.push(0);
            prop_assert_eq!(Attestation::decode(&encoded).unwrap_err().label(), "certificate_trailing_bytes");
            encoded.pop();
            let at = at.index(encoded.len());
            encoded[at] ^= bits;
            Attestation::decode(&encoded).map(drop).ok();
        }
    }
}
