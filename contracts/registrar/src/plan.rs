//! Calls that are shown, or written down for a Safe, instead of being sent.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use alloy::primitives::{Address, B256, Bytes, keccak256};
use postern_plumbing::clock::unix_now;
use serde_json::{Value, json};

use crate::abi::call_in_words;
use crate::failure::Failure;
use crate::report::Report;

/// The version of Safe's transaction builder whose file format this is.
const BUILDER_VERSION: &str = "1.17.1";

/// A call that was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) what: &'static str,
    pub(crate) from: Address,
    /// Nobody for the creation of a contract.
    pub(crate) to: Option<Address>,
    pub(crate) data: Bytes,
    /// What it would cost, unless it depends on a call before it.
    pub(crate) gas: Option<u64>,
}

impl Plan {
    fn json(&self) -> Value {
        json!({"what": self.what, "from": self.from, "to": self.to, "calldata": self.data, "gas": self.gas})
    }

    fn tell(&self, report: Report) -> Report {
        let to = self.to.map_or_else(|| "a new contract".to_owned(), |to| format!("{to:#x}"));
        let gas = self.gas.map_or_else(|| "known once the calls before it are made".to_owned(), |gas| gas.to_string());
        let report = report.line(format!("{}: not sent", self.what));
        let report = if self.to.is_some() { report.field("  call", call_in_words(&self.data)) } else { report };
        report
            .field("  from", format_args!("{:#x}", self.from))
            .field("  to", to)
            .field("  gas", gas)
            .field("  calldata", &self.data)
    }
}

/// Adds what would be sent to a report.
pub(crate) fn tell(plans: &[Plan], report: Report) -> Report {
    let report = report.with("dry_run", json!(true)).with("planned", plans.iter().map(Plan::json).collect());
    if plans.is_empty() {
        return report;
    }
    plans.iter().fold(report, |report, plan| plan.tell(report))
}

/// Writes the calls to a file that Safe's transaction builder loads, and says so in a report.
pub(crate) fn for_safe(plans: &[Plan], chain_id: u64, path: &Path, report: Report) -> Result<Report, Failure> {
    let report = report.with("planned", plans.iter().map(Plan::json).collect());
    let Some(first) = plans.first() else { return Ok(report.with("safe_file", Value::Null)) };
    let batch = batch(plans, chain_id, first.from, unix_now().saturating_mul(1000));
    write_new(path, format!("{batch:#}\n").as_bytes())?;
    let calls = if plans.len() == 1 { "1 call".to_owned() } else { format!("{} calls", plans.len()) };
    Ok(plans
        .iter()
        .fold(report, |report, plan| report.line(format!("{}: {}", plan.what, call_in_words(&plan.data))))
        .with("safe_file", json!(path))
        .line(format!("{calls} for the Safe {:#x} written to {}", first.from, path.display())))
}

/// Writes a file that was not there: what somebody else may be about to sign is not replaced.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(content));
    written.map_err(|source| Failure::Output { path: path.to_path_buf(), source })
}

fn batch(plans: &[Plan], chain_id: u64, safe: Address, created_at_ms: u64) -> Value {
    let call = |plan: &Plan| {
        json!({
            "to": plan.to.map(|to| to.to_checksum(None)),
            "value": "0",
            "data": plan.data,
            "contractMethod": null,
            "contractInputsValues": null,
        })
    };
    let mut batch = json!({
        "version": "1.0",
        "chainId": chain_id.to_string(),
        "createdAt": created_at_ms,
        "meta": {
            "name": "Postern registrar",
            "description": "",
            "txBuilderVersion": BUILDER_VERSION,
            "createdFromSafeAddress": safe.to_checksum(None),
            "createdFromOwnerAddress": "",
        },
        "transactions": plans.iter().map(call).collect::<Vec<_>>(),
    });
    let checksum = checksum(&batch);
    if let Some(meta) = batch.get_mut("meta").and_then(Value::as_object_mut) {
        meta.insert("checksum".to_owned(), json!(checksum));
    }
    batch
}

/// The checksum that Safe's transaction builder compares: over a serialization of its own, without the batch's name.
fn checksum(batch: &Value) -> B256 {
    let mut batch = batch.clone();
    if let Some(meta) = batch.get_mut("meta").and_then(Value::as_object_mut) {
        meta.insert("name".to_owned(), Value::Null);
    }
    let mut text = String::new();
    serialize(&batch, &mut text);
    keccak256(text)
}

/// An object is its sorted keys as an array, then each value and a comma; everything else is as in JSON.
fn serialize(value: &Value, text: &mut String) {
    match value {
        Value::Array(elements) => {
            text.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                serialize(element, text);
            }
            text.push(']');
        }
        Value::Object(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let keys: Vec<_> = entries.iter().map(|(key, _)| *key).collect();
            text.push('{');
            text.push_str(&json!(keys).to_string());
            for (_, value) in entries {
                serialize(value, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::b256;

    use super::*;

    /// The example of the transaction builder's own tests, with the checksum that it expects.
    #[test]
    fn the_checksum_is_the_transaction_builders() {
        let address = "0x49d4450977E2c95362C13D3a31a09311E0Ea26A6";
        let input = |kind: &str, name: &str| json!([{"internalType": kind, "name": name, "type": kind}]);
        let batch = json!({
            "version": "1.0",
            "chainId": "4",
            "createdAt": 1_646_321_521_061_u64,
            "meta": {
                "name": "test batch file",
                "txBuilderVersion": "1.4.0",
                "checksum": "",
                "createdFromSafeAddress": "0xDF8a1Ce35c9a6ACE153B4e0767942f1E2291a1Aa",
                "createdFromOwnerAddress": address,
            },
            "transactions": [
                {
                    "to": address,
                    "value": "0",
                    "contractMethod": {
                        "inputs": input("address", "paramAddress"), "name": "testAddress", "payable": false,
                    },
                    "contractInputsValues": {"paramAddress": address},
                },
                {
                    "to": address,
                    "value": "0",
                    "contractMethod": {"inputs": input("bool", "paramBool"), "name": "testBool", "payable": false},
                    "contractInputsValues": {"paramAddress": "", "paramBool": "false"},
                },
                {
                    "to": address,
                    "value": "2000000000000000000",
                    "data": "0x42f4579000000000000000000000000049d4450977e2c95362c13d3a31a09311e0ea26a6",
                },
            ],
        });
        let expected = b256!("4ecbfd364aa6759983915644e73f8bd411e85a2dc306f252a387c2728c4db64c");
        assert_eq!(checksum(&batch), expected);
    }

    #[test]
    fn the_file_holds_the_calls_and_a_checksum_of_the_rest() {
        let plan = Plan {
            what: "adding",
            from: Address::repeat_byte(1),
            to: Some(Address::repeat_byte(0xab)),
            data: Bytes::from_static(&[0xdf, 0xc7]),
            gas: None,
        };
        let mut batch = batch(&[plan], 8453, Address::repeat_byte(1), 1);
        assert_eq!(batch["chainId"], "8453");
        assert_eq!(batch["transactions"][0]["data"], "0xdfc7");
        assert_eq!(batch["transactions"][0]["to"], Address::repeat_byte(0xab).to_checksum(None));
        let found = batch["meta"].as_object_mut().unwrap().remove("checksum").unwrap();
        assert_eq!(found, json!(checksum(&batch)));
    }

    #[test]
    fn a_file_that_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("batch.json");
        write_new(&path, b"first").unwrap();
        assert!(matches!(write_new(&path, b"second").unwrap_err(), Failure::Output { .. }));
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
    }
}
