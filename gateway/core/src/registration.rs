//! The rules of registration: who may be a member, with which address, and what has to happen when that changes.
//!
//! The register decides and answers with [`Command`]s; its owner performs them in their order and then publishes
//! [`Register::table`] where a change opened something, or before them where it closed something.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use postern_identity::{AppId, InstanceId};
use postern_pgwire::cancel::Slot;

use crate::packets::PacketSizes;
use crate::pool::AddressPool;
use crate::table::{Instance, Standing, Table};

/// How many ports an instance may offer beside its sidecar's.
pub const MAX_PORTS: usize = 64;

/// A WireGuard public key.
pub type TunnelKey = [u8; 32];

/// A registration connection; the number is the owner's choice and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(pub u64);

/// What an instance asks for, after its quote was verified and the chain was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its app, attested.
    pub app: AppId,
    /// Its id, attested.
    pub instance: InstanceId,
    /// Its end of the tunnel.
    pub key: TunnelKey,
    /// The port of its sidecar.
    pub sidecar_port: u16,
    /// Further ports it offers, each with whether a PROXY header goes in front.
    pub ports: BTreeMap<u16, bool>,
    /// The block at which its code was allowed.
    pub block: u64,
    /// SHA-256 of the certificate that carried its evidence.
    pub fingerprint: [u8; 32],
    /// Until when its evidence holds, in seconds since 1970.
    pub evidence_until: u64,
}

/// What a member was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assignment {
    /// Its inner address.
    pub address: IpAddr,
    /// The number that its cancel keys must carry.
    pub slot: Slot,
}

/// What has to be done to make a decision true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Let this key into the tunnel, with this inner address only.
    SetPeer {
        /// The member's key.
        key: TunnelKey,
        /// The member's inner address.
        address: IpAddr,
        /// The largest inner packet to and from it, in bytes.
        mtu: u16,
    },
    /// Shut this key out of the tunnel.
    RemovePeer {
        /// The member's key.
        key: TunnelKey,
    },
    /// Cut the sessions that go through this instance.
    CutSessions {
        /// The instance.
        instance: InstanceId,
    },
}

/// Why an attested and allowed instance cannot be a member all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The instance id belongs to another app.
    #[error("the instance id is registered for another app")]
    InstanceOfAnotherApp,
    /// The tunnel key belongs to another instance.
    #[error("the WireGuard key is registered for another instance")]
    KeyInUse,
    /// The key is the all-zero one, or the gateway's own.
    #[error("the WireGuard key cannot be used")]
    KeyUnusable,
    /// A port is 0.
    #[error("a port is 0")]
    Port,
    /// It offers more ports than [`MAX_PORTS`].
    #[error("more than {MAX_PORTS} ports are offered")]
    Ports,
    /// The evidence does not hold any more.
    #[error("the evidence has expired")]
    EvidenceExpired,
    /// Every inner address or cancel slot is taken.
    #[error("the gateway has no room for another instance")]
    Full,
}

impl RegistrationError {
    /// The word for metrics, logs and programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::InstanceOfAnotherApp => "instance_of_another_app",
            Self::KeyInUse => "key_in_use",
            Self::KeyUnusable => "key_unusable",
            Self::Port => "port",
            Self::Ports => "ports",
            Self::EvidenceExpired => "evidence_expired",
            Self::Full => "full",
        }
    }
}

/// Everybody who is registered.
#[derive(Debug)]
pub struct Register {
    pool: AddressPool,
    own_key: TunnelKey,
    sizes: PacketSizes,
    /// How long a member is kept after its last registration once its connection is gone, in seconds.
    time_to_live: u64,
    /// The members as connections see them; always in step with `members`.
    table: Table,
    members: BTreeMap<InstanceId, Member>,
    keys: BTreeMap<TunnelKey, InstanceId>,
    slots: BTreeMap<Slot, InstanceId>,
}

#[derive(Debug)]
struct Member {
    claim: Claim,
    assignment: Assignment,
    standing: Standing,
    links: BTreeSet<Link>,
    /// Where the evidence came from that is in force.
    proven_by: Link,
    kept_until: u64,
}

impl Register {
    /// An empty register. `own_key` is the gateway's public key, `sizes` are those of packets in the tunnel, `time_to_live`
    /// the seconds for which a member is kept after its last registration once its connection is gone.
    #[must_use]
    pub fn new(pool: AddressPool, own_key: TunnelKey, sizes: PacketSizes, time_to_live: u64) -> Self {
        let (members, keys, slots) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { pool, own_key, sizes, time_to_live, table: Table::default(), members, keys, slots }
    }

    /// Makes the instance a member, or renews its membership; it counts as alive until `link` ends. A member that is let
    /// into the tunnel by this, for the first time or again, is named by a [`Command::SetPeer`].
    pub fn register(
        &mut self,
        claim: Claim,
        link: Link,
        now: u64,
    ) -> Result<(Assignment, Vec<Command>), RegistrationError> {
        self.check(&claim, now)?;
        let assignment = self.assign(claim.instance)?;
        let mut commands = Vec::new();
        let mut links = BTreeSet::from([link]);
        let before = self.members.remove(&claim.instance);
        if let Some(before) = &before {
            commands.extend(self.retire_key(before, &claim));
            links.extend(&before.links);
        }
        if !before.as_ref().is_some_and(|before| before.in_tunnel() && before.claim.key == claim.key) {
            commands.push(let_in(&claim, assignment, &self.sizes));
        }
        self.keys.insert(claim.key, claim.instance);
        self.slots.insert(assignment.slot, claim.instance);
        // A renewal at a later block is no change that anybody has to see.
        let standing = match &before {
            Some(before) if before.in_tunnel() => before.standing,
            Some(_) | None => Standing::Admitted { block: claim.block },
        };
        let kept_until = now.saturating_add(self.time_to_live);
        let member = Member { claim, assignment, standing, links, proven_by: link, kept_until };
        if before.is_none_or(|before| before.instance() != member.instance()) {
            self.table.put(member.instance());
        }
        self.members.insert(member.claim.instance, member);
        Ok((assignment, commands))
    }

    /// Notes that a registration connection of this instance ended. The member stays until its time is over.
    pub fn unlinked(&mut self, instance: &InstanceId, link: Link) {
        let Some(member) = self.members.get_mut(instance) else { return };
        if member.links.remove(&link) && member.links.is_empty() {
            self.table.put(member.instance());
        }
    }

    /// The chain does not allow the instance any more: nothing new, nothing old. Publish the table first.
    pub fn refuse(&mut self, instance: &InstanceId) -> Vec<Command> {
        let Some(member) = self.members.get_mut(instance).filter(|member| member.in_tunnel()) else {
            return Vec::new();
        };
        member.standing = Standing::Refused;
        self.table.put(member.instance());
        vec![Command::CutSessions { instance: *instance }, Command::RemovePeer { key: member.claim.key }]
    }

    /// The evidence that came by `link` is not believed any more: nothing new, nothing old, and no way back but another
    /// registration. Nothing happens when newer evidence came by another connection. Publish the table first.
    pub fn disbelieve(&mut self, instance: &InstanceId, link: Link) -> Vec<Command> {
        let Some(member) = self.members.get_mut(instance).filter(|member| member.proven_by == link) else {
            return Vec::new();
        };
        member.claim.evidence_until = 0;
        self.table.put(member.instance());
        self.refuse(instance)
    }

    /// The chain allows the instance again, at this block. Publish the table last.
    ///
    /// Its evidence is remembered, so it needs no restart; once the evidence has expired it has to register anew.
    pub fn allow(&mut self, instance: &InstanceId, block: u64, now: u64) -> Vec<Command> {
        let Some(member) = self.members.get_mut(instance) else { return Vec::new() };
        if member.in_tunnel() || member.claim.evidence_until <= now {
            return Vec::new();
        }
        member.standing = Standing::Admitted { block };
        self.table.put(member.instance());
        vec![let_in(&member.claim, member.assignment, &self.sizes)]
    }

    /// Drops the members whose time or whose evidence is over, and names them. Publish the table first.
    ///
    /// A member without a connection is kept while `busy` says that sessions go through it: its tunnel still works.
    pub fn expire(&mut self, now: u64, busy: impl Fn(&InstanceId) -> bool) -> (Vec<InstanceId>, Vec<Command>) {
        let over = |member: &Member| {
            let evidence_over = member.claim.evidence_until <= now;
            let silent = member.links.is_empty() && member.kept_until <= now;
            evidence_over || (silent && !(member.in_tunnel() && busy(&member.claim.instance)))
        };
        let gone: Vec<InstanceId> = self.members.iter().filter(|(_, at)| over(at)).map(|(id, _)| *id).collect();
        let commands = gone.iter().flat_map(|instance| self.remove(instance)).collect();
        (gone, commands)
    }

    /// Whether an instance is let into the tunnel with this key.
    #[must_use]
    pub fn is_in_tunnel(&self, instance: &InstanceId, key: &TunnelKey) -> bool {
        self.members.get(instance).is_some_and(|member| member.in_tunnel() && member.claim.key == *key)
    }

    /// The picture of now.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    fn check(&self, claim: &Claim, now: u64) -> Result<(), RegistrationError> {
        if claim.key == [0; 32] || claim.key == self.own_key {
            return Err(RegistrationError::KeyUnusable);
        }
        if claim.sidecar_port == 0 || claim.ports.contains_key(&0) {
            return Err(RegistrationError::Port);
        }
        if claim.ports.len() > MAX_PORTS {
            return Err(RegistrationError::Ports);
        }
        if claim.evidence_until <= now {
            return Err(RegistrationError::EvidenceExpired);
        }
        if self.members.get(&claim.instance).is_some_and(|member| member.claim.app != claim.app) {
            return Err(RegistrationError::InstanceOfAnotherApp);
        }
        if self.keys.get(&claim.key).is_some_and(|owner| *owner != claim.instance) {
            return Err(RegistrationError::KeyInUse);
        }
        Ok(())
    }

    /// A member that comes with another key: its packets went through a tunnel that is no more.
    fn retire_key(&mut self, before: &Member, claim: &Claim) -> Vec<Command> {
        if before.claim.key == claim.key {
            return Vec::new();
        }
        self.keys.remove(&before.claim.key);
        let cut = Command::CutSessions { instance: claim.instance };
        if before.in_tunnel() { vec![cut, Command::RemovePeer { key: before.claim.key }] } else { vec![cut] }
    }

    fn assign(&mut self, instance: InstanceId) -> Result<Assignment, RegistrationError> {
        if let Some(member) = self.members.get(&instance) {
            return Ok(member.assignment);
        }
        let slot = self.free_slot(&instance).ok_or(RegistrationError::Full)?;
        let address = self.pool.allocate(instance).ok_or(RegistrationError::Full)?;
        Ok(Assignment { address, slot })
    }

    /// The slot that the id points to or the next free one, so that a gateway without memory gives the same again. Never
    /// [`Slot::NONE`].
    fn free_slot(&self, instance: &InstanceId) -> Option<Slot> {
        let start = instance.as_bytes().first_chunk().map_or(0, |head: &[u8; 4]| u32::from_be_bytes(*head)) % Slot::MAX;
        let mut slots = (0..Slot::MAX).filter_map(|step| Slot::new(1 + (start + step) % Slot::MAX));
        slots.find(|slot| !self.slots.contains_key(slot))
    }

    fn remove(&mut self, instance: &InstanceId) -> Vec<Command> {
        let Some(member) = self.members.remove(instance) else { return Vec::new() };
        self.keys.remove(&member.claim.key);
        self.slots.remove(&member.assignment.slot);
        self.pool.release(instance);
        self.table.remove(instance);
        if member.in_tunnel() {
            vec![Command::CutSessions { instance: *instance }, Command::RemovePeer { key: member.claim.key }]
        } else {
            Vec::new()
        }
    }
}

fn let_in(claim: &Claim, assignment: Assignment, sizes: &PacketSizes) -> Command {
    let mtu = sizes.of(&claim.app, &claim.instance);
    Command::SetPeer { key: claim.key, address: assignment.address, mtu }
}

impl Member {
    fn in_tunnel(&self) -> bool {
        matches!(self.standing, Standing::Admitted { .. })
    }

    fn instance(&self) -> Instance {
        Instance {
            id: self.claim.instance,
            app: self.claim.app,
            address: self.assignment.address,
            sidecar_port: self.claim.sidecar_port,
            ports: self.claim.ports.clone(),
            slot: self.assignment.slot,
            fingerprint: self.claim.fingerprint,
            evidence_until: self.claim.evidence_until,
            standing: self.standing,
            alive: !self.links.is_empty(),
        }
    }
}
