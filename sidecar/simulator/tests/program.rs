//! The binary: what it writes and serves.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

fn simulator() -> Command {
    Command::new(env!("CARGO_BIN_EXE_simulator"))
}

fn seed_file(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("seed");
    fs::write(&path, format!("{}\n", "07".repeat(32))).unwrap();
    path
}

fn write(subcommand: &str, seed: &Path, out: &Path, extra: &[&str]) -> Output {
    let mut command = simulator();
    command.arg(subcommand).arg("--seed-file").arg(seed).arg("--out").arg(out).args(extra);
    command.output().unwrap()
}

#[test]
fn root_and_collateral_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let seed = seed_file(folder.path());
    let (root, collateral) = (folder.path().join("root.pem"), folder.path().join("collateral.json"));
    assert!(write("root", &seed, &root, &[]).status.success());
    assert!(write("collateral", &seed, &collateral, &["--expired"]).status.success());
    assert_eq!(fs::read_to_string(root).unwrap(), postern_simulator::Tee::new([7; 32]).unwrap().root_pem());
    let bundle: serde_json::Value = serde_json::from_slice(&fs::read(collateral).unwrap()).unwrap();
    let parsed: Vec<dcap_qvl::QuoteCollateralV3> =
        serde_json::from_value(bundle.get("collateral").unwrap().clone()).unwrap();
    assert_eq!(parsed.len(), 1);
}

#[test]
fn a_bad_seed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed");
    fs::write(&seed, "abc").unwrap();
    let output = write("root", &seed, &folder.path().join("root.pem"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not 64 hex digits"));
}

#[test]
fn an_agent_serves_until_it_is_told_to_stop_even_over_a_stale_socket() {
    let folder = tempfile::tempdir().unwrap();
    let seed = seed_file(folder.path());
    let (socket, compose) = (folder.path().join("agent.sock"), folder.path().join("app-compose.json"));
    fs::write(&compose, "{}").unwrap();
    fs::write(&socket, "left behind").unwrap();
    let mut command = simulator();
    command.args(["agent", "--app-id", &"a0".repeat(20), "--instance", "one"]);
    let mut agent = command
        .arg("--seed-file")
        .arg(seed)
        .arg("--compose")
        .arg(compose)
        .arg("--socket")
        .arg(&socket)
        .spawn()
        .unwrap();
    let mut stream = (0..500)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            UnixStream::connect(&socket).ok()
        })
        .unwrap();
    stream.write_all(b"GET /Version HTTP/1.1\r\nHost: dstack\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    assert!(Command::new("kill").arg(agent.id().to_string()).status().unwrap().success());
    assert!(agent.wait().unwrap().success(), "SIGTERM is an orderly end");
}
