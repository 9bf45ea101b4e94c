//! The gateway, in a simulated CVM of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::chain::ChainClient;
use crate::governance::{CollateralService, by_service};
use crate::groundwork::Wishes;
use crate::ports::Ports;
use crate::programs::Programs;
use crate::{Admin, Guest, Platform, Process, Recipe, State, WorldError};

/// The domain under which every app of a world has its name.
pub const DOMAIN: &str = "postern.test";

const READY: Duration = Duration::from_secs(60);

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    /// The CVM that it runs in.
    pub guest: Guest,
    process: Process,
    addresses: Addresses,
}

/// Where the gateway listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    /// What is 5432 elsewhere, and what is 443.
    pub(crate) edge: SocketAddr,
    pub(crate) edge_https: SocketAddr,
    pub(crate) registration: SocketAddr,
    pub(crate) tunnel: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Addresses {
    pub(crate) fn new(ports: &mut Ports) -> Result<Self, WorldError> {
        Ok(Self {
            edge: ports.address()?,
            edge_https: ports.address()?,
            registration: ports.address()?,
            tunnel: ports.address()?,
            admin: ports.address()?,
        })
    }
}

/// What a gateway needs besides its addresses.
pub(crate) struct Surroundings<'a> {
    pub(crate) state: &'a State,
    pub(crate) programs: &'a Programs,
    pub(crate) platform: &'a Platform,
    pub(crate) collateral: &'a CollateralService,
    pub(crate) chain: ChainClient,
    pub(crate) kms: &'a str,
    pub(crate) wishes: Wishes,
}

/// How a gateway's packets become connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Datapath {
    /// In the process, without privileges.
    #[default]
    Netstack,
    /// A network interface and the kernel's TCP. It needs CAP_NET_ADMIN, and changes the network that it is started in.
    Tun,
}

impl Datapath {
    fn word(self) -> &'static str {
        match self {
            Self::Netstack => "netstack",
            Self::Tun => "tun",
        }
    }
}

/// What a gateway is to bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once, in all.
    pub connections: u32,
    /// Connections at once to one app.
    pub connections_per_app: u32,
}

impl Bounds {
    /// All instances of a fleet come from one address here, so that one source has as much judged as all sources together.
    const APPRAISALS: &'static str = "appraisals_per_minute = 1000000\nappraisals_burst = 10000\n";

    fn to_toml(self) -> String {
        let Self { connections, connections_per_app } = self;
        // Clients of a fleet hold their sessions until somebody ends them.
        format!(
            "\n[limits]\nconnections = {connections}\nconnections_per_app = {connections_per_app}\ndrain = \"1s\"\n"
        )
    }
}

impl Gateway {
    pub(crate) async fn start(
        guest: Guest,
        addresses: Addresses,
        surroundings: &Surroundings<'_>,
    ) -> Result<Self, WorldError> {
        let config = surroundings.config(&guest, addresses)?;
        let recipe = Recipe::new("gateway", &surroundings.programs.gateway)
            .arguments(["--config".to_owned(), config.display().to_string()]);
        let mut gateway = Self { guest, process: recipe.start(surroundings.state)?, addresses };
        gateway.ready().await?;
        Ok(gateway)
    }

    /// Where clients connect: what is port 5432 in production.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses.edge
    }

    /// Where clients connect from networks that let only HTTPS out: what is port 443 in production.
    #[must_use]
    pub fn https_address(&self) -> SocketAddr {
        self.addresses.edge_https
    }

    /// Where CVMs register.
    #[must_use]
    pub fn registration(&self) -> SocketAddr {
        self.addresses.registration
    }

    /// Where it tells operators how it is.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin(self.addresses.admin)
    }

    /// Starts it anew with other bounds; returns as soon as the program runs.
    pub(crate) async fn restart(&mut self, surroundings: &Surroundings<'_>) -> Result<(), WorldError> {
        surroundings.config(&self.guest, self.addresses)?;
        self.process.stop().await;
        self.process.start()
    }

    /// Kills it as a crash would and starts it again; returns as soon as the program runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn crash(&mut self) -> Result<(), WorldError> {
        self.process.kill().await;
        self.process.start()
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ready(&mut self) -> Result<(), WorldError> {
        let admin = self.admin();
        self.process.ready(READY, async || admin.ready().await).await
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Surroundings<'_> {
    fn config(&self, guest: &Guest, addresses: Addresses) -> Result<PathBuf, WorldError> {
        let kept = self.state.folder(guest.folder().join("state"))?;
        let mut attestation = by_service(self.platform, self.collateral, &kept);
        let mut limits = String::new();
        if let Some(bounds) = self.wishes.bounds {
            attestation += Bounds::APPRAISALS;
            limits = bounds.to_toml();
        }
        let text = format!(
            r#"[edge]
domains = ["{DOMAIN}"]
listen = ["{edge}", "{edge_https}"]

[admin]
listen = "{admin}"

[registration]
listen = "{registration}"
url = "https://{registration}"

[agent]
endpoint = "unix:{agent}"

{attestation}
[wireguard]
listen = "{tunnel}"
endpoint = "{tunnel_endpoint}"
datapath = "{datapath}"

[chain]
rpc_urls = ["{chain}"]
kms_contract = "{kms}"

[audit]
file = "{audit}"

[log]
format = "json"
{limits}"#,
            edge = addresses.edge,
            edge_https = addresses.edge_https,
            admin = addresses.admin,
            registration = addresses.registration,
            agent = guest.socket().display(),
            tunnel = addresses.tunnel,
            tunnel_endpoint = self.wishes.tunnel_endpoint.unwrap_or(addresses.tunnel),
            datapath = self.wishes.datapath.word(),
            chain = self.chain.url(),
            kms = self.kms,
            audit = self.state.folder("gateway")?.join("audit.jsonl").display(),
        );
        self.state.write("gateway/gateway.toml", text)
    }
}
