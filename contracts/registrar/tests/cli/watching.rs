//! `registrar watch`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::scenery::{Chain, FIRST, IMAGE, SECOND, registrar, text};

/// How long a test waits for a line.
const PATIENCE: Duration = Duration::from_secs(30);

/// The command, watching, and what it says line by line. Stopped when dropped.
struct Watcher {
    child: Child,
    lines: Receiver<Value>,
}

impl Watcher {
    fn start(chain: &Chain, arguments: &[&str]) -> Self {
        let mut command = registrar();
        command.args(["--rpc", chain.anvil.url().as_str(), "--kms", chain.kms.as_ref().unwrap(), "--json", "watch"]);
        command.env("POSTERN_REGISTRAR__DEADLINES__CALL", "2s");
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                drop(sender.send(serde_json::from_str(&line).unwrap()));
            }
        });
        let watcher = Self { child, lines };
        assert_eq!(watcher.next()["remark"], "watching");
        watcher
    }

    fn next(&self) -> Value {
        self.lines.recv_timeout(PATIENCE).expect("there is a line")
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn every_change_is_told_with_its_block_once() {
    let (chain, app) = Chain::with_app();
    let watcher = Watcher::start(&chain, &[]);
    let change = chain.done(&["compose-hash", "add", &app, FIRST])["changes"][0].clone();
    let line = watcher.next();
    assert_eq!((&line["event"], &line["contract"]), (&json!("ComposeHashAdded"), &json!(app)));
    assert_eq!((&line["block"], &line["block_hash"]), (&change["block"], &change["block_hash"]));
    assert_eq!(line["arguments"]["composeHash"], FIRST);
    chain.done(&["os-image", "remove", IMAGE]);
    assert_eq!(watcher.next()["event"], "OsImageHashRemoved");

    let other = text(&chain.done(&["app", "create", "--allow-any-device"])["app_id"]);
    // Its contract is followed from the block that registers it on.
    let told: Vec<_> = (0..5).map(|_| watcher.next()).collect();
    let events: Vec<_> = told.iter().map(|line| (text(&line["contract"]), text(&line["event"]))).collect();
    let kms = chain.kms.unwrap();
    let expected = [
        (&other, "Upgraded"),
        (&other, "OwnershipTransferred"),
        (&other, "AllowAnyDeviceSet"),
        (&kms, "AppRegistered"),
        (&kms, "AppDeployedViaFactory"),
    ];
    assert_eq!(events, expected.map(|(contract, event)| (contract.clone(), event.to_owned())));
}

#[test]
fn the_verdict_on_a_cvm_is_told_when_it_changes() {
    let (chain, app) = Chain::with_app();
    let watcher = Watcher::start(&chain, &[&app, "--compose", FIRST, "--os-image", IMAGE]);
    let refused = watcher.next();
    assert_eq!((&refused["allowed"], &refused["reason"]), (&json!(false), &json!("Compose hash not allowed")));
    chain.done(&["compose-hash", "add", &app, FIRST]);
    assert_eq!(watcher.next()["event"], "ComposeHashAdded");
    assert_eq!(watcher.next()["allowed"], true);
    chain.done(&["kms", "pause"]);
    assert_eq!(watcher.next()["event"], "Paused");
    assert_eq!(watcher.next()["reason"], "KMS is paused");
}

#[tokio::test]
async fn blocks_that_are_replaced_are_told_of() {
    let (chain, app) = Chain::with_app();
    let watcher = Watcher::start(&chain, &[&app]);
    chain.done(&["compose-hash", "add", &app, FIRST]);
    assert_eq!(watcher.next()["arguments"]["composeHash"], FIRST);
    chain.anvil.request("anvil_reorg", json!([1, []])).await.unwrap();
    assert_eq!(watcher.next()["remark"], "reorganised");
    chain.done(&["compose-hash", "add", &app, SECOND]);
    assert_eq!(watcher.next()["arguments"]["composeHash"], SECOND);
}

/// Lets the node sleep, or wakes it.
fn signal(chain: &Chain, signal: &str) {
    let status = Command::new("kill").args([signal, &chain.anvil.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn an_endpoint_that_goes_away_and_comes_back_is_waited_for() {
    let (chain, app) = Chain::with_app();
    let watcher = Watcher::start(&chain, &[&app]);
    signal(&chain, "-STOP");
    assert_eq!(watcher.next()["remark"], "endpoint_away");
    signal(&chain, "-CONT");
    assert_eq!(watcher.next()["remark"], "endpoint_back");
    chain.done(&["compose-hash", "add", &app, FIRST]);
    assert_eq!(watcher.next()["event"], "ComposeHashAdded");
}
