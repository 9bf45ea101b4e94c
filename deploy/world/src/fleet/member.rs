//! One tenant of a fleet.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use postern_identity::AppId;

use super::{Fleet, HostedGuest};
use crate::config::{Serve, common, listen};
use crate::gateway::DOMAIN;
use crate::governance::by_file;
use crate::groundwork::compose;
use crate::registrar::Registrar;
use crate::sidecar::{self, Sidecar};
use crate::{Admin, State, WorldError};

/// The port inside the tunnel on which sessions arrive when a sidecar is told nothing else.
const INNER_PORT: u16 = 5433;

/// One tenant: an app on the chain, the CVM with its sidecar and database, and the CVM of its clients.
#[derive(Debug)]
pub struct Member {
    sidecar: Sidecar,
    direct: Option<SocketAddr>,
    name: String,
    host: String,
    role: String,
    secret: String,
    database: HostedGuest,
    clients: HostedGuest,
    compose_file: PathBuf,
    registrar: Registrar,
}

impl Member {
    /// Creates the app, boots the CVMs, makes the database, and waits until the sidecar serves and is registered.
    pub(super) async fn build(
        fleet: &Fleet,
        number: usize,
        key: PathBuf,
        (admin, direct): (SocketAddr, Option<SocketAddr>),
    ) -> Result<Self, WorldError> {
        let (state, platform, admin) = (&fleet.groundwork.state, &fleet.groundwork.platform, Admin(admin));
        let name = format!("t{number:03}");
        let registrar = fleet.groundwork.registrar.signing_with(key);
        let of_database = compose(&name);
        let compose_file = state.write(Path::new(&name).join("app-compose.json"), &of_database)?;
        let app_id = registrar.create_app(&compose_file).await?;
        let database = HostedGuest::boot(state, platform, &name, app_id, of_database)?;
        let clients = format!("{name}-clients");
        let of_clients = compose(&clients);
        let clients = HostedGuest::boot(state, platform, &clients, AppId(rand::random()), of_clients)?;

        let (role, secret) = (format!("{name}_app"), hex::encode(rand::random::<[u8; 32]>()));
        let secret_file = state.write(Path::new(&name).join("secret"), &secret)?;
        let superuser = format!("{name}_admin");
        let program = &fleet.groundwork.programs.sidecar;
        // The superuser's password is called so, whatever the superuser is called.
        let file = sidecar::password(program, database.folder(), database.socket(), "postgres").await?;
        let password = std::fs::read_to_string(&file).map_err(|error| WorldError::file(&file, error))?;
        std::fs::remove_file(&file).map_err(|error| WorldError::file(&file, error))?;
        let place = fleet.databases.make(number, &name, password.trim_end()).await?;

        let serve = Serve {
            socket_folder: place.socket_folder,
            postgres_port: place.port,
            superuser: &superuser,
            database: &name,
            roles: &[(&role, secret_file)],
            client: clients.cvm().app_id(),
            clients: "",
            chain: None,
            gateway: fleet.gateway.guest.cvm().app_id(),
            registration: fleet.gateway.registration(),
        };
        // All clients of a run come from one address, and hold their sessions until somebody ends them.
        let limits = format!(
            "\n[limits]\nsessions = {0}\nhandshakes = {0}\nhandshakes_per_source = {0}\ndrain = \"1s\"\n",
            fleet.sessions.max(512)
        );
        let config = common(database.socket(), &by_file(platform), admin)
            + &listen(direct.as_slice())
            + &serve.to_toml()
            + &limits;
        let mut sidecar =
            Sidecar::prepare(state, program, &sidecar_of(&name), "serve", &config, admin)?.start(state)?;
        sidecar.ready().await?;
        let host = format!("{app_id}s.{DOMAIN}");
        Ok(Self { sidecar, direct, name, host, role, secret, database, clients, compose_file, registrar })
    }

    /// What it is called in logs and folders; its database has the same name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name under which its database is reached through the gateway.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where its sidecar listens past the gateway, when that was asked for.
    #[must_use]
    pub fn direct(&self) -> Option<SocketAddr> {
        self.direct
    }

    /// Where its sidecar listens inside the gateway's tunnels, as its log says since it has registered.
    ///
    /// # Errors
    /// When the log does not say so.
    pub fn inner(&self, state: &State) -> Result<SocketAddr, WorldError> {
        let log = state.log(&sidecar_of(&self.name));
        let text = std::fs::read_to_string(&log).map_err(|error| WorldError::file(&log, error))?;
        let missing = || WorldError::Missing(format!("{} does not say that it has registered", log.display()));
        registered(&text).map(|address| SocketAddr::new(address, INNER_PORT)).ok_or_else(missing)
    }

    /// The app of its database.
    #[must_use]
    pub fn app_id(&self) -> AppId {
        self.database.cvm().app_id()
    }

    /// The role that its clients log in as, and the secret that opens it.
    #[must_use]
    pub fn login(&self) -> (&str, &str) {
        (&self.role, &self.secret)
    }

    /// The CVM of its clients.
    #[must_use]
    pub fn clients(&self) -> &HostedGuest {
        &self.clients
    }

    /// Its sidecar, to break it.
    pub fn sidecar_mut(&mut self) -> &mut Sidecar {
        &mut self.sidecar
    }

    /// Forbids its database on the chain, and says in which block.
    ///
    /// # Errors
    /// When the registrar fails.
    pub async fn forbid(&self) -> Result<u64, WorldError> {
        self.registrar.change_compose("remove", self.app_id(), &self.compose_file).await
    }

    /// Allows its database on the chain again, and says in which block.
    ///
    /// # Errors
    /// When the registrar fails.
    pub async fn allow(&self) -> Result<u64, WorldError> {
        self.registrar.change_compose("add", self.app_id(), &self.compose_file).await
    }

    pub(super) async fn stop(&mut self) {
        self.sidecar.process().stop().await;
    }
}

/// What the sidecar of a tenant is called among the processes and in logs.
fn sidecar_of(tenant: &str) -> String {
    format!("{tenant}-sidecar")
}

/// The address that a sidecar was last given at registration, from its log.
fn registered(log: &str) -> Option<IpAddr> {
    let address = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = line.get("message")?.as_str()? == "registered";
        line.get("address")?.as_str().filter(|_| is_it)?.parse().ok()
    };
    log.lines().rev().find_map(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_registration_counts() {
        let line = |message: &str, address: &str| format!("{{\"message\":\"{message}\",\"address\":\"{address}\"}}\n");
        let log = line("registered", "10.74.0.2")
            + "no json\n"
            + &line("registered", "10.74.0.9")
            + &line("left", "10.74.0.1");
        assert_eq!(registered(&log), Some(IpAddr::from([10, 74, 0, 9])));
        assert_eq!(registered(&line("left", "10.74.0.1")), None);
    }
}
