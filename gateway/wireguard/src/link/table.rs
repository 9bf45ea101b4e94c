//! The peers of a tunnel: by key, by the index that their datagrams carry, and by inner address.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use ipnet::IpNet;

use super::allowed::AllowedIps;
use super::session::Session;
use crate::key::PublicKey;

/// Indices have 24 bits: boringtun counts sessions in the lowest 8 of the receiver index.
const INDEX_BITS: u32 = 24;

/// A far end.
pub(crate) struct Peer {
    pub(crate) key: PublicKey,
    pub(super) index: u32,
    pub(super) session: Mutex<Session>,
    removed: AtomicBool,
    /// The largest inner packet, in bytes; 0 where it is the tunnel's.
    mtu: AtomicU16,
}

/// Every far end.
#[derive(Default)]
pub(super) struct Table {
    by_key: BTreeMap<PublicKey, Entry>,
    by_index: HashMap<u32, Arc<Peer>>,
    allowed: AllowedIps,
}

struct Entry {
    peer: Arc<Peer>,
    allowed: Vec<IpNet>,
}

impl Peer {
    pub(super) fn new(key: PublicKey, index: u32, session: Session) -> Arc<Self> {
        let (removed, mtu) = (AtomicBool::new(false), AtomicU16::new(0));
        Arc::new(Self { key, index, session: Mutex::new(session), removed, mtu })
    }

    /// The largest inner packet, in bytes, where it is not the tunnel's.
    pub(crate) fn mtu(&self) -> Option<u16> {
        Some(self.mtu.load(Ordering::Relaxed)).filter(|mtu| *mtu > 0)
    }

    pub(super) fn set_mtu(&self, mtu: Option<u16>) {
        self.mtu.store(mtu.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether the peer was removed: nothing new may be started with it.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }
}

impl Table {
    pub(super) fn by_key(&self, key: &PublicKey) -> Option<&Arc<Peer>> {
        self.by_key.get(key).map(|entry| &entry.peer)
    }

    /// The peer that a datagram is for, by the receiver index in it.
    pub(super) fn by_receiver(&self, receiver: u32) -> Option<&Arc<Peer>> {
        self.by_index.get(&(receiver >> 8))
    }

    /// The peer that has an index.
    pub(super) fn by_index(&self, index: u32) -> Option<&Arc<Peer>> {
        self.by_index.get(&index)
    }

    /// The peer that owns an inner address.
    pub(super) fn by_address(&self, address: IpAddr) -> Option<&Arc<Peer>> {
        self.by_index.get(&self.allowed.owner(address)?)
    }

    /// Whether an inner address is this peer's.
    pub(super) fn owns(&self, peer: &Peer, address: IpAddr) -> bool {
        self.allowed.owner(address) == Some(peer.index)
    }

    /// Every peer in the order of their keys.
    pub(super) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_key.values().map(|entry| &entry.peer)
    }

    /// An index that no peer has, out of numbers drawn at random.
    pub(super) fn free_index(&self, mut random: impl FnMut() -> u32) -> u32 {
        loop {
            let index = random() >> (u32::BITS - INDEX_BITS);
            if !self.by_index.contains_key(&index) {
                return index;
            }
        }
    }

    /// Adds a peer.
    pub(super) fn insert(&mut self, peer: &Arc<Peer>) {
        self.by_index.insert(peer.index, Arc::clone(peer));
        self.by_key.insert(peer.key, Entry { peer: Arc::clone(peer), allowed: Vec::new() });
    }

    /// Gives a peer these prefixes and no others. Returns whether an address may have changed its owner by it, which it
    /// cannot when nobody owned any of them before and none was given up.
    pub(super) fn allow(&mut self, peer: &Peer, prefixes: &[IpNet]) -> bool {
        let Some(entry) = self.by_key.get_mut(&peer.key) else { return false };
        if entry.allowed == prefixes {
            return false;
        }
        let mut moved = !entry.allowed.is_empty();
        for prefix in entry.allowed.drain(..) {
            self.allowed.release(prefix, peer.index);
        }
        for prefix in prefixes {
            moved |= self.allowed.owner(prefix.addr()).is_some();
            self.allowed.claim(*prefix, peer.index);
        }
        entry.allowed = prefixes.to_vec();
        moved
    }

    /// Takes a peer out, and marks it.
    pub(super) fn remove(&mut self, key: &PublicKey) -> Option<Arc<Peer>> {
        let Entry { peer, allowed } = self.by_key.remove(key)?;
        peer.removed.store(true, Ordering::Release);
        self.by_index.remove(&peer.index);
        for prefix in allowed {
            self.allowed.release(prefix, peer.index);
        }
        Some(peer)
    }
}

#[cfg(test)]
mod tests;
