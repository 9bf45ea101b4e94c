//! The members: the register of instances, with the tunnel and the table that follow from it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use postern_allowlist::BootInfo;
use postern_gateway_core::registration::{Assignment, Claim, Command, Link, Register, RegistrationError, TunnelKey};
use postern_gateway_core::table::Table;
use postern_identity::InstanceId;
use postern_wireguard::{Peer, PublicKey, Tunnel};
use rpds::RedBlackTreeMapSync;
use rustls::pki_types::CertificateDer;

use crate::metrics;
use crate::sessions::Sessions;

/// Every member. Clones share them.
#[derive(Debug, Clone)]
pub struct Members {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Held while a decision is made and performed, so that decisions take effect in their order. Never across an await.
    state: Mutex<State>,
    snapshot: ArcSwap<Snapshot>,
    tunnel: Tunnel,
    sessions: Sessions,
}

/// What each member proved. As cheap to clone as the table.
type Boots = RedBlackTreeMapSync<InstanceId, Arc<BootInfo>>;

#[derive(Debug)]
struct State {
    register: Register,
    boots: Boots,
    /// By what each proved it, and the connection by which that came. It outlasts the connection, as the membership does.
    evidence: BTreeMap<InstanceId, (Link, Evidence)>,
    /// Where a refused instance was: when it is let in again, it does not know that it has to speak first.
    endpoints: BTreeMap<InstanceId, SocketAddr>,
}

/// The certificates that a member showed when it registered, the first of which carries its evidence.
pub type Evidence = Arc<[CertificateDer<'static>]>;

/// What a connection sees of the members: one state of everything, however long it looks.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Who can be reached.
    pub table: Table,
    /// What each of them proved.
    boots: Boots,
}

/// What was cut off when a member was shut out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// How many sessions.
    pub sessions: usize,
    /// SHA-256 of the certificate that had carried its evidence.
    pub fingerprint: [u8; 32],
}

/// What became of a registration.
#[derive(Debug, Clone)]
pub struct Joined {
    /// What the member was given.
    pub assignment: Assignment,
    /// Whether it was let in by this, for the first time or again; otherwise its membership was renewed.
    pub entered: bool,
    /// What it had proved before, if that was something else.
    pub before: Option<Arc<BootInfo>>,
}

impl Snapshot {
    /// What an instance proved.
    #[must_use]
    pub fn boot(&self, instance: &InstanceId) -> Option<&Arc<BootInfo>> {
        self.boots.get(instance)
    }
}

impl Members {
    /// Nobody yet.
    #[must_use]
    pub fn new(register: Register, tunnel: Tunnel, sessions: Sessions) -> Self {
        let (evidence, endpoints) = (BTreeMap::new(), BTreeMap::new());
        let state = State { register, boots: Boots::default(), evidence, endpoints };
        let snapshot = ArcSwap::from_pointee(Snapshot::default());
        Self { inner: Arc::new(Inner { state: Mutex::new(state), snapshot, tunnel, sessions }) }
    }

    /// What is in force now, without a lock.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.snapshot.load_full()
    }

    /// What the members proved, and until when their evidence holds.
    #[must_use]
    pub fn proven(&self) -> Vec<(Arc<BootInfo>, u64)> {
        let snapshot = self.snapshot();
        let until = |instance: &InstanceId| snapshot.table.instance(instance).map_or(0, |at| at.evidence_until);
        snapshot.boots.iter().map(|(instance, boot)| (Arc::clone(boot), until(instance))).collect()
    }

    /// Whether a registration by this would only renew a membership.
    #[must_use]
    pub fn would_renew(&self, boot: &BootInfo, key: &PublicKey) -> bool {
        let state = self.state();
        let known = state.boots.get(&boot.instance_id).is_some_and(|known| **known == *boot);
        known && state.register.is_in_tunnel(&boot.instance_id, key.as_bytes())
    }

    /// The fingerprint of the evidence of a member that is shut out and could be let in again, because that evidence holds,
    /// and until when it does.
    #[must_use]
    pub fn shut_out(&self, boot: &BootInfo, now: u64) -> Option<([u8; 32], u64)> {
        let snapshot = self.snapshot();
        let instance = snapshot.table.instance(&boot.instance_id)?;
        let is_it = snapshot.boot(&boot.instance_id).is_some_and(|known| **known == *boot);
        let holds = is_it && !instance.is_admitted() && instance.evidence_until > now;
        holds.then_some((instance.fingerprint, instance.evidence_until))
    }

    /// Does something, unless a member proved exactly this. Meanwhile nobody becomes a member.
    pub fn unless_known(&self, boot: &BootInfo, act: impl FnOnce()) {
        let state = self.state();
        if state.boots.get(&boot.instance_id).is_none_or(|known| **known != *boot) {
            act();
        }
    }

    /// Makes an instance a member or renews its membership, by `evidence` that came by `link`.
    ///
    /// # Errors
    /// When the rules of registration are against it.
    pub fn register(
        &self,
        claim: Claim,
        boot: Arc<BootInfo>,
        (link, evidence): (Link, Evidence),
        now: u64,
    ) -> Result<Joined, RegistrationError> {
        let mut state = self.state();
        let instance = claim.instance;
        let (assignment, commands) = state.register.register(claim, link, now)?;
        state.evidence.insert(instance, (link, evidence));
        let before = state.boots.get(&instance).filter(|before| **before != boot).cloned();
        state.boots.insert_mut(instance, boot);
        // The route opens when the tunnel is there, not before.
        self.perform(&commands, state.endpoints.remove(&instance));
        if before.is_some() {
            self.publish(&state);
        } else {
            self.publish_changes(&state);
        }
        let entered = commands.iter().any(|command| matches!(command, Command::SetPeer { .. }));
        Ok(Joined { assignment, entered, before })
    }

    /// By what each member is believed that still is.
    #[must_use]
    pub fn evidence(&self) -> Vec<(InstanceId, Link, Evidence)> {
        let state = self.state();
        state.evidence.iter().map(|(instance, (link, evidence))| (*instance, *link, Arc::clone(evidence))).collect()
    }

    /// The registration connection of an instance ended.
    pub fn unlinked(&self, instance: &InstanceId, link: Link) {
        let mut state = self.state();
        state.register.unlinked(instance, link);
        self.publish_changes(&state);
    }

    /// The chain refuses what an instance runs. Says what was cut; `None` when no member runs it, or it was refused before.
    pub fn refuse(&self, boot: &BootInfo) -> Option<Cut> {
        let mut state = self.state();
        if state.boots.get(&boot.instance_id).is_none_or(|known| **known != *boot) {
            return None;
        }
        let commands = state.register.refuse(&boot.instance_id);
        if commands.is_empty() {
            return None;
        }
        self.publish(&state);
        let endpoint = commands.iter().find_map(|command| self.endpoint(command));
        state.endpoints.extend(endpoint.map(|endpoint| (boot.instance_id, endpoint)));
        self.cut(&state, &boot.instance_id, &commands)
    }

    /// The evidence that a member showed by this connection is not believed any more. Says what it had proved and what was
    /// cut; `None` when it is no member by that evidence, or was refused before.
    pub fn disbelieve(&self, instance: &InstanceId, link: Link) -> Option<(Arc<BootInfo>, Cut)> {
        let mut state = self.state();
        let commands = state.register.disbelieve(instance, link);
        if state.evidence.get(instance).is_some_and(|(proven_by, _)| *proven_by == link) {
            state.evidence.remove(instance);
        }
        if commands.is_empty() {
            return None;
        }
        let boot = state.boots.get(instance).cloned()?;
        self.publish(&state);
        Some((boot, self.cut(&state, instance, &commands)?))
    }

    /// The chain allows what an instance runs. Says whether that let a member in again.
    pub fn allow(&self, boot: &BootInfo, block: u64, now: u64) -> bool {
        let mut state = self.state();
        if state.boots.get(&boot.instance_id).is_none_or(|known| **known != *boot) {
            return false;
        }
        let commands = state.register.allow(&boot.instance_id, block, now);
        let endpoint = state.endpoints.remove(&boot.instance_id);
        self.perform(&commands, endpoint);
        self.publish_changes(&state);
        !commands.is_empty()
    }

    /// Drops the members whose time is over, and says what they had proved, and by which evidence.
    pub fn expire(&self, now: u64) -> Vec<(Arc<BootInfo>, [u8; 32])> {
        let mut state = self.state();
        let sessions = &self.inner.sessions;
        let (gone, commands) = state.register.expire(now, |instance| sessions.load(instance) > 0);
        if gone.is_empty() {
            return Vec::new();
        }
        state.endpoints.retain(|instance, _| !gone.contains(instance));
        state.evidence.retain(|instance, _| !gone.contains(instance));
        let before = self.snapshot();
        let proved = |instance: &InstanceId| {
            let fingerprint = before.table.instance(instance).map(|at| at.fingerprint).unwrap_or_default();
            Some((state.boots.get(instance).cloned()?, fingerprint))
        };
        let proved = gone.iter().filter_map(proved).collect();
        for instance in &gone {
            state.boots.remove_mut(instance);
        }
        self.publish(&state);
        self.perform(&commands, None);
        proved
    }

    /// Performs the commands by which a member is shut out.
    fn cut(&self, state: &State, instance: &InstanceId, commands: &[Command]) -> Option<Cut> {
        let sessions = self.perform(commands, None);
        state.register.table().instance(instance).map(|instance| Cut { sessions, fingerprint: instance.fingerprint })
    }

    /// Performs commands in their order, and says how many sessions were cut. A peer that is let in is looked for at
    /// `endpoint`, when that is known.
    fn perform(&self, commands: &[Command], endpoint: Option<SocketAddr>) -> usize {
        let Inner { tunnel, sessions, .. } = self.inner.as_ref();
        let mut cut = 0;
        for command in commands {
            match command {
                Command::SetPeer { key, address, mtu } => {
                    tunnel.set_peer(peer(*key, *address, endpoint, *mtu));
                    if endpoint.is_some() {
                        tunnel.handshake(&PublicKey::from_bytes(*key));
                    }
                }
                Command::RemovePeer { key } => {
                    tunnel.remove_peer(&PublicKey::from_bytes(*key));
                }
                Command::CutSessions { instance } => cut += sessions.cut(instance),
            }
        }
        cut
    }

    /// Where the peer is that a command shuts out.
    fn endpoint(&self, command: &Command) -> Option<SocketAddr> {
        match command {
            Command::RemovePeer { key } => self.inner.tunnel.peer(&PublicKey::from_bytes(*key))?.endpoint,
            Command::SetPeer { .. } | Command::CutSessions { .. } => None,
        }
    }

    fn publish_changes(&self, state: &State) {
        if state.register.table().generation() != self.inner.snapshot.load().table.generation() {
            self.publish(state);
        }
    }

    fn publish(&self, state: &State) {
        let snapshot = Snapshot { table: state.register.table().clone(), boots: state.boots.clone() };
        metrics::table(&snapshot.table);
        self.inner.snapshot.store(Arc::new(snapshot));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in between leaves at worst a peer without a route, which the next renewal mends.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn peer(key: TunnelKey, address: IpAddr, endpoint: Option<SocketAddr>, mtu: u16) -> Peer {
    // The instance keeps the path open; it is the one behind an address translator.
    let (public_key, allowed) = (PublicKey::from_bytes(key), vec![IpNet::from(address)]);
    Peer { public_key, endpoint, allowed, keepalive: None, mtu: Some(mtu) }
}
