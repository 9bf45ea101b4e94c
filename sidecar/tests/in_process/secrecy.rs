//! Where secrets are not to be found, and how they are replaced while sessions live: the binary before a real PostgreSQL.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_plumbing::secret::Secret;
use postern_sidecar::keys;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::driver::{Driver, startup};
use crate::real::{Cluster, signal};
use crate::world::{READ_SECRET, WRITE_SECRET, World, agent_client, tls};

const NEW_SECRET: &str = "77c5e9017b2d4f6880912a3b4c5d6e7f8091a2b3c4d5e6f70819203142536400";
/// A secret that somebody guesses.
const WRONG_SECRET: &str = "5f8b6ab9f0f9d7d3c1be4efdfb3a2c55d1b7a4470d8a7b0bb1d6f3a1e6b5c355";
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary in serve mode.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Before a Postgres that listens in `socket_dir`, with this log filter.
    pub(crate) async fn start(world: &World, socket_dir: &Path, filter: &str) -> Self {
        let (config, log) = (world.folder.path().join("sidecar.toml"), world.folder.path().join("log"));
        let place = |folder: &Path| format!("socket_dir = \"{}\"", folder.display());
        let text = world.serve_config("").replace(&place(world.folder.path()), &place(socket_dir));
        let more = "[listen]\naddresses = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n";
        let log_section = format!("[log]\nformat = \"json\"\nfilter = \"{filter}\"\n");
        fs::write(&config, text + more + &log_section).unwrap();
        // Where core dumps are allowed at all, they are allowed to it.
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "ulimit -c unlimited 2>/dev/null; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_sidecar"),
            "serve",
            "-c",
        ]);
        shell.arg(&config).env("CONTROL", "control_variable").current_dir(world.folder.path());
        let child = shell.stderr(fs::File::create(&log).unwrap()).kill_on_drop(true).spawn().unwrap();
        let mut program = Self { child, log, address: ([127, 0, 0, 1], 0).into() };
        program.said("Postgres is ready and its roles are provisioned", 1).await;
        let lines = program.log();
        let listening = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let address = listening
            .filter(|line| line["message"] == "listening")
            .find_map(|line| line["address"].as_str().map(str::to_owned));
        program.address = address.unwrap().parse().unwrap();
        program
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has said something so many times.
    pub(crate) async fn said(&self, words: &str, times: usize) {
        let said = async {
            while self.log().matches(words).count() < times {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, said).await.is_ok(), "{words} in {}", self.log());
    }

    /// What the system tells others about it; nothing where it keeps that from us.
    fn known(&self, file: &str) -> String {
        match fs::read(format!("/proc/{}/{file}", self.child.id().unwrap())) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
                String::new()
            }
        }
    }

    async fn log_in(
        &self,
        world: &World,
        user: &str,
        secret: &str,
    ) -> Result<Driver<impl postern_plumbing::Io>, String> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = tls(stream, Some(world.client_identity().await), &["postgresql"]).await;
        let opening = startup(&[("user", user), ("database", "postgres")]);
        Driver::log_in(stream, &opening, secret).await.map_err(|error| error.sqlstate)
    }
}

/// A world, a PostgreSQL, and the password of its superuser.
async fn setting() -> (World, Cluster, Secret) {
    let world = World::new().await;
    let superuser = keys::superuser_password(&agent_client(&world.server_agent)).await.unwrap();
    let cluster = Cluster::start(&superuser).await;
    (world, cluster, superuser)
}

/// Everything that must be found nowhere.
async fn secrets(world: &World, cluster: &Cluster, superuser: &Secret) -> Vec<String> {
    let agent = agent_client(&world.server_agent);
    let mut secrets =
        vec![READ_SECRET.to_owned(), WRITE_SECRET.to_owned(), NEW_SECRET.to_owned(), WRONG_SECRET.to_owned()];
    for role in ["teesql_read", "teesql_readwrite"] {
        secrets.push(keys::role_password(&agent, role).await.unwrap().expose().to_owned());
    }
    let verifiers = "select rolpassword from pg_authid where rolname like 'teesql%'";
    let verifiers = cluster.superuser(superuser, verifiers).await;
    assert_eq!(verifiers.matches("SCRAM-SHA-256$4096:").count(), 2, "{verifiers}");
    // Of a verifier, its keys: what it begins with is no secret.
    secrets.extend(verifiers.lines().map(|verifier| verifier.rsplit('$').next().unwrap().to_owned()));
    secrets.push(superuser.expose().to_owned());
    secrets
}

#[tokio::test]
async fn secrets_and_passwords_are_found_nowhere() {
    let (world, cluster, superuser) = setting().await;
    let program = Program::start(&world, cluster.folder(), "trace").await;
    let mut session = program.log_in(&world, "teesql_readwrite", WRITE_SECRET).await.unwrap();
    session.ask("select 1 as control_statement").await;
    session.until_ready().await.unwrap();
    assert_eq!(program.log_in(&world, "teesql_read", WRONG_SECRET).await.err().as_deref(), Some("28P01"));
    assert_eq!(program.log_in(&world, "nobody", READ_SECRET).await.err().as_deref(), Some("28P01"));
    // The passwords are set again.
    signal(&program.child, "HUP").await;
    program.said("Postgres is ready and its roles are provisioned", 2).await;

    let statistics = if cluster.has_statistics() {
        cluster.superuser(&superuser, "create extension pg_stat_statements").await;
        cluster.superuser(&superuser, "select query from pg_stat_statements").await
    } else {
        String::new()
    };
    let places = [
        ("the sidecar's log", program.log(), "teesql_readwrite"),
        ("the sidecar's environment", program.known("environ"), "control_variable"),
        ("the sidecar's arguments", program.known("cmdline"), "sidecar.toml"),
        ("PostgreSQL's log", cluster.log(), "control_statement"),
        ("PostgreSQL's statistics", statistics, "control_statement"),
    ];
    for (place, text, control) in &places {
        assert!(text.is_empty() || text.contains(control), "{place} would not show anything: {text}");
    }
    for secret in secrets(&world, &cluster, &superuser).await {
        for (place, text, _) in &places {
            assert!(!text.contains(&secret), "a secret is in {place}");
        }
    }
    let limits = program.known("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    let mut child = program.child;
    signal(&child, "ABRT").await;
    let status = child.wait().await.unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    cluster.stop().await;
}

#[tokio::test]
async fn a_secret_is_replaced_while_sessions_live() {
    let (world, cluster, _superuser) = setting().await;
    let program = Program::start(&world, cluster.folder(), "trace").await;
    let mut live = program.log_in(&world, "teesql_readwrite", WRITE_SECRET).await.unwrap();
    for (times, content, old, new) in [
        (1, format!("{WRITE_SECRET}\n{NEW_SECRET}\n"), true, true),
        (2, "placeholder\n".to_owned(), true, true),
        (2, format!("{NEW_SECRET}\n"), false, true),
    ] {
        fs::write(world.folder.path().join("write"), &content).unwrap();
        signal(&program.child, "HUP").await;
        if content.starts_with("placeholder") {
            program.said("the old ones stay in force", 1).await;
        } else {
            program.said("new secrets are in force", times).await;
        }
        let opens = async |secret| program.log_in(&world, "teesql_readwrite", secret).await.is_ok();
        assert_eq!((opens(WRITE_SECRET).await, opens(NEW_SECRET).await), (old, new));
        live.ask("create temp table if not exists t (i int); insert into t values (1)").await;
        live.until_ready().await.unwrap();
    }
    drop(live);
    cluster.stop().await;
}
