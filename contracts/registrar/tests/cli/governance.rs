//! Who governs, and what they can do beyond lists: transfer, pause, deregister, and wait.

use alloy::primitives::{Address, hex, keccak256};
use alloy::sol_types::SolCall as _;
use postern_devnet::FIRST_ACCOUNT;
use postern_watch::Pin;
use postern_watch::abi::app::AppAuth::addComposeHashCall;
use serde_json::{Value, json};

use self::first::OldKmsAuth::{nextAppIdCall, registerAppCall, registerImageCall, setTproxyAppIdCall};
use crate::scenery::{Chain, FIRST, IMAGE, SECOND, STRANGER, complaint, registrar, text};

mod first {
    alloy::sol!(OldKmsAuth, "../test/abi/OldKmsAuth.json");
}

const ON_IMAGE: [&str; 2] = ["--os-image", IMAGE];

#[test]
fn an_app_changes_hands_in_two_steps() {
    let (chain, app) = Chain::with_app();
    let stranger = STRANGER.address;
    let early = chain.run_as("stranger", &["app", "accept", &app]);
    assert_eq!(early.status.code(), Some(1));
    assert!(complaint(&early).contains("is not offered to"), "{early:?}");

    assert_eq!(chain.done(&["app", "transfer", &app, stranger])["changes"][0]["changed"], true);
    assert_eq!(chain.done(&["app", "transfer", &app, stranger])["changes"][0]["changed"], false);
    assert_eq!(chain.done(&["app", "show", &app])["pending_owner"], stranger);
    chain.done(&["compose-hash", "add", &app, FIRST]);
    assert!(chain.run_as("stranger", &["app", "accept", &app]).status.success());
    let shown = chain.done(&["app", "show", &app]);
    assert_eq!((&shown["owner"], &shown["pending_owner"]), (&json!(stranger), &json!(null)));
    let late = chain.run(&["compose-hash", "remove", &app, FIRST]);
    assert_eq!(late.status.code(), Some(1));
    assert!(complaint(&late).contains(&format!("{stranger} is")), "it says who is: {late:?}");
}

#[test]
fn a_pause_refuses_until_it_ends() {
    let (chain, app) = Chain::with_app();
    chain.done(&["compose-hash", "add", &app, FIRST]);
    for (pause, unpause, reason) in [
        (vec!["app", "pause", &app], vec!["app", "unpause", &app], "App is paused"),
        (vec!["kms", "pause"], vec!["kms", "unpause"], "KMS is paused"),
    ] {
        assert_eq!(chain.done(&pause)["changes"][0]["changed"], true);
        assert_eq!(chain.done(&pause)["changes"][0]["changed"], false);
        assert_eq!(chain.check(&app, FIRST, &ON_IMAGE), (false, reason.to_owned()));
        chain.done(&unpause);
        assert!(chain.check(&app, FIRST, &ON_IMAGE).0);
    }
    let shown = chain.done(&["kms", "show"]);
    assert_eq!((&shown["paused"], &shown["can_deregister"]), (&json!(false), &json!(true)));
}

#[test]
fn a_deregistered_app_is_out_until_the_owner_of_the_kms_contract_says_so() {
    let (chain, app) = Chain::with_app();
    chain.done(&["compose-hash", "add", &app, FIRST]);
    assert_eq!(chain.run_as("stranger", &["app", "deregister", &app]).status.code(), Some(1));
    chain.done(&["app", "deregister", &app]);
    assert_eq!(chain.check(&app, FIRST, &ON_IMAGE).1, "App not registered");
    assert_eq!(chain.done(&["app", "list"])["apps"], json!([]));
    let barred = chain.run_as("stranger", &["app", "register", &app]);
    assert!(barred.status.code() == Some(1) && complaint(&barred).contains("is not the owner"), "{barred:?}");
    chain.done(&["app", "register", &app]);
    assert!(chain.check(&app, FIRST, &ON_IMAGE).0);
    assert_eq!(chain.done(&["app", "list"])["apps"][0]["app_id"], app.as_str());
}

#[test]
fn the_demand_on_the_platform_is_switched() {
    let (chain, app) = Chain::with_app();
    chain.done(&["compose-hash", "add", &app, FIRST]);
    let behind = [&ON_IMAGE[..], &["--tcb-status", "OutOfDate"]].concat();
    assert!(chain.check(&app, FIRST, &behind).0);
    chain.done(&["app", "require-tcb", &app, "true"]);
    assert_eq!(chain.check(&app, FIRST, &behind).1, "TCB status is not up to date");
    chain.done(&["app", "require-tcb", &app, "false"]);
    assert!(chain.check(&app, FIRST, &behind).0);
}

#[test]
fn a_diff_tells_what_is_missing_and_what_is_too_much() {
    let (chain, app) = Chain::with_app();
    chain.done(&["compose-hash", "add", &app, FIRST]);
    assert_eq!(chain.done(&["compose-hash", "diff", &app, FIRST])["to_add"], json!([]));
    let differing = chain.run(&["compose-hash", "diff", &app, SECOND]);
    assert_eq!(differing.status.code(), Some(1));
    assert_eq!(String::from_utf8(differing.stdout).unwrap(), format!("+ {SECOND}\n- {FIRST}\n"));
}

#[tokio::test]
async fn a_timelock_lets_removals_through_and_makes_additions_wait() {
    let (chain, app) = Chain::with_app();
    chain.done(&["compose-hash", "add", &app, FIRST]);
    let timelock = text(&chain.done(&["timelock", "create", "--delay", "1h"])["timelock"]);
    let through = ["--timelock", &timelock];
    let locked = |command: &[&str]| chain.done(&[command, &through[..]].concat());
    chain.done(&["app", "transfer", &app, &timelock]);
    locked(&["app", "accept", &app]);
    let direct = chain.run(&["compose-hash", "remove", &app, FIRST]);
    assert!(direct.status.code() == Some(1) && complaint(&direct).contains("use --timelock"), "{direct:?}");

    assert_eq!(locked(&["compose-hash", "remove", &app, FIRST])["changes"][0]["changed"], true);
    assert_eq!(chain.check(&app, FIRST, &ON_IMAGE).1, "Compose hash not allowed");

    let planned = locked(&["compose-hash", "add", &app, SECOND, "--dry-run"])["planned"][0].clone();
    assert_eq!(planned["to"], timelock.as_str(), "a dry run proposes nothing");
    let proposed = locked(&["compose-hash", "add", &app, SECOND])["changes"][0].clone();
    assert_eq!(proposed["changed"], false);
    let id = text(&proposed["proposal"]);
    let again = chain.run(&[&["compose-hash", "add", &app, SECOND], &through[..]].concat());
    assert!(again.status.code() == Some(1) && complaint(&again).contains("proposed already"), "{again:?}");
    let waiting = locked(&["timelock", "list"])["proposals"].clone();
    assert_eq!((&waiting[0]["id"], &waiting[0]["call"]), (&json!(id), &json!(format!("addComposeHash({SECOND})"))));

    let early = chain.run(&[&["timelock", "execute", &id], &through[..]].concat());
    assert!(early.status.code() == Some(1) && complaint(&early).contains("not long enough"), "{early:?}");
    chain.anvil.request("evm_increaseTime", json!([3600])).await.unwrap();
    chain.anvil.mine(1).await.unwrap();
    locked(&["timelock", "execute", &id]);
    assert!(chain.check(&app, SECOND, &ON_IMAGE).0);
    assert_eq!(locked(&["timelock", "list"])["proposals"], json!([]));

    let dropped = text(&locked(&["compose-hash", "add", &app, FIRST])["changes"][0]["proposal"]);
    let stranger = chain.run_as("stranger", &[&["timelock", "cancel", &dropped], &through[..]].concat());
    assert!(stranger.status.code() == Some(1) && complaint(&stranger).contains("may not cancel"), "{stranger:?}");
    locked(&["timelock", "cancel", &dropped]);
    assert_eq!(locked(&["timelock", "list"])["proposals"], json!([]));
}

#[tokio::test]
async fn many_values_take_one_transaction() {
    let (chain, app) = Chain::with_app();
    let before = chain.anvil.request("eth_blockNumber", json!([])).await.unwrap();
    let changes = chain.done(&["compose-hash", "add", &app, SECOND, FIRST])["changes"].clone();
    assert_eq!((&changes[0]["value"], &changes[1]["value"]), (&json!(SECOND), &json!(FIRST)), "in the order given");
    assert_eq!(changes[0]["transaction"], changes[1]["transaction"]);
    let number = |height: &Value| u64::from_str_radix(&text(height)[2..], 16).unwrap();
    let after = chain.anvil.request("eth_blockNumber", json!([])).await.unwrap();
    assert_eq!(number(&after), number(&before) + 1);
    assert_eq!(chain.done(&["compose-hash", "diff", &app, FIRST, SECOND])["to_remove"], json!([]));
}

/// The lists that say who may be a key management server.
#[test]
fn key_servers_are_listed_by_measurement_and_by_device() {
    let chain = Chain::deployed();
    for (list, name) in [("measurement", "kms_measurements"), ("device", "kms_devices")] {
        let listed = || -> Vec<String> {
            let list = chain.done(&["kms", list, "list"])[name].clone();
            list.as_array().unwrap().iter().map(|entry| text(&entry["value"])).collect()
        };
        let added = chain.done(&["kms", list, "add", FIRST, SECOND])["changes"].clone();
        assert_eq!(added[0]["transaction"], added[1]["transaction"], "one transaction for both");
        assert_eq!(listed(), [FIRST, SECOND]);
        assert_eq!(chain.done(&["kms", list, "add", SECOND])["changes"][0]["changed"], false);
        chain.done(&["kms", list, "remove", FIRST]);
        assert_eq!(listed(), [SECOND]);
        let short = chain.run(&["kms", list, "add", &FIRST[..64]]);
        assert_eq!(short.status.code(), Some(64), "{short:?}");
        let stranger = chain.run_as("stranger", &["kms", list, "remove", SECOND]);
        assert!(stranger.status.code() == Some(1) && complaint(&stranger).contains("is not the owner"), "{stranger:?}");
    }
}

/// What was compiled of one of the contracts that tests know.
fn bytecode(artifact: &str) -> Vec<u8> {
    let artifact: Value = serde_json::from_str(artifact).unwrap();
    hex::decode(text(&artifact["bytecode"]["object"])).unwrap()
}

#[tokio::test]
async fn the_first_registrys_apps_are_shown_with_the_contract_that_controls_them() {
    let mut chain = Chain::empty(&[]);
    let kms = chain.anvil.deploy(bytecode(include_str!("../../../test/abi/OldKmsAuth.json"))).await.unwrap();
    chain.kms = Some(kms.to_string());
    let tell = async |call: Vec<u8>| drop(chain.anvil.call(kms, call).await.unwrap());
    let next = hex::encode_prefixed(nextAppIdCall {}.abi_encode());
    let call = json!([{ "from": FIRST_ACCOUNT, "to": kms, "data": next }, "latest"]);
    let app = text(&chain.anvil.request("eth_call", call).await.unwrap())[26..].to_owned();
    let mut code = bytecode(include_str!("../../../test/abi/OldAppAuth.json"));
    code.extend(app.parse::<Address>().unwrap().into_word());
    let controller = chain.anvil.deploy(code).await.unwrap();
    tell(setTproxyAppIdCall { appId: "the gateway".to_owned() }.abi_encode()).await;
    assert_eq!(chain.done(&["app", "show", &controller.to_string()[2..]]).get("registered"), Some(&json!(false)));
    tell(registerAppCall { controller }.abi_encode()).await;
    chain
        .anvil
        .call(controller, addComposeHashCall { composeHash: FIRST.parse().unwrap() }.abi_encode())
        .await
        .unwrap();

    let shown = chain.done(&["app", "show", &app]);
    assert_eq!((&shown["registered"], text(&shown["contract"])), (&json!(true), format!("{controller:#x}")));
    assert_eq!(shown["compose_hashes"], json!([FIRST]));
    assert_eq!(chain.done(&["gateway-app", "show"])["gateway_app_id"], "the gateway");
    assert_eq!(chain.check(&app, FIRST, &ON_IMAGE), (false, "OS image is not allowed".to_owned()));
    tell(registerImageCall { image: IMAGE.parse().unwrap() }.abi_encode()).await;
    assert_eq!(chain.check(&app, FIRST, &ON_IMAGE), (true, String::new()));
}

#[tokio::test]
async fn the_code_that_runs_is_printed_as_it_is_pinned() {
    let (chain, app) = Chain::with_app();
    let pins = chain.done(&["pins", &app]);
    assert_eq!(pins["pinned_proxies"].as_array().map(Vec::len), Some(1), "both are the same proxy");
    let parse = |key: &str| -> Vec<Pin> {
        pins[key].as_array().unwrap().iter().map(|pin| text(pin).parse().unwrap()).collect()
    };
    let (kms, apps) = (parse("pinned_kms"), parse("pinned_apps"));
    assert_eq!((kms.len(), apps.len()), (1, 1), "a new app has the code of new apps");
    let code = chain.anvil.request("eth_getCode", json!([kms[0].address, "latest"])).await.unwrap();
    assert_eq!(keccak256(hex::decode(text(&code)).unwrap()), kms[0].code_hash);
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let output = registrar().args(["man", folder.path().to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let pages: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in ["registrar.1", "registrar-app-create.1", "registrar-compose-hash-add.1"] {
        assert!(pages.iter().any(|found| found == page), "{page} is none of {pages:?}");
    }
}

#[tokio::test]
async fn an_older_contract_is_managed_one_value_at_a_time() {
    let chain = Chain::deployed();
    let mut code = bytecode(include_str!("../../../test/abi/OldAppAuth.json"));
    code.extend(Address::repeat_byte(1).into_word());
    let app = chain.anvil.deploy(code).await.unwrap().to_string();
    let changes = chain.done(&["compose-hash", "add", &app, FIRST, SECOND])["changes"].clone();
    assert_ne!(changes[0]["transaction"], changes[1]["transaction"]);
    assert_eq!(chain.done(&["compose-hash", "diff", &app, FIRST, SECOND])["to_add"], json!([]));
    let stranger = chain.run_as("stranger", &["compose-hash", "remove", &app, FIRST]);
    assert!(stranger.status.code() == Some(1) && complaint(&stranger).contains("is not the owner"), "{stranger:?}");
    let pause = chain.run(&["app", "pause", &app]);
    assert!(pause.status.code() == Some(64) && complaint(&pause).contains("knows no pause"), "{pause:?}");
}
