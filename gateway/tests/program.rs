//! The program as an operator meets it.

#[cfg(test)]
mod common;

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use postern_plumbing::http::{self, Request};
use tokio::net::TcpStream;

use common::PATIENCE;
use common::cvm::{GATEWAY_APP, Site};

fn gateway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.args(arguments).env_clear();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_explains_itself() {
    let Output { status, stdout, .. } = gateway(&["--help"]).output().unwrap();
    assert!(status.success());
    for word in ["--config", "--check", "--print-config", "POSTERN_GATEWAY__SECTION__KEY", "Exit codes"] {
        assert!(text(&stdout).contains(word), "{word}");
    }
    let Output { status, stdout, .. } = gateway(&["--print-config"]).output().unwrap();
    assert!(status.success());
    assert_eq!(text(&stdout), gateway::config::DEFAULT);
}

#[test]
fn wrong_usage_and_wrong_configuration_have_exit_codes_of_their_own() {
    assert_eq!(gateway(&["--colour"]).output().unwrap().status.code(), Some(64));
    let Output { status, stderr, .. } = gateway(&["--check"]).output().unwrap();
    assert_eq!(status.code(), Some(78));
    for key in ["edge.domains", "attestation.collateral", "wireguard.endpoint", "chain.kms_contract", "chain.rpc_urls"]
    {
        assert!(text(&stderr).contains(key), "{key}");
    }
}

#[test]
fn a_check_reads_the_files_that_the_configuration_names() {
    let site = Site::new(20);
    let config = site.write_config("127.0.0.1:0");
    let arguments = ["--config", config.to_str().unwrap(), "--check"];
    let Output { status, stdout, .. } = gateway(&arguments).output().unwrap();
    assert_eq!((status.code(), text(&stdout).as_str()), (Some(0), "the configuration is in order\n"));
    std::fs::write(site.folder.path().join("collateral.json"), "{}").unwrap();
    let Output { status, stderr, .. } = gateway(&arguments).output().unwrap();
    assert_eq!(status.code(), Some(78));
    assert!(text(&stderr).contains("collateral.json"), "{}", text(&stderr));
}

#[tokio::test]
async fn it_waits_for_the_guest_agent_says_so_and_stops_when_asked() {
    let site = Site::new(21);
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = site.write_config(&admin.to_string());
    let cvm = site.cvm(GATEWAY_APP, "gateway");
    let socket = site.socket(&cvm);
    // As a shell with the usual limit of descriptors would start it.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"ulimit -Sn 300; exec "$0" --config "$1""#, env!("CARGO_BIN_EXE_gateway")]).arg(&config);
    let child = shell.env_clear().env("POSTERN_GATEWAY__AGENT__ENDPOINT", &socket).stderr(Stdio::null()).spawn();
    let mut running = Running(child.unwrap());
    readiness(admin, "cannot reach the guest agent").await;

    let _agent = site.agent(&cvm);
    readiness(admin, r#"{"name":"doors","ready":true}"#).await;
    readiness(admin, "the view of the chain is older").await;
    let interrupts_nobody = async {
        // SCHED_BATCH is 3 (sched(7)).
        while policy(running.0.id(), "clients 0").as_deref() != Some("3") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, interrupts_nobody).await.is_ok(), "a thread that serves clients does");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.0.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "no core dump is written: {core}");
    let files: Vec<_> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert!(files[3] == files[4] && files[3] != "300", "as many descriptors as it may have: {files:?}");

    assert!(Command::new("kill").arg(running.0.id().to_string()).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || running.0.wait().unwrap());
    let status = tokio::time::timeout(PATIENCE, status).await.expect("it does not stop").unwrap();
    assert_eq!(status.code(), Some(0));
}

/// How a thread of a process is scheduled (proc_pid_stat(5), field 41).
fn policy(process: u32, thread: &str) -> Option<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let mut stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let stat = stats.find(|stat| stat.contains(&format!("({thread})")))?;
    // What is behind the name begins with the third field.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(41 - 3).map(str::to_owned)
}

/// A program that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// Asks whether it is ready until the answer holds these words. It never is: there is no chain.
async fn readiness(admin: SocketAddr, words: &str) {
    let asking = async {
        loop {
            if let Ok(stream) = TcpStream::connect(admin).await {
                let answer = http::send(stream, Request::get("localhost", "/readyz"), 64 * 1024, PATIENCE).await;
                if let Ok(answer) = answer {
                    assert!(!answer.is_success(), "{}", text(&answer.body));
                    if text(&answer.body).contains(words) {
                        return;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, asking).await.is_ok(), "never read: {words}");
}
