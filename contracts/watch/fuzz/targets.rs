//! What is fuzzed, for the fuzzer and for the replay of its corpora alike. Nothing here may panic but an assertion that says
//! what went wrong.

use alloy::primitives::{Address, B256, U256, address, b256, keccak256};
use postern_allowlist::Decision;
use postern_watch::reading;

/// A target, under its name.
pub(crate) type Target = fn(&[u8]);

/// Every target. Each has a folder of its name in `corpus`.
pub(crate) const ALL: [(&str, Target); 4] =
    [("header", header), ("proof", proof), ("decision", decision), ("logs", logs)];

/// The state root of the chain from which the corpora are, the two contracts on it, and the code that both have.
const ROOT: B256 = b256!("8a7371172919cb5c607357e2efdb028317d5ca3ad5c1a72a2d50716452dcedcd");
const KMS: Address = address!("9fe46736679d2d9a65f0992f2272de9f3c7fa6e0");
const APP: Address = address!("75537828f2ce51be7289709686a69cbfdbb714f1");
const CODE: B256 = b256!("e40314a2c5743a638367b1f9c32a6cd8c626dc4b7bed49598f6b3f560a897a56");

/// The implementation and the pause of both, and the slots of what the KMS contract allows.
const KMS_SLOTS: [B256; 4] = [
    b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"),
    b256!("cd5ed15c6e187e77e9aee88184c21f4f2182ab5827cb3b7e07fbedcd63f03300"),
    b256!("88d6ca9e5f0b2cb31d3036b220e5f3f8a72d20747add2770c065f1f3beb19625"),
    b256!("3bde5da37b548459512e609efa4a2a9fb277487e3936bcc8fb6f54711f78635f"),
];
/// The same of the app, its flags, and the slots of what it allows; the last one it does not.
const APP_SLOTS: [B256; 7] = [
    b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"),
    b256!("cd5ed15c6e187e77e9aee88184c21f4f2182ab5827cb3b7e07fbedcd63f03300"),
    b256!("0000000000000000000000000000000000000000000000000000000000000001"),
    b256!("0000000000000000000000000000000000000000000000000000000000000003"),
    b256!("5ee51eb159c71a8e8e6cd63802f8b11ac8b80470f43351daa056db35649c57ac"),
    b256!("c6418de9406a638df0f2b0c61730b6655ab48c1797c12b42dc071d8e132ae882"),
    b256!("1883fabf850d0f190ce9da6061f4007fbfb92b645fd0b2886d93cf242c5fa013"),
];

/// What the slots hold.
fn kms_values() -> Vec<U256> {
    vec![word("0xe7f1725e7734ce288f8367e1bb143e90bb3f0512"), word("0x0"), word("0x1"), word("0x1")]
}

fn app_values() -> Vec<U256> {
    vec![
        word("0x5fbdb2315678afecb367f032d93f642f64180aa3"),
        word("0x0"),
        word("0x0"),
        word("0x0"),
        word("0x1"),
        word("0x1"),
        word("0x0"),
    ]
}

fn word(hex: &str) -> U256 {
    hex.parse().unwrap_or_default()
}

/// A block. Its hash is that of what was read, so that nothing in it can be another's; and its parent is what was hashed.
pub(crate) fn header(data: &[u8]) {
    let Some((block, parent)) = reading::header(data) else { return };
    let claimed: alloy::rpc::types::Header = serde_json::from_slice(data).unwrap_or_default();
    assert_eq!(block.hash, claimed.hash.0, "it has another hash than it claims");
    assert_eq!(block.hash, keccak256(alloy::rlp::encode(&claimed.inner)).0, "the hash is not that of the header");
    assert_eq!((block.number, block.timestamp), (claimed.inner.number, claimed.inner.timestamp));
    assert_eq!(parent, claimed.inner.parent_hash.0);
}

/// A proof about the app, or after a first byte that is odd about the KMS contract. Whatever is accepted is the truth.
pub(crate) fn proof(data: &[u8]) {
    is_proven(data);
    // Of what is not there, nothing can be proven but that.
    let result = data.get(1..).unwrap_or_default();
    if let Some((code, values)) = reading::proof(ROOT, Address::repeat_byte(9), &APP_SLOTS[..2], result) {
        assert_eq!((code, values), (keccak256([]), vec![U256::ZERO; 2]), "an account was made up");
    }
}

/// Whether a proof is accepted, which it only is if it is true.
pub(crate) fn is_proven(data: &[u8]) -> bool {
    let [which, result @ ..] = data else { return false };
    let (account, slots, values) =
        if which % 2 == 0 { (APP, &APP_SLOTS[..], app_values()) } else { (KMS, &KMS_SLOTS[..], kms_values()) };
    let proven = reading::proof(ROOT, account, slots, result);
    if let Some(proven) = &proven {
        assert_eq!(*proven, (CODE, values), "something else was proven than what is true");
    }
    proven.is_some()
}

/// A response to a question. It allows only if its first word says so and the rest is as it has to be.
pub(crate) fn decision(data: &[u8]) {
    let decision = reading::decision(data);
    if decision == Some(Decision::Allowed) {
        // What is not read of a response need not be text.
        let text = String::from_utf8_lossy(data);
        let response: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let result: alloy::primitives::Bytes = serde_json::from_value(response["result"].clone()).unwrap_or_default();
        let first = result.get(..32).map(U256::from_be_slice);
        assert_eq!(first, Some(U256::from(1)), "it allows without a yes");
        assert!(result.len() <= 4 * 1024, "it is longer than what is read");
    }
    if let Some(Decision::Refused(refusal)) = decision {
        assert!(refusal.text.chars().count() <= 160 && !refusal.text.contains(char::is_control));
    }
}

/// Logs. Whom one of them concerns, all of them together concern, and none of another contract concerns everybody.
pub(crate) fn logs(data: &[u8]) {
    let read = |json: &[u8]| reading::logs(KMS, &[APP], &[], json);
    let Some(all) = read(data) else { return };
    let logs: Vec<alloy::rpc::types::Log> = serde_json::from_slice(data).unwrap_or_default();
    for log in logs {
        let one = serde_json::to_vec(&[&log]).map(|json| read(&json)).ok().flatten();
        let Some(one) = one else { panic!("a log that was read is not read again") };
        match (&one, &all) {
            (None, _) => assert!(all.is_none() && log.address() == KMS, "everybody is concerned by one and not by all"),
            (Some(apps), Some(all)) => assert!(apps.is_subset(all), "an app is concerned by one and not by all"),
            (Some(_), None) => {}
        }
    }
}
