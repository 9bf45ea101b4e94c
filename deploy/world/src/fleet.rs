//! A fleet for load tests: one gateway and any number of tenants, with as little around them as the work allows.
//!
//! A [`World`](crate::World) is made to be looked at; a fleet is made to be large. What takes part in the work is the same
//! program with the same checks: a gateway, a chain that it asks, and per tenant an app on that chain, a sidecar process with
//! its own attested identity and a database with its own roles. What only stands around is spared: guest agents are served
//! by this process instead of one process each, clients are to speak to the gateway themselves, their apps are not on the
//! chain since the sidecars of a fleet do not ask it about clients, and one PostgreSQL can hold the databases of all tenants.

mod databases;
mod hosted;
mod member;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::gateway::{Addresses, Bounds, Datapath, Gateway};
use crate::groundwork::{Groundwork, Wishes};
use crate::link::Link;
use crate::postgres::Installation;
use crate::programs::Programs;
use crate::{Platform, PostgresSource, State, WorldError};

use databases::Databases;
pub use databases::Servers;
pub use hosted::HostedGuest;
pub use member::Member;

/// How many tenants are built at once. Most of the time each of them waits for a block.
const AT_ONCE: usize = 24;

/// What a fleet is to be like.
#[derive(Debug)]
pub struct FleetBuilder {
    programs: Programs,
    state: Option<PathBuf>,
    tenants: usize,
    postgres: PostgresSource,
    servers: Servers,
    sessions: u32,
    bounds: Bounds,
    link: bool,
    direct: bool,
    datapath: Datapath,
}

impl FleetBuilder {
    /// A fleet of so many tenants, each of which may have so many sessions at once.
    #[must_use]
    pub fn new(programs: Programs, tenants: usize, sessions: u32) -> Self {
        Self {
            programs,
            state: None,
            tenants,
            postgres: PostgresSource::default(),
            servers: Servers::Shared,
            sessions,
            bounds: Bounds { connections: 100_000, connections_per_app: 100_000 },
            link: false,
            direct: false,
            datapath: Datapath::default(),
        }
    }

    /// Keeps the state in this folder instead of a new one among the system's temporary files.
    #[must_use]
    pub fn state(mut self, folder: Option<PathBuf>) -> Self {
        self.state = folder;
        self
    }

    /// Where the PostgreSQL programs come from.
    #[must_use]
    pub fn postgres(mut self, source: PostgresSource) -> Self {
        self.postgres = source;
        self
    }

    /// Whether tenants share one PostgreSQL server.
    #[must_use]
    pub fn servers(mut self, servers: Servers) -> Self {
        self.servers = servers;
        self
    }

    /// What the gateway is to bear.
    #[must_use]
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Whether a stage stands between the gateway and the tunnels' far ends, on which packets can be lost. It costs
    /// throughput also in good weather.
    #[must_use]
    pub fn link(mut self, link: bool) -> Self {
        self.link = link;
        self
    }

    /// Whether sidecars also listen on a TCP port of their own, past the gateway and its tunnels. Only for comparisons.
    #[must_use]
    pub fn direct(mut self, direct: bool) -> Self {
        self.direct = direct;
        self
    }

    /// How the gateway's packets become connections. Sidecars do without privileges whatever the gateway does.
    #[must_use]
    pub fn datapath(mut self, datapath: Datapath) -> Self {
        self.datapath = datapath;
        self
    }

    /// Opens the state folder, in which everything happens that follows. What a killed fleet left behind is stopped.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(self) -> Result<FleetSite, WorldError> {
        let state = State::open(self.state.as_deref())?;
        Ok(FleetSite { builder: self, state })
    }
}

/// A fleet that has its folder, and nothing in it yet.
#[derive(Debug)]
pub struct FleetSite {
    builder: FleetBuilder,
    state: State,
}

impl FleetSite {
    /// The folder, which stays when the fleet is not built.
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
    pub async fn build(self, progress: impl Fn(&str)) -> Result<Fleet, WorldError> {
        let Self { builder, state } = self;
        progress("starting the chain, the gateway and the database servers");
        let mut groundwork = Groundwork::lay(state, builder.programs, builder.tenants + 1).await?;
        let addresses = Addresses::new(&mut groundwork.ports)?;
        let link = match builder.link {
            true => Some(Link::start(groundwork.ports.address()?, addresses.tunnel).await?),
            false => None,
        };
        let tunnel_endpoint = link.as_ref().map(Link::address);
        let wishes = Wishes { tunnel_endpoint, bounds: Some(builder.bounds), datapath: builder.datapath };
        let gateway = groundwork.gateway(addresses, wishes).await?;
        let installation =
            Installation::locate(&builder.postgres, &groundwork.programs.repository, &groundwork.state).await?;
        let (servers, tenants, sessions) = (builder.servers, builder.tenants, builder.sessions);
        let databases = Databases::start(&groundwork.state, installation, servers, tenants, sessions).await?;
        let members = Members::default();
        let mut fleet = Fleet { members, databases, gateway, link, groundwork, wishes, sessions };
        fleet.members = fleet.tenants(tenants, builder.direct, &progress).await?;
        Ok(fleet)
    }
}

/// A running fleet.
///
/// [`Fleet::stop`] ends it in order. Dropping it stops every process, too, and blocks while it does.
#[derive(Debug)]
pub struct Fleet {
    // The fields are dropped in this order, which is also the one in which the parts are stopped.
    members: Members,
    databases: Databases,
    gateway: Gateway,
    link: Option<Link>,
    groundwork: Groundwork,
    wishes: Wishes,
    sessions: u32,
}

/// The tenants. When they are dropped, all are asked to end before the first is waited for.
#[derive(Debug, Default)]
struct Members(Vec<Member>);

impl Drop for Members {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|member| member.sidecar_mut().process().ask_to_end());
    }
}

impl Fleet {
    async fn tenants(&mut self, count: usize, direct: bool, progress: &impl Fn(&str)) -> Result<Members, WorldError> {
        let mut plots = Vec::new();
        for number in 0..count {
            let admin = self.groundwork.ports.address()?;
            let direct = if direct { Some(self.groundwork.ports.address()?) } else { None };
            plots.push((number, self.groundwork.chain.key(number + 1)?, admin, direct));
        }
        let ground = &*self;
        let building =
            plots.into_iter().map(|(number, key, admin, direct)| Member::build(ground, number, key, (admin, direct)));
        let mut building = stream::iter(building).buffered(AT_ONCE);
        let mut members = Members::default();
        while let Some(member) = building.try_next().await? {
            members.0.push(member);
            let ready = members.0.len();
            if ready == count || ready.is_multiple_of(20) {
                progress(&format!("{ready} of {count} tenants are ready"));
            }
        }
        Ok(members)
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// One more address on which nobody listens.
    ///
    /// # Errors
    /// When there is none.
    pub fn free_address(&mut self) -> Result<SocketAddr, WorldError> {
        self.groundwork.ports.address()
    }

    /// The tenants, in the order of their numbers.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members.0
    }

    /// A tenant by its number, to break it.
    pub fn member_mut(&mut self, number: usize) -> Option<&mut Member> {
        self.members.0.get_mut(number)
    }

    /// The gateway, to break it.
    pub fn gateway_mut(&mut self) -> &mut Gateway {
        &mut self.gateway
    }

    /// The simulated platform.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.groundwork.platform
    }

    /// The stage between the gateway and the tunnels' far ends, if it was asked for.
    #[must_use]
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.groundwork.state
    }

    /// Starts the gateway anew with other bounds, and waits until it is ready and every tenant has registered again.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn rebound(&mut self, bounds: Bounds) -> Result<(), WorldError> {
        self.wishes.bounds = Some(bounds);
        let surroundings = self.groundwork.surroundings(self.wishes);
        self.gateway.restart(&surroundings).await?;
        self.gateway.ready().await
    }

    /// Kills the server that holds a tenant's database as a crash would, and waits until it accepts connections again.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn crash_database(&mut self, tenant: usize) -> Result<(), WorldError> {
        self.databases.server_mut(tenant)?.crash().await
    }

    /// The process of the server that holds a tenant's database.
    ///
    /// # Errors
    /// When there is no such tenant.
    pub fn database(&mut self, tenant: usize) -> Result<&mut crate::Process, WorldError> {
        Ok(self.databases.server_mut(tenant)?.process())
    }

    /// Has every flush of the log of a tenant's database server take so much longer, or as long as it takes.
    ///
    /// # Errors
    /// When the server does not take the setting.
    pub async fn slow_disk(&self, tenant: usize, delay: Duration) -> Result<(), WorldError> {
        self.databases.slow_disk(tenant, delay).await
    }

    /// Stops every part, in order: who depends on another goes first. Gives the state folder back.
    pub async fn stop(mut self) -> State {
        join_all(self.members.0.iter_mut().map(Member::stop)).await;
        self.databases.stop().await;
        self.gateway.process().stop().await;
        self.gateway.guest.agent().stop().await;
        self.groundwork.stop().await
    }
}
