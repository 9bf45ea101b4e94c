//! A PostgreSQL that is not played, for what only the real one can show.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use postern_plumbing::secret::Secret;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// How long it may take to come up on a busy machine.
const READY: Duration = Duration::from_secs(60);
/// Everything that makes a server write down what it is told.
const TALKATIVE: [&str; 6] = [
    "log_statement=all",
    "log_min_duration_statement=0",
    "log_connections=on",
    "log_error_verbosity=verbose",
    "debug_print_parse=on",
    "track_activity_query_size=65536",
];

/// A server with its data, which ends with the value.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    process: Child,
}

impl Cluster {
    /// A server that listens in a folder of its own, asks everybody for SCRAM, whose superuser `postgres` has this password, and
    /// that logs all it can.
    pub(crate) async fn start(superuser: &Secret) -> Self {
        Self::with(programs(), folder(), superuser).await
    }

    /// The same with one of the releases that `deploy/package.json` pins.
    pub(crate) async fn of_release(release: &str, superuser: &Secret) -> Self {
        let prepare = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/in_process/real/prepare");
        let prepared = Command::new(prepare).output().await.unwrap();
        assert!(prepared.status.success(), "{}", String::from_utf8_lossy(&prepared.stderr));
        // A copy, as the server's user may not be able to read the repository.
        let (package, folder) = (format!("../deploy/node_modules/postgres-{release}/native"), folder());
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join(package);
        let copied = Command::new("cp").arg("-r").arg(package).arg(folder.path().join("native")).status().await;
        assert!(copied.unwrap().success());
        Self::with(folder.path().join("native/bin"), folder, superuser).await
    }

    async fn with(programs: PathBuf, folder: tempfile::TempDir, superuser: &Secret) -> Self {
        let (owner, path) = (unprivileged(), folder.path());
        let (data, password) = (path.join("data"), path.join("password"));
        fs::create_dir(&data).unwrap();
        fs::write(&password, superuser.expose()).unwrap();
        for taken in [&data, &password, &path.to_owned()] {
            if let Some((uid, gid)) = owner {
                chown(taken, Some(uid), Some(gid)).unwrap();
            }
        }
        let mut initdb = command(&programs, "initdb", owner);
        initdb.arg("-D").arg(&data).arg("--pwfile").arg(&password);
        initdb.args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let made = initdb.output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::remove_file(&password).unwrap();

        let process = run(path, &programs, owner);
        let cluster = Self { folder, programs, owner, process };
        cluster.wait().await;
        cluster
    }

    /// Starts it anew as a standby that hears from no primary.
    pub(crate) async fn stand_by(&mut self) {
        self.end().await;
        fs::write(self.folder().join("data/standby.signal"), "").unwrap();
        self.process = run(self.folder.path(), &self.programs, self.owner);
        self.wait().await;
    }

    async fn wait(&self) {
        let up = async {
            while UnixStream::connect(self.folder().join(".s.PGSQL.5432")).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(READY, up).await.is_ok(), "{}", self.log());
    }

    /// The folder of its socket.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder().join("log")).unwrap()).into_owned()
    }

    /// Whether it can keep statistics of statements.
    pub(crate) fn has_statistics(&self) -> bool {
        has_statistics(&self.programs)
    }

    /// The lines of its pg_hba.conf.
    pub(crate) fn access(&self) -> String {
        fs::read_to_string(self.folder().join("data/pg_hba.conf")).unwrap()
    }

    /// Writes its pg_hba.conf and has it read.
    pub(crate) async fn set_access(&self, lines: &str) {
        fs::write(self.folder().join("data/pg_hba.conf"), lines).unwrap();
        let before = self.log().matches("reloading configuration files").count();
        self.signal("HUP").await;
        let reloaded = async {
            while self.log().matches("reloading configuration files").count() == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(READY, reloaded).await.unwrap();
    }

    /// What a statement of the superuser returns, unaligned.
    pub(crate) async fn superuser(&self, password: &Secret, sql: &str) -> String {
        let connection = format!("host={} user=postgres dbname=postgres", self.folder().display());
        psql(&connection, password.expose(), sql).await.unwrap()
    }

    async fn signal(&self, name: &str) {
        signal(&self.process, name).await;
    }

    /// Ends it in order, as a killed one would leave its shared memory behind.
    async fn end(&mut self) {
        self.signal("INT").await;
        assert!(tokio::time::timeout(READY, self.process.wait()).await.is_ok(), "{}", self.log());
    }

    /// Ends it for good.
    pub(crate) async fn stop(mut self) {
        self.end().await;
        assert!(self.owner.is_none() || self.folder().exists());
    }
}

/// A folder that everybody can read.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Sends a signal to a child that was not waited for.
pub(crate) async fn signal(child: &Child, name: &str) {
    let pid = child.id().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
}

/// What stock psql prints for a statement, or what it says when it fails.
pub(crate) async fn psql(connection: &str, password: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new("psql");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    command.env("PGPASSWORD", password).env("HOME", "/nonexistent").stdin(Stdio::null());
    command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--dbname", connection, "--command", sql]);
    let output = command.kill_on_drop(true).output().await.expect("psql is missing: install postgresql-client");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The server of the data in this folder.
fn run(folder: &Path, programs: &Path, owner: Option<(u32, u32)>) -> Child {
    let mut postgres = command(programs, "postgres", owner);
    postgres.arg("-D").arg(folder.join("data")).args(["-c", "listen_addresses=", "-c", "fsync=off"]);
    postgres.arg("-c").arg(format!("unix_socket_directories={}", folder.display()));
    let statistics = has_statistics(programs).then_some("shared_preload_libraries=pg_stat_statements");
    for setting in TALKATIVE.into_iter().chain(statistics) {
        postgres.args(["-c", setting]);
    }
    let log = File::create(folder.join("log")).unwrap();
    postgres.stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn().unwrap()
}

fn command(programs: &Path, name: &str, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(programs.join(name));
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// The folder of PostgreSQL's programs: the newest that Debian has installed, or where `initdb` is on PATH.
fn programs() -> PathBuf {
    let version = |path: &PathBuf| path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok());
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let newest =
        installed.map(|entry| entry.path()).filter(|path| path.join("bin/initdb").exists()).max_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file());
    let found = newest.map(|version| version.join("bin")).or_else(on_path);
    found.expect("initdb is missing: install PostgreSQL's server, on Debian the package postgresql")
}

fn has_statistics(programs: &Path) -> bool {
    ["../lib", "../lib/postgresql"].iter().any(|lib| programs.join(lib).join("pg_stat_statements.so").exists())
}

/// The user `nobody` when this process is root, whom PostgreSQL refuses to serve.
#[expect(
    clippy::unwrap_in_result,
    reason = "a machine without such a user fails the test; None is a process that is not root"
)]
fn unprivileged() -> Option<(u32, u32)> {
    let process = fs::read_to_string("/proc/self/status").unwrap();
    let is_root = process.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let nobody = users.lines().find(|line| line.starts_with("nobody:")).expect("a user nobody");
    let number = |index| nobody.split(':').nth(index).unwrap().parse().unwrap();
    is_root.then(|| (number(2), number(3)))
}
