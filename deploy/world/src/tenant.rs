//! A tenant: a Postgres in one simulated CVM, and an application in another.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::{Connect, Serve, common, http, listen};
use crate::gateway::DOMAIN;
use crate::governance::{SignedPolicy, by_file, by_policy};
use crate::groundwork::Foundation;
use crate::ports::Ports;
use crate::postgres::Settings;
use crate::registrar::Registrar;
use crate::sidecar::{self, Sidecar};
use crate::world::Ground;
use crate::{Admin, Guest, Postgres, WorldError};

/// What opens a tenant's database: 64 hex digits per role, known to the tenant's applications.
#[derive(Clone)]
pub struct Secrets {
    /// For `teesql_read`.
    pub read: String,
    /// For `teesql_readwrite`.
    pub read_write: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets([redacted])")
    }
}

impl Secrets {
    pub(crate) fn random() -> Self {
        let secret = || hex::encode(rand::random::<[u8; 32]>());
        Self { read: secret(), read_write: secret() }
    }
}

/// The CVM with the database.
#[derive(Debug)]
pub struct Database {
    /// The sidecar in serve mode, stopped first.
    pub sidecar: Sidecar,
    /// The database itself.
    pub postgres: Postgres,
    /// The CVM.
    pub guest: Guest,
    /// What its sidecar judges clients and gateways by.
    pub policy: SignedPolicy,
    address: SocketAddr,
    /// What serve mode was told beyond what both modes are told, but for its own ports.
    pub(crate) serve: String,
    pub(crate) public: SocketAddr,
}

impl Database {
    /// Where everybody reads its attestation in HTTP.
    #[must_use]
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Where clients connect to the sidecar without a gateway.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The CVM with the application: its driver speaks plain Postgres to a sidecar in connect mode.
#[derive(Debug)]
pub struct Application {
    /// The sidecar in connect mode, stopped first.
    pub sidecar: Sidecar,
    /// The CVM.
    pub guest: Guest,
    pub(crate) address: SocketAddr,
}

impl Application {
    /// Where drivers inside the CVM connect, without TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One tenant of a world.
#[derive(Debug)]
pub struct Tenant {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) secrets: Secrets,
    registrar: Registrar,
    pub(crate) application: Application,
    pub(crate) database: Database,
}

impl Tenant {
    /// What it is called in logs and folders.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name under which its database is reached through the gateway.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What opens its database.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Who governs its applications on chain.
    #[must_use]
    pub fn registrar(&self) -> &Registrar {
        &self.registrar
    }

    /// The CVM with the application.
    #[must_use]
    pub fn application(&self) -> &Application {
        &self.application
    }

    /// The CVM with the database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The CVM with the database, to break parts of it.
    pub fn database_mut(&mut self) -> &mut Database {
        &mut self.database
    }

    /// Stops everything in the tenant's CVMs, applications first.
    pub(crate) async fn stop(&mut self) {
        self.application.sidecar.process().stop().await;
        self.database.sidecar.process().stop().await;
        self.database.postgres.process().stop().await;
        self.application.guest.agent().stop().await;
        self.database.guest.agent().stop().await;
    }
}

/// A tenant to be: its name, the key that governs its applications, and its ports.
pub(crate) struct Plot {
    name: String,
    owner: PathBuf,
    database_admin: Admin,
    database: SocketAddr,
    postgres: Settings,
    application_admin: Admin,
    application: SocketAddr,
    public: SocketAddr,
}

impl Plot {
    /// `tcp`: whether its Postgres also listens without a sidecar.
    pub(crate) fn new(name: String, owner: PathBuf, tcp: bool, ports: &mut Ports) -> Result<Self, WorldError> {
        let tcp = if tcp { Some(ports.address()?) } else { None };
        Ok(Self {
            name,
            owner,
            database_admin: Admin(ports.address()?),
            database: ports.address()?,
            postgres: Settings { tcp, ..Settings::default() },
            application_admin: Admin(ports.address()?),
            application: ports.address()?,
            public: ports.address()?,
        })
    }

    /// Creates both applications on chain, boots their CVMs and starts what runs in them.
    pub(crate) async fn build(self, ground: &Ground<'_>) -> Result<Tenant, WorldError> {
        let registrar = ground.foundation.registrar.signing_with(self.owner.clone());
        let foundation = Foundation { registrar: &registrar, ..ground.foundation };
        let new_app = async |part: &str| {
            foundation.new_app(&format!("{}/{part}", self.name), &format!("{}-{part}", self.name)).await
        };
        let database = new_app("database").await?;
        let application = new_app("application").await?;
        let host = format!("{}s.{DOMAIN}", database.cvm().app_id());
        let secrets = Secrets::random();
        let database = self.database(ground, database, &application, &secrets).await?;
        let application = self.application(ground, application, &database.guest, &host).await?;
        Ok(Tenant { name: self.name, host, secrets, registrar, application, database })
    }

    async fn database(
        &self,
        ground: &Ground<'_>,
        guest: Guest,
        application: &Guest,
        secrets: &Secrets,
    ) -> Result<Database, WorldError> {
        let Foundation { state, programs, platform, registrar } = ground.foundation;
        let secrets = [("teesql_read", &secrets.read), ("teesql_readwrite", &secrets.read_write)];
        let [read, read_write] = secrets.map(|(role, secret)| {
            state.write(guest.folder().join("secrets").join(role), secret).map(|file| (role, file))
        });
        let socket_folder = guest.folder().join("postgres");
        let serve = Serve {
            socket_folder: &socket_folder,
            postgres_port: self.postgres.port(),
            superuser: "postgres",
            database: "postgres",
            roles: &[read?, read_write?],
            client: application.cvm().app_id(),
            clients: ground.keys.clients,
            chain: Some((ground.chain, registrar.kms())),
            gateway: ground.gateway.guest.cvm().app_id(),
            registration: ground.gateway.registration(),
        };
        let serve = serve.to_toml();
        let policy = SignedPolicy::new(guest.folder(), platform)?;
        let kept = state.folder(guest.folder().join("state"))?;
        let attestation = by_policy(&policy, platform, ground.collateral, &kept);
        let ports = listen(&[self.database]) + &http(self.public);
        let config = common(guest.socket(), &attestation, self.database_admin) + &ports + &serve;
        let name = format!("{}-database", self.name);
        let sidecar = Sidecar::prepare(state, &programs.sidecar, &name, "serve", &config, self.database_admin)?;
        let password = sidecar::password(&programs.sidecar, guest.folder(), guest.socket(), "postgres").await?;
        let postgres_name = format!("{}-postgres", self.name);
        let (installation, settings) = (ground.installation, self.postgres.clone());
        let postgres =
            Postgres::start(state, installation, settings, &postgres_name, &socket_folder, &password).await?;
        let mut sidecar = sidecar.start(state)?;
        sidecar.ready().await?;
        Ok(Database { sidecar, postgres, guest, policy, address: self.database, serve, public: self.public })
    }

    async fn application(
        &self,
        ground: &Ground<'_>,
        guest: Guest,
        database: &Guest,
        host: &str,
    ) -> Result<Application, WorldError> {
        let connect = Connect {
            listen: self.application,
            host,
            gateway: ground.public,
            expected: database.cvm().app_id(),
            drivers: ground.keys.drivers,
        };
        let name = format!("{}-application", self.name);
        let sidecar = connect_mode(ground.foundation, &guest, &name, &connect, self.application_admin).await?;
        Ok(Application { sidecar, guest, address: self.application })
    }
}

/// Starts a sidecar in connect mode in a CVM.
pub(crate) async fn connect_mode(
    foundation: Foundation<'_>,
    guest: &Guest,
    name: &str,
    connect: &Connect<'_>,
    admin: Admin,
) -> Result<Sidecar, WorldError> {
    let Foundation { state, programs, platform, .. } = foundation;
    let config = common(guest.socket(), &by_file(platform), admin) + &connect.to_toml();
    let mut sidecar = Sidecar::prepare(state, &programs.sidecar, name, "connect", &config, admin)?.start(state)?;
    sidecar.ready().await?;
    Ok(sidecar)
}
