//! Nothing is sent: dry runs, and files for a Safe.

use std::fs;

use alloy::primitives::{Address, Bytes, hex};
use alloy::sol_types::SolCall as _;
use postern_watch::abi::app::AppAuth::{addComposeHashCall, addComposeHashesCall};
use serde_json::{Value, json};

use crate::scenery::{Chain, FIRST, IMAGE, SECOND, STRANGER, complaint, text};

#[tokio::test]
async fn a_dry_run_shows_the_call_and_sends_nothing() {
    let (chain, app) = Chain::with_app();
    let state = || async {
        let height = chain.anvil.request("eth_blockNumber", json!([])).await.unwrap();
        let pool = chain.anvil.request("txpool_status", json!([])).await.unwrap();
        (height, pool)
    };
    let before = state().await;
    let planned = chain.done(&["compose-hash", "add", &app, FIRST, "--dry-run"])["planned"].clone();
    let call = addComposeHashCall { composeHash: FIRST.parse().unwrap() }.abi_encode();
    assert_eq!(planned[0]["calldata"], hex::encode_prefixed(call));
    assert_eq!(planned[0]["to"], app.as_str());
    assert!(planned[0]["gas"].as_u64().unwrap() > 21_000);
    for command in [
        vec!["init"],
        vec!["app", "create"],
        vec!["app", "pause", &app],
        vec!["app", "deregister", &app],
        vec!["kms", "transfer", STRANGER.address],
        vec!["os-image", "remove", IMAGE],
        vec!["timelock", "create", "--delay", "1d"],
        vec!["gateway-app", "set", "any"],
    ] {
        let report = chain.done(&[&command[..], &["--dry-run"]].concat());
        assert!(!report["planned"].as_array().unwrap().is_empty(), "{command:?}: {report}");
    }
    assert_eq!(state().await, before);

    let said = String::from_utf8(chain.run(&["compose-hash", "add", &app, FIRST, "--dry-run"]).stdout).unwrap();
    assert!(said.contains("not sent") && said.contains(&format!("addComposeHash({FIRST})")), "{said}");
}

#[test]
fn a_dry_run_fails_as_the_call_would_and_needs_no_key() {
    let (chain, app) = Chain::with_app();
    let zero = format!("0x{}", "0".repeat(64));
    let refused = chain.run(&["compose-hash", "add", &app, &zero, "--dry-run"]);
    assert!(refused.status.code() == Some(1) && complaint(&refused).contains("invalid compose hash"), "{refused:?}");
    let stranger = chain.run_as("stranger", &["compose-hash", "add", &app, FIRST, "--dry-run"]);
    assert!(stranger.status.code() == Some(1) && complaint(&stranger).contains("is not the owner"), "{stranger:?}");
    let keyless = chain.run_without_key(&["compose-hash", "add", &app, FIRST, "--dry-run"]);
    assert!(keyless.status.success(), "{keyless:?}");
}

#[test]
fn a_safe_gets_a_file_with_every_call() {
    let (chain, app) = Chain::with_app();
    let safe = STRANGER.address;
    chain.done(&["app", "transfer", &app, safe]);
    assert!(chain.run_as("stranger", &["app", "accept", &app]).status.success());
    let path = chain.folder().join("batch.json");
    let file = path.to_str().unwrap();
    let output = chain.run_without_key(&["compose-hash", "add", &app, FIRST, SECOND, "--safe", file]);
    assert!(output.status.success(), "{output:?}");

    let batch: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&batch["version"], &batch["chainId"]), (&json!("1.0"), &json!("31337")));
    assert!(batch["meta"]["createdFromSafeAddress"].as_str().unwrap().eq_ignore_ascii_case(safe));
    assert_eq!(text(&batch["meta"]["checksum"]).len(), 66);
    let [call] = batch["transactions"].as_array().unwrap().as_slice() else { panic!("{batch}") };
    assert_eq!(call["to"].as_str().unwrap().parse::<Address>().unwrap(), app.parse::<Address>().unwrap());
    let data: Bytes = text(&call["data"]).parse().unwrap();
    let hashes = addComposeHashesCall::abi_decode(&data).unwrap().composeHashes;
    assert_eq!(hashes, [FIRST.parse::<alloy::primitives::B256>().unwrap(), SECOND.parse().unwrap()]);
    assert_eq!(chain.done(&["compose-hash", "list", &app])["compose_hashes"], json!([]), "nothing was sent");

    let again = chain.run_without_key(&["compose-hash", "add", &app, FIRST, "--safe", file]);
    assert_eq!(again.status.code(), Some(64), "the file is left alone: {again:?}");
    let init = chain.run_without_key(&["init", "--owner", safe, "--safe", "/nonexistent/x"]);
    assert!(init.status.code() == Some(64) && complaint(&init).contains("cannot deploy"), "{init:?}");
}
