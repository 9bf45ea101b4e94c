//! The audit trail of a gateway, and the command that checks one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[cfg(test)]
mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use postern_allowlist::NotAdmitted;
use postern_identity::AppId;
use postern_plumbing::shutdown::Shutdown;
use postern_wireguard::PrivateKey;
use serde_json::Value;

use common::chain::{TestChain, refused};
use common::cvm::{Site, reason};

const APP: AppId = AppId([0xaa; 20]);

fn key() -> String {
    PrivateKey::generate().public().to_string()
}

fn lines(trail: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(trail).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(trail: &Path) -> Vec<String> {
    lines(trail).iter().filter_map(|line| Some(line.get("event")?.as_str()?.to_owned())).collect()
}

fn verify(files: &[&Path]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    let Output { status, stdout, stderr, .. } =
        command.args(["audit", "verify"]).args(files).env_clear().output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_admitted_and_refused_is_in_the_trail_with_block_evidence_and_reason() {
    let (site, chain, shutdown) = (Site::new(40), Arc::new(TestChain::default()), Shutdown::new());
    let trail = site.folder.path().join("audit.jsonl");
    let gateway = site.gateway_with(&chain, &shutdown, &[("AUDIT__FILE", trail.to_str().unwrap())]).await;
    let cvm = site.cvm(APP, "one");
    let keeper = site.keeper(&cvm).await;
    let mut registration = site.connect(gateway.registration(), Some(Arc::clone(&keeper))).await;
    let key = key();
    assert_eq!(registration.register(&key).await.0, 200);
    assert_eq!(registration.register(&key).await.0, 200, "a renewal is no admission");

    *chain.default.lock().unwrap() = Err(refused(3));
    let mut other = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "two")).await)).await;
    assert_eq!(reason(&other.register(&self::key()).await), (403, "compose_hash_not_allowed"));
    let mut nobody = site.connect(gateway.registration(), None).await;
    assert_eq!(nobody.register(&self::key()).await.0, 401);
    gateway.audit().close().await;

    let lines = lines(&trail);
    assert_eq!(events(&trail), ["started", "admitted", "refused", "evidence_refused", "stopped"]);
    let admitted = &lines[1];
    let expected = [
        ("app", Value::from(APP.to_string())),
        ("instance", cvm.instance_id().to_string().into()),
        ("compose_hash", cvm.compose_hash().to_string().into()),
        ("key", key.into()),
    ];
    for (field, value) in expected {
        assert_eq!(admitted[field], value, "{field}");
    }
    assert_eq!((&admitted["block"]["number"], admitted["block"]["hash"].as_str().unwrap().len()), (&1.into(), 64));
    assert_eq!(admitted["evidence"].as_str().map(str::len), Some(64));
    assert_eq!((&lines[2]["reason"], &lines[2]["block"]["number"]), (&"compose_hash_not_allowed".into(), &3.into()));
    assert_eq!((&lines[3]["reason"], &lines[3]["evidence"]), (&"no_certificate".into(), &Value::Null));

    let (code, text) = verify(&[&trail]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("5 lines, from 1 to 5") && text.contains("nothing is missing at the end"), "{text}");
    let whole = std::fs::read_to_string(&trail).unwrap();
    std::fs::write(&trail, whole.replace("compose_hash_not_allowed", "compose_hash_yes_allowed")).unwrap();
    let (code, text) = verify(&[&trail]);
    assert_eq!(code, Some(65), "{text}");
    assert!(text.contains("line 4 of this file: it was not written behind the line before, number 3"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_new_is_admitted_while_the_trail_cannot_be_written() {
    let (site, chain, shutdown) = (Site::new(41), Arc::new(TestChain::default()), Shutdown::new());
    let trail = site.folder.path().join("audit.jsonl");
    let gateway = site.gateway_with(&chain, &shutdown, &[("AUDIT__FILE", trail.to_str().unwrap())]).await;
    let cvm = site.cvm(APP, "one");
    let mut member = site.connect(gateway.registration(), Some(site.keeper(&cvm).await)).await;
    let key = key();
    assert_eq!(member.register(&key).await.0, 200);

    // From here on it takes no line.
    gateway.audit().close().await;
    assert_eq!(member.register(&key).await.0, 200, "who is admitted is renewed");
    let mut newcomer = site.connect(gateway.registration(), Some(site.keeper(&site.cvm(APP, "two")).await)).await;
    assert_eq!(reason(&newcomer.register(&self::key()).await), (503, "audit_unwritten"));
    assert_eq!(gateway.members().snapshot().table.instances().count(), 1);

    // A revocation needs no line, and a restoration does.
    let boot = gateway.members().proven()[0].0.clone();
    chain.announce(&boot, Err(refused(12)), 12);
    let standing = || gateway.members().snapshot().table.counts();
    while standing() != (0, 1) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    chain.announce(&boot, Ok(common::chain::allowed(13)), 13);
    chain.announce(&boot, Err(NotAdmitted::ViewTooOld { age: 1_000 }), 14);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(standing(), (0, 1));
}

#[test]
fn a_trail_that_is_not_there_is_told() {
    let (code, text) = verify(&[Path::new("/no/such/trail")]);
    assert_eq!(code, Some(65), "{text}");
    assert!(text.contains("/no/such/trail"), "{text}");
}
