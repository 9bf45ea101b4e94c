//! What the command changes on chain.

use serde_json::json;

use crate::scenery::{Chain, DEVICE, FIRST, IMAGE, SECOND, text};

const ON_IMAGE: [&str; 2] = ["--os-image", IMAGE];

#[test]
fn a_compose_hash_is_allowed_from_its_addition_to_its_removal_and_again() {
    let (chain, app) = Chain::with_app();
    assert_eq!(chain.check(&app, FIRST, &ON_IMAGE), (false, "Compose hash not allowed".to_owned()));
    for _ in 0..2 {
        let added = chain.done(&["compose-hash", "add", &app, FIRST]);
        assert_eq!(added["changes"][0]["changed"], true);
        assert_eq!(chain.check(&app, FIRST, &ON_IMAGE), (true, String::new()));
        chain.done(&["compose-hash", "remove", &app, FIRST]);
        assert_eq!(chain.check(&app, FIRST, &ON_IMAGE), (false, "Compose hash not allowed".to_owned()));
    }
}

#[tokio::test]
async fn a_change_names_the_block_that_holds_it() {
    let (chain, app) = Chain::with_app();
    let change = chain.done(&["compose-hash", "add", &app, FIRST])["changes"][0].clone();
    let number = change["block"].as_u64().expect("it is a height");
    let block = chain.anvil.request("eth_getBlockByNumber", json!([format!("{number:#x}"), false])).await.unwrap();
    assert_eq!(block["hash"], change["block_hash"]);
    assert_eq!(block["transactions"], json!([change["transaction"]]));
    assert_eq!(text(&block["timestamp"]), format!("{:#x}", change["block_timestamp"].as_u64().unwrap()));
}

#[tokio::test]
async fn a_change_that_is_in_force_sends_nothing() {
    let (chain, app) = Chain::with_app();
    chain.done(&["compose-hash", "add", &app, FIRST]);
    let before = chain.anvil.request("eth_blockNumber", json!([])).await.unwrap();
    let again = chain.done(&["compose-hash", "add", &app, FIRST])["changes"][0].clone();
    assert_eq!((&again["changed"], &again["block"]), (&json!(false), &json!(null)));
    for command in [
        vec!["compose-hash", "remove", &app, SECOND],
        vec!["os-image", "add", IMAGE],
        vec!["device", "remove", &app, DEVICE],
        vec!["device", "allow-any", &app, "true"],
    ] {
        assert_eq!(chain.done(&command)["changes"][0]["changed"], false, "{command:?}");
    }
    assert_eq!(chain.anvil.request("eth_blockNumber", json!([])).await.unwrap(), before);
}

#[test]
fn lists_hold_what_is_allowed_now() {
    let (chain, app) = Chain::with_app();
    let listed = |name: &str, command: &[&str]| -> Vec<String> {
        let list = chain.done(command)[name].clone();
        list.as_array().unwrap().iter().map(|entry| text(&entry["value"])).collect()
    };
    chain.done(&["compose-hash", "add", &app, FIRST, SECOND]);
    assert_eq!(listed("compose_hashes", &["compose-hash", "list", &app]), [FIRST, SECOND]);
    chain.done(&["compose-hash", "remove", &app, FIRST]);
    assert_eq!(listed("compose_hashes", &["compose-hash", "list", &app]), [SECOND]);
    chain.done(&["compose-hash", "add", &app, FIRST]);
    assert_eq!(listed("compose_hashes", &["compose-hash", "list", &app]), [SECOND, FIRST]);
    assert_eq!(listed("os_images", &["os-image", "list"]), [format!("0x{IMAGE}")]);
    chain.done(&["os-image", "remove", IMAGE]);
    assert!(listed("os_images", &["os-image", "list"]).is_empty());
    chain.done(&["device", "add", &app, DEVICE]);
    assert_eq!(listed("devices", &["device", "list", &app]), [format!("0x{DEVICE}")]);
}

#[tokio::test]
async fn lists_are_put_together_from_many_small_queries() {
    let (chain, app) = Chain::with_app();
    chain.done(&["compose-hash", "add", &app, FIRST]);
    chain.anvil.mine(40).await.unwrap();
    chain.done(&["compose-hash", "add", &app, SECOND]);
    let config = chain.file("registrar.toml", "[logs]\nblocks_per_query = 7\n");
    let config = config.to_str().unwrap();
    let list = chain.done(&["--config", config, "compose-hash", "list", &app]);
    assert_eq!(list["compose_hashes"].as_array().unwrap().len(), 2);
    let late = chain.done(&["--from-block", "40", "compose-hash", "list", &app]);
    assert_eq!(text(&late["compose_hashes"][0]["value"]), SECOND);
}

#[test]
fn devices_matter_once_not_every_one_is_allowed() {
    let (chain, app) = Chain::with_app();
    chain.done(&["compose-hash", "add", &app, FIRST]);
    let on_device = [&ON_IMAGE[..], &["--device", DEVICE]].concat();
    chain.done(&["device", "allow-any", &app, "false"]);
    assert_eq!(chain.check(&app, FIRST, &on_device), (false, "Device not allowed".to_owned()));
    chain.done(&["device", "add", &app, DEVICE]);
    assert!(chain.check(&app, FIRST, &on_device).0);
    assert!(!chain.check(&app, FIRST, &ON_IMAGE).0);
    chain.done(&["device", "remove", &app, DEVICE]);
    assert!(!chain.check(&app, FIRST, &on_device).0);
}

#[test]
fn an_app_is_created_with_everything_that_was_asked_for() {
    let chain = Chain::deployed();
    chain.done(&["os-image", "add", IMAGE]);
    let compose = chain.file("app-compose.json", "{\"name\": \"db\"}\n");
    let compose = compose.to_str().unwrap();
    let hash = text(&chain.done(&["hash", compose])["compose_hash"]);
    let create = ["app", "create", "--compose", compose, "--device", DEVICE, "--require-tcb-up-to-date"];
    let app = text(&chain.done(&create)["app_id"]);
    let shown = chain.done(&["app", "show", &app]);
    assert_eq!(shown["compose_hashes"], json!([hash]));
    assert_eq!(shown["devices"], json!([format!("0x{DEVICE}")]));
    assert_eq!((&shown["registered"], &shown["allow_any_device"]), (&json!(true), &json!(false)));
    assert_eq!(shown["require_tcb_up_to_date"], true);

    let on_device = [&ON_IMAGE[..], &["--device", DEVICE]].concat();
    assert!(chain.check(&app, compose, &on_device).0, "the file stands for its hash");
    let behind = [&on_device[..], &["--tcb-status", "OutOfDate"]].concat();
    assert_eq!(chain.check(&app, &hash, &behind), (false, "TCB status is not up to date".to_owned()));
    assert_eq!(chain.check(&app, &hash, &["--device", DEVICE]).1, "OS image is not allowed");

    let other = text(&chain.done(&["app", "create"])["app_id"]);
    let apps: Vec<String> =
        chain.done(&["app", "list"])["apps"].as_array().unwrap().iter().map(|app| text(&app["app_id"])).collect();
    assert_eq!(apps, [app, other]);
}

#[test]
fn the_trusted_gateway_is_named() {
    let chain = Chain::deployed();
    assert_eq!(chain.done(&["gateway-app", "show"])["gateway_app_id"], "");
    let app = "ABABABABABABABABABABABABABABABABABABABAB";
    chain.done(&["gateway-app", "set", &format!("0x{app}")]);
    // Guests look for their peer's app id within this text, so it has the form of an app id: no prefix, lower case.
    assert_eq!(chain.done(&["gateway-app", "show"])["gateway_app_id"], app.to_lowercase());
    chain.done(&["gateway-app", "set", "any"]);
    assert_eq!(chain.done(&["gateway-app", "show"])["gateway_app_id"], "any");
}

#[tokio::test]
async fn a_reorganisation_does_not_confuse_the_next_transaction() {
    let (chain, app) = Chain::with_app();
    chain.done(&["compose-hash", "add", &app, FIRST]);
    chain.anvil.request("anvil_reorg", json!([1, []])).await.unwrap();
    assert!(!chain.check(&app, FIRST, &ON_IMAGE).0);
    chain.done(&["compose-hash", "add", &app, FIRST]);
    assert!(chain.check(&app, FIRST, &ON_IMAGE).0);
}

#[test]
fn people_read_lines() {
    let (chain, app) = Chain::with_app();
    let said = |arguments: &[&str]| String::from_utf8(chain.run(arguments).stdout).unwrap();
    let added = said(&["compose-hash", "add", &app, FIRST]);
    assert!(added.starts_with(&format!("{FIRST} allowed in block ")) && added.lines().count() == 1, "{added}");
    assert_eq!(said(&["check", &app, SECOND, "--os-image", IMAGE]), "refused: Compose hash not allowed\n");
    assert!(said(&["app", "list"]).starts_with(&format!("{app}  since block ")));
    assert!(said(&["app", "show", &app]).contains(FIRST));
}
