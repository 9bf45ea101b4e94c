//! The binary: what it writes and serves.

#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
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
    let tee = postern_simulator::Tee::new([7; 32]).unwrap();
    assert_eq!(fs::read_to_string(root).unwrap(), tee.root_pem());
    let kms_root = folder.path().join("kms-root.pem");
    assert!(write("kms-root", &seed, &kms_root, &[]).status.success());
    assert_eq!(fs::read_to_string(kms_root).unwrap(), tee.kms_root_pem());
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

fn agent(seed: &Path, compose: &Path) -> Command {
    let mut command = simulator();
    command.args(["agent", "--app-id", &"a0".repeat(20), "--instance", "one"]);
    command.arg("--seed-file").arg(seed).arg("--compose").arg(compose);
    command
}

#[test]
fn an_agent_serves_on_tcp_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let (seed, compose) = (seed_file(folder.path()), folder.path().join("app-compose.json"));
    fs::write(&compose, "{}").unwrap();
    let mut agent = agent(&seed, &compose).args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(agent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("DSTACK_SIMULATOR_ENDPOINT=http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /Version HTTP/1.1\r\nHost: dstack\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(Command::new("kill").arg(agent.id().to_string()).status().unwrap().success());
    assert!(agent.wait().unwrap().success(), "SIGTERM is an orderly end");
}

#[test]
fn other_machines_are_served_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let (seed, compose) = (seed_file(folder.path()), folder.path().join("app-compose.json"));
    fs::write(&compose, "{}").unwrap();
    let refused = agent(&seed, &compose).args(["--listen", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("not a loopback address") && error.contains("--insecure-listen-anywhere"), "{error}");
    let refused = agent(&seed, &compose).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "neither --socket nor --listen");
}

#[test]
fn an_agent_serves_until_it_is_told_to_stop_even_over_a_stale_socket() {
    let folder = tempfile::tempdir().unwrap();
    let seed = seed_file(folder.path());
    let (socket, compose) = (folder.path().join("agent.sock"), folder.path().join("app-compose.json"));
    fs::write(&compose, "{}").unwrap();
    fs::write(&socket, "left behind").unwrap();
    let mut agent = agent(&seed, &compose).arg("--socket").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
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
