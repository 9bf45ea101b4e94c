//! What every client connection needs of the gateway.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use postern_allowlist::{Admission, BootInfo, NotAdmitted, Proven};
use postern_gateway_core::opening::Opening;
use postern_gateway_core::refusal::Refusal;
use postern_gateway_core::route::{Domain, Route};
use postern_gateway_core::table::{Candidate, Instance, Standing};
use postern_plumbing::relay::Pipes;
use postern_wireguard::Tunnel;
use tokio::sync::Semaphore;

use crate::audit::Audit;
use crate::cancel::Cancels;
use crate::chain::{self, Chain};
use crate::members::{Members, Snapshot};
use crate::openings::Openings;
use crate::proxy_header::ConnectionId;
use crate::sessions::Sessions;

/// Limits of client connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the first byte to the end of the ClientHello.
    pub opening: Duration,
    /// For one attempt to connect to an instance.
    pub connect: Duration,
    /// For a cancel request inside the tunnel.
    pub cancel: Duration,
    /// Connections at once.
    pub connections: usize,
    /// Sessions of one app at once.
    pub connections_per_app: usize,
    /// Connections of one network at once that are not opened yet.
    pub openings_per_network: usize,
    /// The longest ClientHello, in bytes on the wire.
    pub hello: usize,
}

/// What clients are told to call the gateway by, who introduces them, and how much of what they may have.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where apps have their names.
    pub domain: Domain,
    /// The networks of the load balancers that introduce their connections, and have to.
    pub proxies: Vec<IpNet>,
    /// Limits.
    pub limits: Limits,
}

/// The gateway as a client connection sees it.
#[derive(Debug)]
pub struct Edge {
    /// Where apps have their names.
    pub domain: Domain,
    /// The networks of the load balancers that introduce their connections, and have to.
    pub proxies: Vec<IpNet>,
    /// Limits.
    pub limits: Limits,
    /// Who can be reached.
    pub members: Members,
    /// Who is connected.
    pub sessions: Sessions,
    /// The way to the instances.
    pub tunnel: Tunnel,
    /// What the chain allows.
    pub chain: Arc<dyn Chain>,
    /// Where sessions are written down, and those that are refused.
    pub audit: Audit,
    /// One permit per connection that may be open.
    pub places: Arc<Semaphore>,
    /// Who is not opened yet.
    pub openings: Openings,
    /// What the kernel moves bulk through.
    pub pipes: Pipes,
    /// One permit per connection that is told that there is no place.
    pub standing_room: Arc<Semaphore>,
    /// One permit per cancel request under way.
    pub cancels: Cancels,
}

impl Edge {
    /// How many pipes bulk may go through at a time. It goes on without them.
    pub const PIPES: usize = 64;
    /// How many connections are told at a time that there is no place for them.
    pub const STANDING_ROOM: usize = 64;

    /// A gateway without connections.
    #[must_use]
    pub fn new(
        settings: Settings,
        members: Members,
        sessions: Sessions,
        tunnel: Tunnel,
        chain: Arc<dyn Chain>,
        audit: Audit,
    ) -> Self {
        let Settings { domain, proxies, limits } = settings;
        let places = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        let openings = Openings::new(limits.openings_per_network);
        Self {
            domain,
            proxies,
            limits,
            members,
            sessions,
            tunnel,
            chain,
            audit,
            places,
            openings,
            pipes: Pipes::new(Self::PIPES),
            standing_room: Arc::new(Semaphore::new(Self::STANDING_ROOM)),
            cancels: Cancels::default(),
        }
    }

    /// Whether connections from this address are introduced by a PROXY protocol header.
    #[must_use]
    pub fn introduces(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.proxies.iter().any(|network| network.contains(&source))
    }

    /// What is expected of a connection from this address.
    #[must_use]
    pub fn opening(&self, source: IpAddr) -> Opening {
        if self.introduces(source) { Opening::introduced(self.limits.hello) } else { Opening::new(self.limits.hello) }
    }

    /// The instances to which a route leads now, for a connection.
    ///
    /// # Errors
    /// Why there is none. Where it is for the sake of admission, the audit trail has it.
    pub fn candidates(&self, id: ConnectionId, route: &Route) -> Result<Vec<Candidate>, Refusal> {
        let snapshot = self.members.snapshot();
        let found = snapshot.table.candidates(route, |instance| self.admitted(&snapshot, instance).map(drop));
        if let Err(refusal) = &found {
            self.tell_refused(id, &snapshot, route, *refusal);
        }
        found
    }

    /// Whether an instance is still admitted, by a newer look at everything, and at which block the chain said so.
    ///
    /// # Errors
    /// Why not.
    pub fn still_admitted(&self, candidate: &Candidate) -> Result<Admission, Refusal> {
        let snapshot = self.members.snapshot();
        let instance = snapshot.table.by_slot(candidate.instance.slot).filter(|at| at.id == candidate.instance.id);
        let instance = instance.ok_or(Refusal::NotAdmitted)?;
        match instance.standing {
            Standing::Admitted { .. } => self.admitted(&snapshot, instance),
            Standing::Refused => Err(Refusal::NotAdmitted),
        }
    }

    /// Writes down the session that an instance was given.
    pub fn tell_allowed(&self, id: ConnectionId, instance: &Instance, admission: &Admission) {
        if let Some(boot) = self.members.snapshot().boot(&instance.id) {
            self.audit.session(id, boot, &instance.fingerprint, admission);
        }
    }

    /// Writes down on whose account a connection was refused: the first instance for which it is the reason.
    fn tell_refused(&self, id: ConnectionId, snapshot: &Snapshot, route: &Route, refusal: Refusal) {
        for instance in snapshot.table.named(route).into_iter().flatten() {
            if let Some(boot) = snapshot.boot(&instance.id)
                && let Err(not_admitted) = self.verdict(boot, instance)
                && chain::refusal(&not_admitted) == refusal
            {
                return self.audit.session_refused(id, boot, &instance.fingerprint, &not_admitted);
            }
        }
    }

    fn admitted(&self, snapshot: &Snapshot, instance: &Instance) -> Result<Admission, Refusal> {
        let boot = snapshot.boot(&instance.id).ok_or(Refusal::NotAdmitted)?;
        self.verdict(boot, instance).map_err(|not_admitted| chain::refusal(&not_admitted))
    }

    fn verdict(&self, boot: &BootInfo, instance: &Instance) -> Result<Admission, NotAdmitted> {
        self.chain.current(Proven { boot, until: instance.evidence_until })
    }
}
