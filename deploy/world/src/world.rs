//! Builds, changes and stops a whole cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;
use postern_identity::AppId;

use crate::chain::ChainClient;
use crate::config::Connect;
use crate::gateway::{Addresses, Gateway};
use crate::governance::CollateralService;
use crate::groundwork::{Foundation, Groundwork, Wishes};
use crate::impostor::{Disguise, Impostor};
use crate::ports::Ports;
use crate::postgres::Installation;
use crate::programs::Programs;
use crate::registrar::Registrar;
use crate::sidecar::{self, Sidecar};
use crate::tap::{TcpTap, UdpTap};
use crate::tenant::{self, Plot, Tenant};
use crate::{Admin, Platform, PostgresSource, State, WorldError};

/// What a world is to be like.
#[derive(Debug)]
pub struct WorldBuilder {
    programs: Programs,
    state: Option<PathBuf>,
    tenants: Vec<String>,
    postgres: PostgresSource,
    postgres_tcp: bool,
    taps: bool,
    keys: Keys,
}

/// What tenants' sidecars are told beyond the usual, as lines of TOML.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keys {
    /// Beside databases, about their clients.
    pub clients: &'static str,
    /// Beside applications, about their drivers.
    pub drivers: &'static str,
}

impl WorldBuilder {
    /// Keeps the state in this folder instead of a new one among the system's temporary files.
    #[must_use]
    pub fn state(mut self, folder: Option<PathBuf>) -> Self {
        self.state = folder;
        self
    }

    /// The tenants, by names that are fit for file names; two, `a` and `b`, when nothing is said.
    #[must_use]
    pub fn tenants<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.tenants = names.into_iter().map(Into::into).collect();
        self
    }

    /// Where the PostgreSQL programs come from.
    #[must_use]
    pub fn postgres(mut self, source: PostgresSource) -> Self {
        self.postgres = source;
        self
    }

    /// Whether Postgres also listens on a TCP port, past the sidecar. Only for comparisons.
    #[must_use]
    pub fn postgres_tcp(mut self, tcp: bool) -> Self {
        self.postgres_tcp = tcp;
        self
    }

    /// What the tenants' sidecars are told beyond the usual.
    #[must_use]
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// Whether eavesdroppers sit before and behind the gateway. They cost throughput.
    #[must_use]
    pub fn taps(mut self, taps: bool) -> Self {
        self.taps = taps;
        self
    }

    /// Opens the state folder, in which everything happens that follows.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(self) -> Result<WorldSite, WorldError> {
        let state = State::open(self.state.as_deref())?;
        Ok(WorldSite { builder: self, state })
    }
}

/// A world that has its folder, and nothing in it yet.
#[derive(Debug)]
pub struct WorldSite {
    builder: WorldBuilder,
    state: State,
}

impl WorldSite {
    /// The folder, which stays when the world is not built.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.state.root()
    }

    /// Starts every part and waits until all of them are ready. `progress` is told what is being done.
    ///
    /// Dropping the future stops what was started so far.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn build(self, progress: impl Fn(&str)) -> Result<World, WorldError> {
        let Self { builder, state } = self;
        let WorldBuilder { programs, tenants: names, postgres, postgres_tcp, taps, keys, .. } = builder;
        progress("starting the chain and deploying the contracts");
        let mut groundwork = Groundwork::lay(state, programs, names.len() + 1).await?;

        progress("starting the gateway");
        let addresses = Addresses::new(&mut groundwork.ports)?;
        let taps = if taps { Some(Taps::start(&mut groundwork.ports, addresses).await?) } else { None };
        let tunnel_endpoint = taps.as_ref().map(|taps| taps.tunnel.address());
        let gateway = groundwork.gateway(addresses, Wishes { tunnel_endpoint, ..Wishes::default() }).await?;

        progress("starting the tenants: two CVMs each, with a Postgres and an application");
        let installation = Installation::locate(&postgres, &groundwork.programs.repository, &groundwork.state).await?;
        let public = taps.as_ref().map_or(addresses.edge, |taps| taps.public.address());
        let mut plots = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            plots.push(Plot::new(name, groundwork.chain.key(number + 1)?, postgres_tcp, &mut groundwork.ports)?);
        }
        let ground = Ground {
            foundation: groundwork.foundation(),
            installation: &installation,
            gateway: &gateway,
            public,
            chain: groundwork.chain.client(),
            collateral: groundwork.collateral(),
            keys,
        };
        let tenants = try_join_all(plots.into_iter().map(|plot| plot.build(&ground))).await?;
        Ok(World { tenants, gateway, taps, groundwork })
    }
}

/// What is there before a tenant.
pub(crate) struct Ground<'a> {
    pub(crate) foundation: Foundation<'a>,
    pub(crate) installation: &'a Installation,
    pub(crate) gateway: &'a Gateway,
    /// Where clients connect.
    pub(crate) public: SocketAddr,
    pub(crate) chain: ChainClient,
    pub(crate) collateral: &'a CollateralService,
    pub(crate) keys: Keys,
}

/// The eavesdroppers around the gateway.
#[derive(Debug)]
pub struct Taps {
    public: TcpTap,
    tunnel: UdpTap,
}

impl Taps {
    async fn start(ports: &mut Ports, gateway: Addresses) -> Result<Self, WorldError> {
        let failed = |source| WorldError::Start { program: "a tap".into(), source };
        let public = TcpTap::start(ports.address()?, gateway.edge).await.map_err(failed)?;
        let tunnel = UdpTap::start(ports.address()?, gateway.tunnel).await.map_err(failed)?;
        Ok(Self { public, tunnel })
    }

    /// Before the gateway's public port.
    #[must_use]
    pub fn public(&self) -> &TcpTap {
        &self.public
    }

    /// Between the gateway and the sidecars, where everything is inside the tunnel's own encryption.
    #[must_use]
    pub fn tunnel(&self) -> &UdpTap {
        &self.tunnel
    }
}

/// A running cluster: a chain, a gateway, and two CVMs per tenant.
///
/// [`World::stop`] ends it in order. Dropping it stops every process, too, and blocks while it does.
#[derive(Debug)]
pub struct World {
    // The fields are dropped in this order, which is also the one in which the parts are stopped.
    tenants: Vec<Tenant>,
    gateway: Gateway,
    taps: Option<Taps>,
    groundwork: Groundwork,
}

impl World {
    /// Describes a world of these programs.
    #[must_use]
    pub fn builder(programs: Programs) -> WorldBuilder {
        let tenants = vec!["a".to_owned(), "b".to_owned()];
        let postgres = PostgresSource::default();
        let keys = Keys::default();
        WorldBuilder { programs, state: None, tenants, postgres, postgres_tcp: false, taps: false, keys }
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.taps.as_ref().map_or(self.gateway.address(), |taps| taps.public.address())
    }

    /// The tenants.
    #[must_use]
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// A tenant by its number.
    #[must_use]
    pub fn tenant(&self, number: usize) -> Option<&Tenant> {
        self.tenants.get(number)
    }

    /// A tenant by its number, to break parts of it.
    pub fn tenant_mut(&mut self, number: usize) -> Option<&mut Tenant> {
        self.tenants.get_mut(number)
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The gateway, to break it.
    pub fn gateway_mut(&mut self) -> &mut Gateway {
        &mut self.gateway
    }

    /// Who asks the chain.
    #[must_use]
    pub fn chain(&self) -> ChainClient {
        self.groundwork.chain.client()
    }

    /// The administrator of the contracts.
    #[must_use]
    pub fn registrar(&self) -> &Registrar {
        &self.groundwork.registrar
    }

    /// The simulated platform.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.groundwork.platform
    }

    /// The eavesdroppers, if they were asked for.
    #[must_use]
    pub fn taps(&self) -> Option<&Taps> {
        self.taps.as_ref()
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.groundwork.state
    }

    /// Has the `sidecar` program write a client certificate that carries the quote of a tenant's application CVM, for
    /// drivers that do TLS themselves. Gives the files with the certificate and its key.
    ///
    /// # Errors
    /// When the program fails.
    pub async fn client_certificate(&self, tenant: &Tenant) -> Result<(PathBuf, PathBuf), WorldError> {
        sidecar::certificate(&self.groundwork.programs.sidecar, &tenant.application().guest).await
    }

    /// Has the `sidecar` program judge what a tenant's database says about itself in HTTP, and gives its report as JSON.
    ///
    /// # Errors
    /// When the program does not accept it.
    pub async fn attestation(&self, tenant: &Tenant) -> Result<String, WorldError> {
        sidecar::judge_attestation(&self.groundwork.programs.sidecar, &self.groundwork.platform, &tenant.database).await
    }

    /// The password that a role has in a tenant's Postgres, which only the database CVM's keys give; for what goes past the
    /// sidecar.
    ///
    /// # Errors
    /// When the `sidecar` program fails.
    pub async fn password(&self, tenant: &Tenant, role: &str) -> Result<String, WorldError> {
        let guest = &tenant.database().guest;
        let file = sidecar::password(&self.groundwork.programs.sidecar, guest.folder(), guest.socket(), role).await?;
        let password = std::fs::read_to_string(&file).map_err(|error| WorldError::file(&file, error))?;
        std::fs::remove_file(&file).map_err(|error| WorldError::file(&file, error))?;
        Ok(password.trim_end().to_owned())
    }

    /// One more address on which nobody listens.
    ///
    /// # Errors
    /// When there is none.
    pub fn free_address(&mut self) -> Result<SocketAddr, WorldError> {
        self.groundwork.ports.address()
    }

    /// Starts one more sidecar in connect mode in a tenant's application CVM, towards any name and with any expectation of
    /// what stands behind it. Gives the sidecar and where it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn connect_mode(
        &mut self,
        tenant: usize,
        host: &str,
        expected: AppId,
    ) -> Result<(Sidecar, SocketAddr), WorldError> {
        let (listen, admin) = (self.groundwork.ports.address()?, Admin(self.groundwork.ports.address()?));
        let (tenant, foundation) = (self.existing(tenant)?, self.groundwork.foundation());
        let connect = Connect { listen, host, gateway: self.address(), expected, drivers: "" };
        let name = format!("{}-application-{}", tenant.name(), listen.port());
        let sidecar = tenant::connect_mode(foundation, &tenant.application().guest, &name, &connect, admin).await?;
        Ok((sidecar, listen))
    }

    /// Boots one more CVM that claims to be of a tenant's database application, and starts its sidecar, which tries to
    /// register. `disguise` changes what it boots and what its quotes say.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn impostor(&mut self, tenant: usize, disguise: Disguise) -> Result<Impostor, WorldError> {
        let admin = Admin(self.groundwork.ports.address()?);
        let (tenant, foundation) = (self.existing(tenant)?, self.groundwork.foundation());
        tenant.impostor(foundation, disguise, admin).await
    }

    fn existing(&self, tenant: usize) -> Result<&Tenant, WorldError> {
        let missing = || WorldError::Missing(format!("there are only {} tenants", self.tenants.len()));
        self.tenants.get(tenant).ok_or_else(missing)
    }

    /// The programs that it was built of.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.groundwork.programs
    }

    /// Stops every part, in order: who depends on another goes first. Gives the state folder back.
    pub async fn stop(mut self) -> State {
        for tenant in &mut self.tenants {
            tenant.stop().await;
        }
        self.gateway.process().stop().await;
        self.gateway.guest.agent().stop().await;
        self.groundwork.stop().await
    }
}
