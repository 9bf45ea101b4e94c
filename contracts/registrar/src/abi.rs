//! What contracts say and are told, in words, and the interface of the timelock.

use std::sync::LazyLock;

use alloy::dyn_abi::{DynSolValue, EventExt as _, JsonAbiExt as _};
use alloy::json_abi::{Event, Function, JsonAbi};
use alloy::primitives::hex;
use alloy::rpc::types::Log;
use serde_json::{Map, Value};

use crate::report::printable;

alloy::sol!(
    #[sol(rpc)]
    #[derive(Debug)]
    TimelockedOwner,
    "../abi/TimelockedOwner.json"
);

/// The interfaces of all contracts that are known here.
static KNOWN: LazyLock<Vec<JsonAbi>> = LazyLock::new(|| {
    let artifacts = [
        include_str!("../../abi/KmsAuth.json"),
        include_str!("../../abi/AppAuth.json"),
        include_str!("../../abi/TimelockedOwner.json"),
    ];
    artifacts.iter().filter_map(|artifact| interface(artifact)).collect()
});

fn interface(artifact: &str) -> Option<JsonAbi> {
    let mut artifact: Map<String, Value> = serde_json::from_str(artifact).ok()?;
    serde_json::from_value(artifact.remove("abi")?).ok()
}

/// A call as a person would write it, or its bytes if it is of no contract that is known here.
pub(crate) fn call_in_words(data: &[u8]) -> String {
    let known = data.split_at_checked(4).and_then(|(selector, arguments)| {
        let function = function(selector)?;
        let values = function.abi_decode_input(arguments).ok()?;
        let values: Vec<String> = values.iter().map(in_words).collect();
        Some(format!("{}({})", function.name, values.join(", ")))
    });
    known.unwrap_or_else(|| hex::encode_prefixed(data))
}

fn function(selector: &[u8]) -> Option<&'static Function> {
    KNOWN.iter().flat_map(JsonAbi::functions).find(|function| function.selector() == selector)
}

/// What a log tells: the event's name, and its arguments by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) event: String,
    pub(crate) arguments: Vec<(String, String)>,
}

/// Reads a log. `None` if it is none of our events.
pub(crate) fn told(log: &Log) -> Option<Told> {
    let topic = log.topic0()?;
    let candidates = KNOWN.iter().flat_map(JsonAbi::events).filter(|event| event.selector() == *topic);
    candidates.filter_map(|event| decoded(event, log)).next()
}

fn decoded(event: &Event, log: &Log) -> Option<Told> {
    let values = event.decode_log(&log.inner.data).ok()?;
    let (mut indexed, mut body) = (values.indexed.iter(), values.body.iter());
    let arguments = event.inputs.iter().filter_map(|input| {
        let value = if input.indexed { indexed.next() } else { body.next() };
        Some((input.name.clone(), in_words(value?)))
    });
    Some(Told { event: event.name.clone(), arguments: arguments.collect() })
}

fn in_words(value: &DynSolValue) -> String {
    let list = |values: &[DynSolValue]| values.iter().map(in_words).collect::<Vec<_>>().join(", ");
    match value {
        DynSolValue::Bool(value) => value.to_string(),
        DynSolValue::Int(value, _) => value.to_string(),
        DynSolValue::Uint(value, _) => value.to_string(),
        DynSolValue::FixedBytes(word, size) => hex::encode_prefixed(word.get(..*size).unwrap_or(word.as_slice())),
        DynSolValue::Address(address) => format!("{address:#x}"),
        DynSolValue::Function(function) => function.to_string(),
        DynSolValue::Bytes(bytes) => hex::encode_prefixed(bytes),
        DynSolValue::String(text) => printable(text),
        DynSolValue::Array(values) | DynSolValue::FixedArray(values) => format!("[{}]", list(values)),
        DynSolValue::Tuple(values) => format!("({})", list(values)),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, LogData};
    use alloy::sol_types::{SolCall as _, SolEvent as _};
    use postern_watch::abi::app::AppAuth::{ComposeHashAdded, addComposeHashCall, setAllowAnyDeviceCall};
    use postern_watch::abi::kms::KmsAuth::AppDeployedViaFactory;

    use super::*;

    fn log(data: LogData) -> Log {
        Log { inner: alloy::primitives::Log { address: Address::ZERO, data }, ..Log::default() }
    }

    #[test]
    fn a_call_is_told_by_name() {
        let call = addComposeHashCall { composeHash: B256::repeat_byte(7) }.abi_encode();
        assert_eq!(call_in_words(&call), format!("addComposeHash(0x{})", "07".repeat(32)));
        assert_eq!(call_in_words(&setAllowAnyDeviceCall { anyDevice: true }.abi_encode()), "setAllowAnyDevice(true)");
        assert_eq!(call_in_words(&[1, 2, 3, 4, 5]), "0x0102030405");
        assert_eq!(call_in_words(&call[..20]), hex::encode_prefixed(&call[..20]));
    }

    #[test]
    fn an_event_is_told_by_name_with_its_arguments_in_order() {
        let added = ComposeHashAdded { composeHash: B256::repeat_byte(7) };
        let told_of = told(&log(added.encode_log_data())).unwrap();
        assert_eq!(told_of.event, "ComposeHashAdded");
        assert_eq!(told_of.arguments, [("composeHash".to_owned(), format!("0x{}", "07".repeat(32)))]);

        let made = AppDeployedViaFactory { appId: Address::repeat_byte(1), deployer: Address::repeat_byte(2) };
        let names: Vec<_> = told(&log(made.encode_log_data())).unwrap().arguments.into_iter().map(|of| of.0).collect();
        assert_eq!(names, ["appId", "deployer"]);
        assert_eq!(told(&log(LogData::new_unchecked(vec![B256::ZERO], vec![].into()))), None);
    }
}
