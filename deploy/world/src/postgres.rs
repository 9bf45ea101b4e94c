//! An unmodified PostgreSQL that listens on nothing but a Unix socket.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::owner::Owner;
use crate::state::write_private;
use crate::{Process, Recipe, State, WorldError};

const READY: Duration = Duration::from_secs(30);
/// The port, which for a Unix socket is only part of the file name.
const PORT: u16 = 5432;
/// A StartupMessage of protocol 3.0, of the user postgres.
const STARTUP: &[u8] = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";
/// The tag of an AuthenticationRequest.
const AUTHENTICATION: u8 = b'R';
/// The major releases that the pinned npm packages have.
const RELEASES: [&str; 3] = ["15", "17", "18"];

/// Where the PostgreSQL programs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PostgresSource {
    /// A major release, of those that are pinned in `deploy/package.json`.
    Release(&'static str),
    /// Whatever `initdb` and `postgres` are first on PATH.
    Path,
    /// The programs in a folder.
    Folder(PathBuf),
}

impl Default for PostgresSource {
    fn default() -> Self {
        Self::Release("17")
    }
}

impl std::str::FromStr for PostgresSource {
    type Err = String;

    /// A release that there is no package of is a mistake; any other word than `path` is a folder.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(release) = RELEASES.into_iter().find(|release| *release == text) {
            return Ok(Self::Release(release));
        }
        match text {
            "path" => Ok(Self::Path),
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                Err(format!("there are packages of PostgreSQL {}", RELEASES.join(", ")))
            }
            folder => Ok(Self::Folder(folder.into())),
        }
    }
}

/// How a Postgres of a world differs from the usual one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// Where else it listens than on its Unix socket.
    pub(crate) tcp: Option<SocketAddr>,
    /// How many connections it takes, when that is not the usual number.
    pub(crate) connections: Option<u32>,
}

impl Settings {
    pub(crate) fn port(&self) -> u16 {
        self.tcp.map_or(PORT, |address| address.port())
    }

    fn arguments(&self, data: &Path, socket_folder: &Path) -> Vec<String> {
        let listen = self.tcp.map(|address| address.ip().to_string()).unwrap_or_default();
        let mut settings = vec![
            format!("listen_addresses={listen}"),
            format!("unix_socket_directories={}", socket_folder.display()),
            format!("port={}", self.port()),
        ];
        // Room for those who come by several ways to be compared.
        let connections = self.connections.or(self.tcp.map(|_| 600));
        settings.extend(connections.map(|connections| format!("max_connections={connections}")));
        let data = ["-D".to_owned(), data.display().to_string()];
        data.into_iter().chain(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting])).collect()
    }
}

/// The programs `initdb` and `postgres`, and the user that runs them.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    initdb: PathBuf,
    postgres: PathBuf,
    owner: Option<Owner>,
}

impl Installation {
    /// Finds the programs; when that user cannot run them where they are, in a copy.
    pub(crate) async fn locate(source: &PostgresSource, repository: &Path, state: &State) -> Result<Self, WorldError> {
        let owner = Owner::unprivileged()?;
        let package = match source {
            PostgresSource::Release(release) => {
                Some(repository.join(format!("deploy/node_modules/postgres-{release}/native")))
            }
            PostgresSource::Path | PostgresSource::Folder(_) => None,
        };
        let (initdb, postgres) = match source {
            PostgresSource::Release(_) => {
                let programs = package.clone().unwrap_or_default().join("bin");
                (programs.join("initdb"), programs.join("postgres"))
            }
            PostgresSource::Folder(folder) => (folder.join("initdb"), folder.join("postgres")),
            PostgresSource::Path => (on_path("initdb")?, on_path("postgres")?),
        };
        let found = Self { initdb, postgres, owner };
        match (found.version().await, package.filter(|package| package.exists())) {
            (Ok(()), _) => Ok(found),
            (Err(_), Some(package)) => found.copy(&package, state).await,
            (Err(error), None) => Err(error),
        }
    }

    /// A copy that the unprivileged user can read, for a repository inside a home folder that is closed to it.
    async fn copy(self, package: &Path, state: &State) -> Result<Self, WorldError> {
        let folder = state.copy(package, "postgres")?;
        let copy = Self { initdb: folder.join("bin/initdb"), postgres: folder.join("bin/postgres"), ..self };
        copy.version().await.map(|()| copy)
    }

    async fn version(&self) -> Result<(), WorldError> {
        run(self.command(&self.postgres).arg("--version"), "postgres --version").await
    }

    /// A folder for a server's data and socket, which is its user's alone.
    pub(crate) fn folder(&self, state: &State, relative: &Path) -> Result<PathBuf, WorldError> {
        let folder = state.folder(relative)?;
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&folder, private).map_err(|error| WorldError::file(&folder, error))?;
        if let Some(owner) = self.owner {
            owner.take(&folder)?;
        }
        Ok(folder)
    }

    /// Makes data in `folder` whose superuser `postgres` has the password in a file, which is deleted.
    pub(crate) async fn make(&self, folder: &Path, password_file: &Path) -> Result<(), WorldError> {
        if let Some(owner) = self.owner {
            owner.take(password_file)?;
        }
        let mut command = self.command(&self.initdb);
        command.arg("-D").arg(folder.join("data")).arg("--pwfile").arg(password_file);
        command.args(["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let made = run(&mut command, "initdb").await;
        fs::remove_file(password_file).map_err(|error| WorldError::file(password_file, error))?;
        made
    }

    /// Copies the data of a server that does not run from one folder to another.
    pub(crate) async fn copy_data(&self, from: &Path, to: &Path) -> Result<(), WorldError> {
        let mut command = self.command(Path::new("cp"));
        command.arg("-R").arg("-p").arg(from.join("data")).arg(to.join("data"));
        run(&mut command, "cp").await
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid).current_dir("/");
        }
        command
    }
}

/// One PostgreSQL with its data.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    folder: PathBuf,
    settings: Settings,
    owner: Option<Owner>,
}

impl Postgres {
    /// Makes a cluster in `folder` whose superuser `postgres` has the password in a file, and starts it. The file
    /// is deleted.
    pub(crate) async fn start(
        state: &State,
        installation: &Installation,
        settings: Settings,
        name: &str,
        folder: &Path,
        password_file: &Path,
    ) -> Result<Self, WorldError> {
        let folder = installation.folder(state, folder)?;
        if !folder.join("data").exists() {
            installation.make(&folder, password_file).await?;
        }
        Self::run(state, installation, settings, name, folder).await
    }

    /// Starts it on the data that are in `folder`.
    pub(crate) async fn run(
        state: &State,
        installation: &Installation,
        settings: Settings,
        name: &str,
        folder: PathBuf,
    ) -> Result<Self, WorldError> {
        let arguments = settings.arguments(&folder.join("data"), &folder);
        let mut recipe = Recipe::new(name, &installation.postgres).arguments(arguments);
        let owner = installation.owner;
        recipe.owner = owner;
        // Fast shutdown: sessions are ended, and nothing is left to recover.
        recipe.stop = Signal::INT;
        let mut postgres = Self { process: recipe.start(state)?, folder, settings, owner };
        postgres.ready().await?;
        Ok(postgres)
    }

    /// The folder of its Unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// Its Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port()))
    }

    /// Its port: part of the socket's name, and where it listens over TCP if it does.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.settings.port()
    }

    /// Writes a file that only the server's user can read, beside its socket.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf, WorldError> {
        let path = self.folder.join(name);
        write_private(&path, content.as_ref()).map_err(|error| WorldError::file(&path, error))?;
        if let Some(owner) = self.owner {
            owner.take(&path)?;
        }
        Ok(path)
    }

    /// A program that runs as the server's user does, and can use its socket and what [`Self::write`] wrote.
    #[must_use]
    pub fn companion(&self, mut recipe: Recipe) -> Recipe {
        recipe.owner = self.owner;
        recipe
    }

    /// Kills it as a crash would, starts it again and waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn crash(&mut self) -> Result<(), WorldError> {
        self.process.kill().await;
        let end = Instant::now() + READY;
        loop {
            // The socket of a killed server stays; without it, a connection means that the new one listens.
            drop(fs::remove_file(self.socket()));
            self.process.start()?;
            match self.ready().await {
                // Sessions outlive a killed server for a moment, and a new one refuses to start beside them.
                Err(WorldError::Ended { .. }) if Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn ready(&mut self) -> Result<(), WorldError> {
        let socket = self.socket();
        let probe = async || match greet(&socket).await {
            Ok(AUTHENTICATION) => Ok(()),
            // It listens before it has recovered, and refuses sessions until then (57P03).
            Ok(_) => Err("it is starting up".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        self.process.ready(READY, probe).await
    }

    /// The process, to stop it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The first byte of the answer to somebody who would log in.
async fn greet(socket: &Path) -> std::io::Result<u8> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(STARTUP).await?;
    stream.read_u8().await
}

async fn run(command: &mut Command, name: &str) -> Result<(), WorldError> {
    let output = command.kill_on_drop(true).output().await;
    let output = output.map_err(|source| WorldError::Start { program: name.to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(WorldError::Failed {
        program: name.to_owned(),
        status: output.status.to_string(),
        output: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The first program of this name on PATH.
fn on_path(program: &str) -> Result<PathBuf, WorldError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| WorldError::Missing(format!("`{program}` is not on PATH")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_by_word_or_folder() {
        assert_eq!("17".parse(), Ok(PostgresSource::default()));
        assert_eq!("15".parse(), Ok(PostgresSource::Release("15")));
        assert_eq!("9".parse::<PostgresSource>(), Err("there are packages of PostgreSQL 15, 17, 18".to_owned()));
        assert_eq!("path".parse(), Ok(PostgresSource::Path));
        assert_eq!("/opt/pg".parse(), Ok(PostgresSource::Folder("/opt/pg".into())));
    }
}
