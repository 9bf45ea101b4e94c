//! The database servers of a fleet.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::postgres::{Installation, Postgres, Settings};
use crate::{State, WorldError};

/// How long one script may take. A new database is a copy, of which many are made at once.
const DEADLINE: Duration = Duration::from_secs(120);
/// How many databases are made at once: it is work for the disk.
const AT_ONCE: usize = 4;
/// Connections that are not sessions of clients: each sidecar looks after its database, and this program administers.
const SPARE: u32 = 20;
/// The longest delay of a flush that PostgreSQL knows (`commit_delay`), in microseconds.
const LONGEST_DELAY: u128 = 100_000;

/// Whether tenants share a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Servers {
    /// One server holds a database and roles for each tenant.
    Shared,
    /// Each tenant has a server of its own.
    Each,
}

/// The servers.
#[derive(Debug)]
pub(super) struct Databases {
    servers: Vec<Postgres>,
    sharing: Servers,
    password: String,
    making: Semaphore,
}

/// A tenant's place on a server.
pub(super) struct Place<'a> {
    pub(super) socket_folder: &'a Path,
    pub(super) port: u16,
}

impl Databases {
    pub(super) async fn start(
        state: &State,
        installation: Installation,
        sharing: Servers,
        tenants: usize,
        sessions: u32,
    ) -> Result<Self, WorldError> {
        let password = hex::encode(rand::random::<[u8; 32]>());
        let template = installation.folder(state, Path::new("postgres"))?;
        let file = state.write("postgres/password", &password)?;
        installation.make(&template, &file).await?;
        let tenants_of_one = if sharing == Servers::Shared { tenants } else { 1 };
        let connections = u32::try_from(tenants_of_one).unwrap_or(u32::MAX).saturating_mul(sessions + 3) + SPARE;
        let settings = Settings { connections: Some(connections), ..Settings::default() };
        let mut servers = Vec::new();
        match sharing {
            Servers::Shared => {
                servers.push(Postgres::run(state, &installation, settings, "postgres", template).await?);
            }
            Servers::Each => {
                for number in 0..tenants {
                    let folder = installation.folder(state, &PathBuf::from(format!("postgres-{number:03}")))?;
                    installation.copy_data(&template, &folder).await?;
                    let name = format!("postgres-{number:03}");
                    servers.push(Postgres::run(state, &installation, settings.clone(), &name, folder).await?);
                }
            }
        }
        Ok(Self { servers, sharing, password, making: Semaphore::new(AT_ONCE) })
    }

    /// The server that holds a tenant's database.
    fn server(&self, tenant: usize) -> Result<&Postgres, WorldError> {
        let number = if self.sharing == Servers::Shared { 0 } else { tenant };
        self.servers.get(number).ok_or_else(|| no_such(tenant))
    }

    pub(super) fn server_mut(&mut self, tenant: usize) -> Result<&mut Postgres, WorldError> {
        let number = if self.sharing == Servers::Shared { 0 } else { tenant };
        self.servers.get_mut(number).ok_or_else(|| no_such(tenant))
    }

    /// Makes a tenant's database, and the superuser as whom its sidecar provisions it.
    pub(super) async fn make(&self, tenant: usize, name: &str, password: &str) -> Result<Place<'_>, WorldError> {
        let server = self.server(tenant)?;
        let making = self.making.acquire().await;
        let script = format!(
            "CREATE ROLE {name}_admin SUPERUSER LOGIN PASSWORD '{password}';\n\
             CREATE DATABASE {name} OWNER {name}_admin;\n"
        );
        self.run(server, &script).await?;
        drop(making);
        Ok(Place { socket_folder: server.socket_folder(), port: server.port() })
    }

    /// `commit_delay` is how long the server waits before it flushes its log, while no other flush can begin; with
    /// `commit_siblings` at 0, before every flush. So commits see a disk that is so much slower.
    pub(super) async fn slow_disk(&self, tenant: usize, delay: Duration) -> Result<(), WorldError> {
        let delay = delay.as_micros().min(LONGEST_DELAY);
        let script = format!(
            "ALTER SYSTEM SET commit_siblings = 0;\nALTER SYSTEM SET commit_delay = {delay};\nSELECT pg_reload_conf();\n"
        );
        self.run(self.server(tenant)?, &script).await
    }

    pub(super) async fn stop(&mut self) {
        join_all(self.servers.iter_mut().map(|server| server.process().stop())).await;
    }

    /// Has psql run a script, which it reads from its input: arguments are for everybody to see.
    async fn run(&self, server: &Postgres, script: &str) -> Result<(), WorldError> {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres"]);
        command.arg("-h").arg(server.socket_folder()).args(["-p", &server.port().to_string()]);
        command.env("PGPASSWORD", &self.password).env_remove("PGSERVICE").env_remove("PGOPTIONS");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let start = |source| WorldError::Start { program: "psql".to_owned(), source };
        let mut child = command.spawn().map_err(start)?;
        let input = child.stdin.take();
        let exchange = async {
            if let Some(mut input) = input {
                // A psql that ends without reading says more by its own message than the broken pipe does.
                drop(input.write_all(script.as_bytes()).await);
            }
            child.wait_with_output().await
        };
        let failed = |status: String, output: String| WorldError::Failed { program: "psql".into(), status, output };
        let output = tokio::time::timeout(DEADLINE, exchange).await;
        let output =
            output.map_err(|_| failed(format!("no end within {DEADLINE:?}"), String::new()))?.map_err(start)?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(output.status.to_string(), String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

fn no_such(tenant: usize) -> WorldError {
    WorldError::Missing(format!("there is no database server of tenant {tenant}"))
}
