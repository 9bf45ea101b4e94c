//! What a load is put on: a fleet of this machine, a fleet that is there, or an echo.

mod target;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postern_attest::{Appraiser, Collateral, PeerPolicy, TcbPolicy, TrustRoot};
use postern_attest_io::agent::AgentEndpoint;
use postern_attest_io::{Attestor, Connector, GuestAgent, Identity, IdentityKeeper};
use postern_world::{Bounds, Fleet, FleetBuilder, FleetSite, PostgresSource, Programs, Servers};

use crate::Failure;
use crate::client::{Attested, Door, Login};
use crate::peers::Front;
use crate::scenario::{Databases, Scenario};

pub(crate) use target::Target;

/// The protocol that clients offer in TLS.
pub(crate) const ALPN: &[&str] = &["postgresql"];
/// How long a guest agent may take for a quote.
const AGENT_TIMEOUT: Duration = Duration::from_secs(60);
/// For how long a client's certificate is valid: longer than any run.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 3600);
/// As many connections as a gateway is asked for.
const UNLIMITED: u32 = 1_000_000;

/// Where the programs and files of a fleet are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) repository: PathBuf,
    pub(crate) binaries: Option<PathBuf>,
    pub(crate) state: Option<PathBuf>,
    pub(crate) postgres: PostgresSource,
    /// What stands between the clients and the databases.
    pub(crate) front: Front,
}

/// Opens the folder of a fleet, and stops what a killed run has left there.
pub(crate) fn open(scenario: &Scenario, places: &Places) -> Result<FleetSite, Failure> {
    let programs = match &places.binaries {
        Some(folder) => Programs::find(folder, &places.repository)?,
        None => Programs::beside_this_one(&places.repository)?,
    };
    let tenants = scenario.cluster.tenants;
    let most = (0..tenants).map(|tenant| scenario.clients(tenant)).max().unwrap_or(0);
    // Room beside the sessions that are kept, for those that prepare and read back.
    let sessions = u32::try_from(most).unwrap_or(u32::MAX).saturating_add(4);
    let servers = if scenario.cluster.databases == Databases::Each { Servers::Each } else { Servers::Shared };
    let builder = FleetBuilder::new(programs, tenants, sessions)
        .state(places.state.clone())
        .postgres(places.postgres.clone())
        .servers(servers)
        .bounds(bounds(scenario.cluster.connections_per_app))
        .direct(places.front.is_past_the_tunnels())
        .datapath(places.front.datapath.into())
        .link(scenario.needs_link());
    Ok(builder.open()?)
}

/// What the gateway is to bear.
pub(crate) fn bounds(per_app: Option<u32>) -> Bounds {
    Bounds { connections: UNLIMITED, connections_per_app: per_app.unwrap_or(UNLIMITED) }
}

/// The ways to the databases of a fleet, each with a client of its own attested identity.
pub(crate) async fn doors(fleet: &Fleet) -> Result<Vec<Door>, Failure> {
    let platform = fleet.platform();
    let drive = |error: String| Failure::Drive(format!("the clients' identities: {error}"));
    let root = TrustRoot::from_der(platform.tee().root_der().to_vec()).map_err(|error| drive(error.to_string()))?;
    let path = platform.collateral();
    let collateral = std::fs::read(path).map_err(|error| Failure::file(path, error))?;
    let collateral = Collateral::from_json(&collateral).map_err(|error| drive(error.to_string()))?;
    let attestor = Attestor::new(Appraiser::new(root, TcbPolicy::default()), collateral);
    let mut doors = Vec::new();
    for (number, member) in fleet.members().iter().enumerate() {
        let agent = GuestAgent::new(AgentEndpoint::Unix(member.clients().socket().to_owned()), AGENT_TIMEOUT);
        let identity = Identity::issue(&agent, &[format!("{}.clients.test", member.name())], VALIDITY).await;
        let identity = IdentityKeeper::of(identity.map_err(|error| drive(error.to_string()))?);
        let connector = Connector::new(Some(identity), Arc::clone(&attestor), ALPN);
        let (user, secret) = member.login();
        doors.push(Door {
            tenant: member.name().to_owned(),
            address: fleet.address(),
            source: Some(source(number)),
            attested: Some(Attested {
                connector,
                host: member.host().to_owned(),
                expected: PeerPolicy::app(member.app_id()),
            }),
            login: Login { user: user.to_owned(), secret: secret.to_owned(), database: member.name().to_owned() },
        });
    }
    Ok(doors)
}

/// The ways to an echo, one per tenant.
pub(crate) fn echoes(scenario: &Scenario, address: std::net::SocketAddr) -> Vec<Door> {
    let door = |number: usize| Door {
        tenant: format!("t{number:03}"),
        address,
        source: Some(source(number)),
        attested: None,
        login: Login { user: "echo".to_owned(), secret: String::new(), database: "echo".to_owned() },
    };
    (0..scenario.cluster.tenants).map(door).collect()
}

/// An address of the loopback network for a tenant's clients, so that each tenant has all ports of one.
fn source(tenant: usize) -> IpAddr {
    let [.., high, low] = (tenant + 1).to_be_bytes();
    Ipv4Addr::new(127, 64, high, low).into()
}
