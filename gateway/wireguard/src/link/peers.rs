//! Who the far ends are.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Link;
use super::session::Session;
use super::table::Peer;
use crate::batch::Batch;
use crate::config;
use crate::key::PublicKey;
use crate::lock::{lock, read, write};

impl Link {
    /// Adds or changes a peer. Returns whether inner addresses may have changed their owner.
    pub(crate) fn set_peer(&self, peer: &config::Peer, now: Instant) -> bool {
        let (known, moved) = {
            let mut table = write(&self.table);
            let known = table.by_key(&peer.public_key).map(Arc::clone).unwrap_or_else(|| {
                let index = table.free_index(rand::random);
                let session = Session::new(&self.private, peer.public_key, index, &self.unlimited);
                let new = Peer::new(peer.public_key, index, session);
                table.insert(&new);
                self.meters.peers.increment(1.0);
                new
            });
            let moved = table.allow(&known, &peer.allowed);
            (known, moved)
        };
        known.set_mtu(peer.mtu);
        let mut session = lock(&known.session);
        session.endpoint = peer.endpoint.or(session.endpoint);
        session.keepalive = peer.keepalive.filter(|seconds| *seconds > 0).map(|s| Duration::from_secs(s.into()));
        let mut out = Batch::default();
        self.look_at(&known, &mut session, now, &mut out);
        self.send_sealed(&self.udp, &mut session, &mut out);
        moved
    }

    /// Takes a peer out of every table: nothing is received from it or routed to it any more. What is still to be said
    /// to it can be sent with the handle that this returns.
    pub(crate) fn remove_peer(&self, key: &PublicKey) -> Option<Arc<Peer>> {
        let removed = write(&self.table).remove(key)?;
        self.meters.peers.decrement(1.0);
        Some(removed)
    }

    /// Starts a new handshake with a peer; returns whether there is one.
    pub(crate) fn handshake(&self, key: &PublicKey, now: Instant) -> bool {
        let Some(peer) = read(&self.table).by_key(key).map(Arc::clone) else { return false };
        let mut session = lock(&peer.session);
        let mut out = Batch::default();
        self.wake(&peer, &mut session, now, &mut out);
        session.initiate(now, &mut out);
        self.send_sealed(&self.udp, &mut session, &mut out);
        true
    }

    /// The peer that owns an inner address.
    pub(crate) fn route(&self, address: IpAddr) -> Option<Arc<Peer>> {
        read(&self.table).by_address(address).map(Arc::clone)
    }

    /// Whether an inner address is still this peer's.
    pub(crate) fn owns(&self, peer: &Peer, address: IpAddr) -> bool {
        read(&self.table).owns(peer, address)
    }

    /// Whether it is known where datagrams for a peer go.
    pub(crate) fn has_endpoint(&self, peer: &Peer) -> bool {
        lock(&peer.session).endpoint.is_some()
    }

    /// What is known of every peer, in the order of their keys.
    pub(crate) fn peers(&self, now: Instant) -> Vec<config::PeerStatus> {
        let peers: Vec<_> = read(&self.table).peers().map(Arc::clone).collect();
        peers.iter().map(|peer| status(peer, now)).collect()
    }

    /// What is known of one peer.
    pub(crate) fn peer(&self, key: &PublicKey, now: Instant) -> Option<config::PeerStatus> {
        let peer = read(&self.table).by_key(key).map(Arc::clone)?;
        Some(status(&peer, now))
    }
}

fn status(peer: &Peer, now: Instant) -> config::PeerStatus {
    lock(&peer.session).status(peer.key, peer.mtu(), now)
}
