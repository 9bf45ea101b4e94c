//! What the command says when something is wrong.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use postern_devnet::FIRST_KEY;
use serde_json::{Value, json};

use crate::scenery::{Chain, FIRST, IMAGE, complaint, registrar};

#[test]
fn only_the_owner_changes_anything_and_a_stranger_reads_why() {
    let (chain, app) = Chain::with_app();
    for command in [vec!["compose-hash", "add", &app, FIRST], vec!["os-image", "remove", IMAGE]] {
        let output = chain.run_as("stranger", &command);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = complaint(&output);
        assert!(said.contains("0x70997970c51812dc3a010c7d01b50e0d17dc79c8 is not the owner"), "{said}");
    }
    let output = chain.run(&["--json", "compose-hash", "add", &app, &format!("0x{}", "0".repeat(64))]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &said["error"]), (Some(1), &json!("reverted")));
    assert!(said["message"].as_str().unwrap().contains("invalid compose hash"), "{said}");
}

#[test]
fn all_mistakes_of_a_configuration_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("registrar.toml");
    fs::write(&config, "rpc_url = 'ftp://x'\nkeyfile = 'x'\n[deadlines]\ncall = 'soon'\n").unwrap();
    let output = registrar().arg("--config").arg(&config).args(["os-image", "add", IMAGE]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = complaint(&output);
    for place in ["rpc_url", "kms_contract", "key_file", "keyfile", "deadlines.call"] {
        assert!(said.contains(place), "{place} is missing in:\n{said}");
    }
}

#[test]
fn the_environment_overrides_the_file() {
    let chain = Chain::deployed();
    let config = chain.file("registrar.toml", "rpc_url = 'http://127.0.0.1:1'\n");
    let output = registrar()
        .arg("--config")
        .arg(config)
        .args(["os-image", "list"])
        .env("POSTERN_REGISTRAR__RPC_URL", chain.anvil.url().as_str())
        .env("POSTERN_REGISTRAR__KMS_CONTRACT", chain.kms.as_ref().unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_key_that_others_can_read_is_not_used_and_never_shown() {
    let chain = Chain::deployed();
    let key = chain.file("exposed", FIRST_KEY);
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let output = chain.run_as("exposed", &["os-image", "add", IMAGE]);
    assert_eq!(output.status.code(), Some(78));
    assert!(complaint(&output).contains("chmod 600") && !complaint(&output).contains(FIRST_KEY));
    assert!(chain.run_as("exposed", &["os-image", "list"]).status.success(), "reading needs no key");
}

#[test]
fn an_endpoint_that_is_not_there_or_never_answers_is_not_waited_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for url in ["http://127.0.0.1:1", &silent] {
        let started = Instant::now();
        let output = registrar()
            .args(["--rpc", url, "--kms", "0x0000000000000000000000000000000000000001", "os-image", "list"])
            .env("POSTERN_REGISTRAR__DEADLINES__CALL", "300ms")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(69), "{output:?}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_transaction_that_is_not_mined_in_time_is_named() {
    let chain = Chain::empty(&["--no-mining"]);
    let output = registrar()
        .args(["--rpc", chain.anvil.url().as_str(), "--json", "init", "--key-file"])
        .arg(chain.file("key", FIRST_KEY))
        .env("POSTERN_REGISTRAR__DEADLINES__TRANSACTION", "700ms")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["error"], "unconfirmed");
    assert!(said["message"].as_str().unwrap().contains("the transaction 0x"), "{said}");
}

#[test]
fn another_chain_or_an_empty_address_is_refused_before_anything_is_sent() {
    let (chain, _) = Chain::with_app();
    let output = chain.run(&["--chain-id", "1", "os-image", "list"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(complaint(&output).contains("31337"));
    let nobody = "00000000000000000000000000000000000000ff";
    let output = chain.run(&["compose-hash", "add", nobody, FIRST]);
    assert_eq!(output.status.code(), Some(64));
    assert!(complaint(&output).contains("there is no contract at 0x00000000000000000000000000000000000000"));
    assert_eq!(chain.check(nobody, FIRST, &["--os-image", IMAGE]).1, "App not registered");
}

#[test]
fn wrong_usage_and_help_have_their_own_exit_codes() {
    let code = |arguments: &[&str]| registrar().args(arguments).output().unwrap().status.code();
    assert_eq!(code(&["compose-hash", "add"]), Some(64));
    assert_eq!(code(&["app", "show", "0x12"]), Some(64));
    assert_eq!(code(&["no-such-command"]), Some(64));
    assert_eq!(code(&[]), Some(64));
    assert_eq!(code(&["--json"]), Some(64));
    assert_eq!(code(&["--help"]), Some(0));
    assert_eq!(code(&["hash", "/nonexistent/app-compose.json"]), Some(64));
}

#[test]
fn the_printed_configuration_is_one_that_can_be_filled_in() {
    let output = registrar().arg("--print-config").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let parsed: toml::Table = toml::from_str(&text).unwrap();
    assert_eq!(parsed["confirmations"].as_integer(), Some(1));
}

#[test]
fn hashing_needs_nothing_but_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app-compose.json");
    fs::write(&file, "abc").unwrap();
    let output = registrar().arg("hash").arg(&file).output().unwrap();
    let expected = "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = registrar().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("compose-hash"), "{shell}");
    }
}
