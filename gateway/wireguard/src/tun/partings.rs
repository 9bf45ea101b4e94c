//! Peers that were removed a moment ago, to whom the kernel is about to say that their connections have ended.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::link::Peer;
use crate::lock::lock;

/// The kernel's resets leave within a fraction of this.
const LASTS: Duration = Duration::from_secs(1);

/// Inner addresses that nobody owns any more, and who owned them until a moment ago.
#[derive(Default)]
pub(super) struct Partings {
    /// Whether there are any, so that packets without a peer cost nothing otherwise.
    any: AtomicBool,
    entries: Mutex<Vec<Parting>>,
}

struct Parting {
    address: IpAddr,
    peer: Arc<Peer>,
    until: Instant,
}

impl Partings {
    /// Lets resets go to a peer at these addresses for a moment.
    pub(super) fn add(&self, peer: &Arc<Peer>, addresses: impl IntoIterator<Item = IpAddr>, now: Instant) {
        let mut entries = lock(&self.entries);
        entries.retain(|parting| parting.until > now);
        let new = addresses.into_iter().map(|address| Parting { address, peer: Arc::clone(peer), until: now + LASTS });
        entries.extend(new);
        self.any.store(!entries.is_empty(), Ordering::Release);
    }

    /// Who owned an address until a moment ago.
    pub(super) fn find(&self, address: IpAddr, now: Instant) -> Option<Arc<Peer>> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let mut entries = lock(&self.entries);
        entries.retain(|parting| parting.until > now);
        self.any.store(!entries.is_empty(), Ordering::Release);
        entries.iter().find(|parting| parting.address == address).map(|parting| Arc::clone(&parting.peer))
    }
}
