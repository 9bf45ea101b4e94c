//! What is fuzzed, for the fuzzer and for the replay of its corpora alike. Nothing here may panic but an assertion that says
//! what went wrong.

use std::sync::LazyLock;

use postern_attest::certificate::{AppInfo, Attestation, Usage, evidence};
use postern_attest::event_log::{EventLog, MAX_INFLATED_BYTES, MAX_JSON_BYTES};
use postern_attest::{Appraiser, Collateral, TcbPolicy, TrustRoot};

/// A target, under its name.
pub(crate) type Target = fn(&[u8]);

/// Every target. Each has a folder of its name in `corpus`.
pub(crate) const ALL: [(&str, Target); 6] = [
    ("quote", quote),
    ("certificate", certificate),
    ("extensions", extensions),
    ("scale", scale),
    ("msgpack", msgpack),
    ("event_log", event_log),
];

/// A time at which the collateral was in force.
const NOW: u64 = 1_751_000_000;

static APPRAISER: LazyLock<Appraiser> = LazyLock::new(|| Appraiser::new(TrustRoot::intel(), TcbPolicy::default()));

static COLLATERAL: LazyLock<Collateral> = LazyLock::new(|| {
    let set = include_bytes!("../testdata/tdx_quote_collateral.json").as_slice();
    Collateral::from_json(&[b"{\"collateral\":[", set, b"]}"].concat()).unwrap_or_default()
});

/// A raw quote, judged to the end. What is accepted is a quote of a platform that we know, bit for bit.
pub(crate) fn quote(data: &[u8]) {
    if let Ok(claims) = APPRAISER.appraise_quote(data, &COLLATERAL, NOW) {
        assert_eq!(claims.tcb_status, "UpToDate");
    }
}

/// A whole certificate.
pub(crate) fn certificate(data: &[u8]) {
    let Ok(read) = evidence(data) else { return };
    // Whatever the verdict is, it has to come.
    drop(APPRAISER.glance(&read, NOW));
    assert!(APPRAISER.appraise(&read, &COLLATERAL, NOW).is_err(), "nobody but Intel signs quotes over this key");
}

/// The values of extensions, in a certificate that is otherwise in order: for each one byte that chooses the extension, two
/// bytes of length, and the value.
pub(crate) fn extensions(data: &[u8]) {
    certificate(&assembled(data));
}

/// The certificate that [`extensions`] looks at.
pub(crate) fn assembled(data: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    let mut rest = data;
    while let [which, high, low, more @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (value, after) = more.split_at(length);
        list.extend(extension(which % 10, value));
        rest = after;
    }
    self_signed(&list)
}

/// Version 0 of the versioned attestation, behind its two indices.
pub(crate) fn scale(data: &[u8]) {
    attestation(&[&[0, 0], data].concat());
}

/// Version 1 of the versioned attestation, and the description of an application.
pub(crate) fn msgpack(data: &[u8]) {
    attestation(data);
    if let Ok(info) = AppInfo::decode(data) {
        // An OCTET STRING of two to four bytes of head, and the list.
        let written = info.extension().content;
        let again = (2..=4).find_map(|head| AppInfo::decode(written.get(head..)?).ok());
        assert_eq!(again, Some(info), "it reads back");
    }
    if let Ok(usage) = Usage::decode(data) {
        assert_eq!(usage.as_str().as_bytes(), data);
    }
}

/// An event log as extension `.2` carries it, compressed or not.
pub(crate) fn event_log(data: &[u8]) {
    let Ok(log) = EventLog::from_extension(data) else { return };
    drop(log.identity());
    let Ok(json) = log.to_json() else { panic!("every log has a JSON form") };
    // Fields that may be left out are written.
    if json.len() <= MAX_JSON_BYTES {
        assert_eq!(EventLog::from_json(&json).as_ref(), Ok(&log), "it reads back");
    }
    if json.len() <= MAX_INFLATED_BYTES {
        let Ok(compressed) = log.to_compressed() else { panic!("every log can be compressed") };
        assert_eq!(EventLog::from_extension(&compressed).as_ref(), Ok(&log), "it reads back compressed");
    }
}

fn attestation(data: &[u8]) {
    let Ok(read) = Attestation::decode(data) else { return };
    let register = read.event_log.replay_rtmr3();
    for written in [read.encode(&[7; 64]), read.encode_v1(&[7; 64])] {
        match Attestation::decode(&written) {
            Ok(again) => {
                assert_eq!(again.quote, read.quote);
                assert_eq!(again.config, read.config);
                // A log that contradicts its own digests is written without them.
                if register.is_ok() {
                    assert_eq!(again.event_log.replay_rtmr3(), register, "it measures the same");
                }
            }
            Err(error) => panic!("what was written does not read: {error}"),
        }
    }
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;

/// 1.3.6.1.4.1.62397.1
const ARC: [u8; 10] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x83, 0xe7, 0x3d, 0x01, 0x00];

fn extension(which: u8, value: &[u8]) -> Vec<u8> {
    let mut oid = ARC;
    if let Some(last) = oid.last_mut() {
        *last = which;
    }
    der(SEQUENCE, &[der(OBJECT_IDENTIFIER, &oid), der(OCTET_STRING, value)].concat())
}

/// A certificate with a signature that nobody looks at.
fn self_signed(extensions: &[u8]) -> Vec<u8> {
    let algorithm = der(SEQUENCE, &der(OBJECT_IDENTIFIER, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
    let curve = [
        der(OBJECT_IDENTIFIER, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]),
        der(OBJECT_IDENTIFIER, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]),
    ];
    let bits = |content: &[u8]| der(0x03, &[&[0], content].concat());
    let name = der(SEQUENCE, &[]);
    let dates = [der(0x17, b"200101000000Z"), der(0x17, b"491231235959Z")];
    let body = [
        der(0xa0, &der(0x02, &[2])),
        der(0x02, &[1]),
        algorithm.clone(),
        name.clone(),
        der(SEQUENCE, &dates.concat()),
        name,
        der(SEQUENCE, &[der(SEQUENCE, &curve.concat()), bits(&[4; 65])].concat()),
        der(0xa3, &der(SEQUENCE, extensions)),
    ];
    der(SEQUENCE, &[der(SEQUENCE, &body.concat()), algorithm, bits(&[0; 8])].concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let bytes = length.to_be_bytes();
    let significant = bytes.iter().skip_while(|byte| **byte == 0);
    let mut out = vec![tag];
    if length < 0x80 {
        out.extend(bytes.last());
    } else {
        let long: Vec<u8> = significant.copied().collect();
        out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
        out.extend(long);
    }
    out.extend_from_slice(content);
    out
}
