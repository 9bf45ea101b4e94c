//! Transactions on a chain that does what chains do.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use alloy::primitives::{Address, U256};
use postern_devnet::{FIRST_ACCOUNT, FIRST_KEY};
use serde_json::{Value, json};

use crate::scenery::{Chain, FIRST, IMAGE, at_a_terminal, complaint, registrar, text};

/// How long a test waits for something on the node.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the command and leaves it alone.
fn start(chain: &Chain, arguments: &[&str]) -> Child {
    let mut command = registrar();
    command.args(["--rpc", chain.anvil.url().as_str(), "--json", "--key-file"]).arg(chain.folder().join("key"));
    command.args(["--kms", chain.kms.as_ref().unwrap()]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn answer(child: Child) -> (Option<i32>, Value) {
    let output = child.wait_with_output().unwrap();
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code(), said)
}

/// Waits until the node has this many pending transactions, and gives the first one of ours.
async fn pending(chain: &Chain) -> Value {
    let started = Instant::now();
    loop {
        let block = chain.anvil.request("eth_getBlockByNumber", json!(["pending", true])).await.unwrap();
        if let Some(transaction) = block["transactions"].get(0) {
            return transaction.clone();
        }
        assert!(started.elapsed() < PATIENCE, "nothing was sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn height(chain: &Chain) -> u64 {
    let height = chain.anvil.request("eth_blockNumber", json!([])).await.unwrap();
    u64::from_str_radix(&text(&height)[2..], 16).unwrap()
}

#[test]
fn a_chain_of_blocks_every_two_seconds_is_waited_for() {
    let mut chain = Chain::empty(&["--block-time", "2"]);
    chain.kms = Some(text(&chain.done(&["init"])["kms"]));
    let change = chain.done(&["os-image", "add", IMAGE, "--wait", "2"])["changes"][0].clone();
    assert_eq!(change["changed"], true);
}

#[test]
fn whoever_waits_at_a_terminal_sees_the_confirmations_come() {
    let mut chain = Chain::empty(&["--block-time", "1"]);
    chain.kms = Some(text(&chain.done(&["init"])["kms"]));
    let (output, code) = at_a_terminal(&chain, &["os-image", "add", IMAGE, "--wait", "3"], None);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("1 of 3 confirmations") && output.contains("2 of 3 confirmations"), "{output}");
    let said = output.rsplit('\r').find(|line| !line.trim().is_empty()).unwrap();
    assert!(said.contains("allowed in block"), "the line is gone in the end: {output}");

    let quiet = chain.run(&["os-image", "remove", IMAGE, "--wait", "2"]);
    assert_eq!(complaint(&quiet), "", "a log is no terminal");
}

#[tokio::test]
async fn a_transaction_that_a_reorganisation_drops_is_sent_again() {
    let (chain, app) = Chain::with_app();
    let child = start(&chain, &["compose-hash", "add", &app, FIRST, "--wait", "3"]);
    let before = height(&chain).await;
    let started = Instant::now();
    while height(&chain).await == before {
        assert!(started.elapsed() < PATIENCE, "nothing was mined");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The block with the transaction is replaced by an empty one.
    chain.anvil.request("anvil_reorg", json!([1, []])).await.unwrap();
    assert!(!chain.check(&app, FIRST, &["--os-image", IMAGE]).0);
    let started = Instant::now();
    while !chain.check(&app, FIRST, &["--os-image", IMAGE]).0 {
        assert!(started.elapsed() < PATIENCE, "it was not sent again");
    }
    chain.anvil.mine(3).await.unwrap();
    let (code, said) = answer(child);
    assert_eq!((code, &said["changes"][0]["changed"]), (Some(0), &json!(true)), "{said}");
    let block = said["changes"][0]["block"].as_u64().unwrap();
    let held = chain.anvil.request("eth_getBlockByNumber", json!([format!("{block:#x}"), false])).await.unwrap();
    assert_eq!(held["hash"], said["changes"][0]["block_hash"], "it names the block that stands");
}

#[tokio::test]
async fn a_transaction_that_another_overtakes_is_given_up_with_words() {
    let (chain, app) = Chain::with_app();
    chain.anvil.request("evm_setAutomine", json!([false])).await.unwrap();
    let child = start(&chain, &["compose-hash", "add", &app, FIRST]);
    let ours = pending(&chain).await;
    chain.anvil.request("anvil_dropTransaction", json!([ours["hash"]])).await.unwrap();
    let other = json!({
        "from": FIRST_ACCOUNT, "to": Address::ZERO, "value": "0x1", "nonce": ours["nonce"],
        "maxFeePerGas": format!("{:#x}", U256::from(100_000_000_000_u64)), "gas": "0x5208",
    });
    // Ours may be back in the meantime; at this fee the other replaces it.
    chain.anvil.request("eth_sendTransaction", json!([other])).await.unwrap();
    chain.anvil.mine(1).await.unwrap();
    let (code, said) = answer(child);
    assert_eq!((code, &said["error"]), (Some(2), &json!("overtaken")), "{said}");
    assert!(text(&said["message"]).contains("overtaken by another of this key"));
}

#[tokio::test]
async fn a_transaction_that_waits_for_long_is_sent_again_for_more() {
    let (chain, app) = Chain::with_app();
    chain.anvil.request("evm_setAutomine", json!([false])).await.unwrap();
    let config = chain.file("registrar.toml", "[deadlines]\nraise_fee_after = '300ms'\n");
    let child = start(&chain, &["compose-hash", "add", &app, FIRST, "--config", config.to_str().unwrap()]);
    let first = pending(&chain).await;
    let started = Instant::now();
    let second = loop {
        let now = pending(&chain).await;
        if now["hash"] != first["hash"] {
            break now;
        }
        assert!(started.elapsed() < PATIENCE, "the fee was not raised");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(second["nonce"], first["nonce"]);
    let fee = |transaction: &Value| text(&transaction["maxFeePerGas"]).parse::<U256>().unwrap();
    assert!(fee(&second) > fee(&first));
    chain.anvil.mine(1).await.unwrap();
    let (code, said) = answer(child);
    assert_eq!((code, &said["changes"][0]["changed"]), (Some(0), &json!(true)), "{said}");
}

#[tokio::test]
async fn a_transaction_that_reverts_in_its_block_says_why() {
    let (chain, app) = Chain::with_app();
    chain.anvil.request("evm_setAutomine", json!([false])).await.unwrap();
    let child = start(&chain, &["app", "pause", &app]);
    pending(&chain).await;
    // Somebody pauses the app first, by the slot that OpenZeppelin keeps it in.
    let slot = "0xcd5ed15c6e187e77e9aee88184c21f4f2182ab5827cb3b7e07fbedcd63f03300";
    let paused = format!("0x{:064x}", 1);
    chain.anvil.request("anvil_setStorageAt", json!([app, slot, paused])).await.unwrap();
    chain.anvil.mine(1).await.unwrap();
    let (code, said) = answer(child);
    assert_eq!((code, &said["error"]), (Some(1), &json!("reverted")), "{said}");
    assert!(text(&said["message"]).contains("it is paused already"), "{said}");
}

#[test]
fn the_whole_command_has_a_deadline() {
    let chain = Chain::empty(&["--no-mining"]);
    let started = Instant::now();
    let output = registrar()
        .args(["--rpc", chain.anvil.url().as_str(), "--json", "init", "--key-file"])
        .arg(chain.file("key", FIRST_KEY))
        .env("POSTERN_REGISTRAR__DEADLINES__COMMAND", "900ms")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(started.elapsed() < PATIENCE);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["error"], "out_of_time");
}

#[tokio::test]
async fn an_account_without_money_reads_what_the_node_says() {
    let (chain, app) = Chain::with_app();
    chain.anvil.request("anvil_setBalance", json!([FIRST_ACCOUNT, "0x0"])).await.unwrap();
    let output = chain.run(&["compose-hash", "add", &app, FIRST]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(complaint(&output).to_lowercase().contains("insufficient"), "{output:?}");
}
