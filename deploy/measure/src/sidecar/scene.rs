//! A cluster whose Postgres can be reached through the sidecar, through PgBouncer, and past both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use postern_world::{Admin, PostgresSource, Process, Recipe, World};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::Programs;
use super::pki::Pki;

const READY: Duration = Duration::from_secs(20);
/// How many connections PgBouncer and the sidecar may keep.
const POOL: usize = 100;
/// The role that all clients log in as.
pub(super) const ROLE: &str = "teesql_readwrite";

/// Who stands between the client and Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// The sidecar when it keeps connections for later sessions, as PgBouncer does.
    Sidecar,
    /// The sidecar as it is by default: a connection for each session.
    UnpooledSidecar,
    PgBouncer,
    /// PgBouncer when it gives no client a connection that an earlier one has left.
    UnpooledPgBouncer,
    /// Nobody: Postgres' own TLS.
    Postgres,
}

impl Server {
    /// The same, with a connection to Postgres for each client.
    pub(super) fn unpooled(self) -> Option<Self> {
        match self {
            Self::Sidecar => Some(Self::UnpooledSidecar),
            Self::PgBouncer => Some(Self::UnpooledPgBouncer),
            Self::UnpooledSidecar | Self::UnpooledPgBouncer | Self::Postgres => None,
        }
    }
}

/// How a client reaches a server.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) port: u16,
    pub(super) password: String,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// Everything that is compared, running.
pub(super) struct Scene {
    pub(super) postgres: PathBuf,
    /// Where pgbench writes its logs.
    pub(super) folder: PathBuf,
    sidecar: Endpoint,
    unpooled_sidecar: Endpoint,
    pgbouncer: Endpoint,
    unpooled_pgbouncer: Endpoint,
    own: Endpoint,
    /// The sidecar that keeps connections.
    pooling: Process,
    pooler: Process,
    unpooled_pooler: Process,
    world: World,
}

impl Scene {
    pub(super) async fn new(programs: &Programs) -> anyhow::Result<Self> {
        let mut found = postern_world::Programs::find(&programs.binaries, &programs.repository)?;
        found.sidecar.clone_from(&programs.sidecar);
        let source = PostgresSource::Folder(programs.postgres.clone());
        let site = World::builder(found).tenants(["a"]).postgres(source).postgres_tcp(true).open()?;
        let mut world = site.build(|_| {}).await?;
        let pooler_ports = [world.free_address()?.port(), world.free_address()?.port()];
        let pooling_ports = [world.free_address()?, world.free_address()?, world.free_address()?];
        let tenant = world.tenant(0).context("no tenant")?;
        let (certificate, key) = world.client_certificate(tenant).await?;
        let secret = tenant.secrets().read_write.clone();
        let shown =
            |port| Endpoint { port, password: secret.clone(), certificate: certificate.clone(), key: key.clone() };
        let unpooled_sidecar = shown(tenant.database().address().port());
        let sidecar = shown(pooling_ports[0].port());
        let pooling = start_pooling(programs, &world, pooling_ports).await?;

        let password = world.password(tenant, ROLE).await?;
        let pki = Pki::new(&world)?;
        let plain = |port| Endpoint {
            port,
            password: password.clone(),
            certificate: pki.certificate.clone(),
            key: pki.key.clone(),
        };
        let ([pgbouncer, unpooled_pgbouncer], own) =
            (pooler_ports.map(plain), plain(tenant.database().postgres.port()));
        let pooler = start_pgbouncer(programs, &world, &pki, &pgbouncer, "pgbouncer", "").await?;
        let once = "server_lifetime = 0\n";
        let unpooled_pooler =
            start_pgbouncer(programs, &world, &pki, &unpooled_pgbouncer, "pgbouncer-unpooled", once).await?;
        let folder = world.state().folder("pgbench")?;
        let postgres = programs.postgres.clone();
        let scene = Self {
            postgres,
            folder,
            sidecar,
            unpooled_sidecar,
            pgbouncer,
            unpooled_pgbouncer,
            own,
            pooling,
            pooler,
            unpooled_pooler,
            world,
        };
        scene.secure_postgres(&pki).await?;
        Ok(scene)
    }

    pub(super) fn endpoint(&self, server: Server) -> &Endpoint {
        match server {
            Server::Sidecar => &self.sidecar,
            Server::UnpooledSidecar => &self.unpooled_sidecar,
            Server::PgBouncer => &self.pgbouncer,
            Server::UnpooledPgBouncer => &self.unpooled_pgbouncer,
            Server::Postgres => &self.own,
        }
    }

    /// The process that stands between the client and Postgres, where there is one.
    pub(super) fn pid(&self, server: Server) -> Option<u32> {
        match server {
            Server::Sidecar => self.pooling.pid(),
            Server::UnpooledSidecar => self.world.tenant(0).and_then(|tenant| tenant.database().sidecar.pid()),
            Server::PgBouncer => self.pooler.pid(),
            Server::UnpooledPgBouncer => self.unpooled_pooler.pid(),
            Server::Postgres => None,
        }
    }

    /// Runs statements as the superuser, past everything.
    pub(super) async fn administer(&self, statements: &[&str]) -> anyhow::Result<()> {
        let tenant = self.world.tenant(0).context("no tenant")?;
        let postgres = &tenant.database().postgres;
        let password = self.world.password(tenant, "postgres").await?;
        let mut command = Command::new(self.postgres.join("psql"));
        command.args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]);
        let host = postgres.socket_folder().display();
        command.arg(format!("--dbname=host={host} port={} user=postgres dbname=postgres", postgres.port()));
        for statement in statements {
            command.args(["--command", statement]);
        }
        let output = command.env("PGPASSWORD", password).output().await?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    async fn secure_postgres(&self, pki: &Pki) -> anyhow::Result<()> {
        let file = |name: &str, path: &Path| format!("alter system set {name} = '{}'", path.display());
        let settings = [
            file("ssl_cert_file", &pki.server_certificate),
            file("ssl_key_file", &pki.server_key),
            file("ssl_ca_file", &pki.root),
        ];
        let mut statements: Vec<&str> = settings.iter().map(String::as_str).collect();
        statements.extend(["alter system set ssl = on", "select pg_reload_conf()"]);
        self.administer(&statements).await
    }

    pub(super) async fn stop(mut self) {
        self.pooling.stop().await;
        self.pooler.stop().await;
        self.unpooled_pooler.stop().await;
        if let Err(error) = self.world.stop().await.remove() {
            crate::tell(&format!("the state stays: {error}"));
        }
    }
}

/// Starts one more sidecar in the database's CVM, before the same Postgres, that keeps as many connections as PgBouncer may.
async fn start_pooling(
    programs: &Programs,
    world: &World,
    [listen, admin, http]: [SocketAddr; 3],
) -> anyhow::Result<Process> {
    let database = world.tenant(0).context("no tenant")?.database();
    let state = world.state().folder("bench/state")?;
    let config = database.sidecar.config().display().to_string();
    let mut recipe = Recipe::new("sidecar-pooling", &programs.sidecar).arguments([
        "serve".to_owned(),
        "--config".to_owned(),
        config,
    ]);
    let changes = [
        ("LISTEN__ADDRESSES", format!("[\"{listen}\"]")),
        ("ADMIN__LISTEN", format!("\"{admin}\"")),
        ("HTTP__LISTEN", format!("\"{http}\"")),
        ("ATTESTATION__STATE_DIR", format!("\"{}\"", state.display())),
        // A gateway has one tunnel to an instance, which is the other sidecar's.
        ("GATEWAYS", "[]".to_owned()),
        ("POSTGRES__POOL__SIZE", POOL.to_string()),
    ];
    recipe.environment.extend(changes.map(|(key, value)| (format!("POSTERN_SIDECAR__{key}"), value)));
    let mut process = recipe.start(world.state())?;
    process.ready(READY, async || Admin(admin).ready().await).await?;
    Ok(process)
}

async fn start_pgbouncer(
    programs: &Programs,
    world: &World,
    pki: &Pki,
    endpoint: &Endpoint,
    name: &str,
    more: &str,
) -> anyhow::Result<Process> {
    let postgres = &world.tenant(0).context("no tenant")?.database().postgres;
    let users = postgres.write(&format!("{name}-users.txt"), format!("\"{ROLE}\" \"{}\"\n", endpoint.password))?;
    // Like the sidecar, it asks for the password in TLS and logs in to Postgres over the socket with SCRAM.
    let config = format!(
        "[databases]\n\
         postgres = host={socket} port={port} dbname=postgres\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {listen}\nunix_socket_dir =\n\
         auth_type = plain\nauth_file = {users}\n\
         pool_mode = session\ndefault_pool_size = {POOL}\nmax_client_conn = 1000\n\
         client_tls_sslmode = verify-ca\nclient_tls_protocols = secure\nclient_tls_ca_file = {root}\n\
         client_tls_cert_file = {certificate}\nclient_tls_key_file = {key}\n\
         log_connections = 0\nlog_disconnections = 0\n{more}",
        socket = postgres.socket_folder().display(),
        port = postgres.port(),
        listen = endpoint.port,
        users = users.display(),
        root = pki.root.display(),
        certificate = pki.server_certificate.display(),
        key = pki.server_key.display(),
    );
    let config = postgres.write(&format!("{name}.ini"), config)?;
    // A copy, as it runs as another user, to whom the repository may be closed.
    let copy = world.state().copy(&programs.pgbouncer, name)?;
    let mut recipe = Recipe::new(name, copy.join("pgbouncer")).arguments([config.display().to_string()]);
    recipe.environment.push(("LD_LIBRARY_PATH".to_owned(), copy.display().to_string()));
    let mut process = postgres.companion(recipe).start(world.state())?;
    let port = endpoint.port;
    let probe = async || TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string());
    process.ready(READY, probe).await?;
    Ok(process)
}
