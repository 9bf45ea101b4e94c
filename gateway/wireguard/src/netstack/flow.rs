//! A connection among others: who owns it, when it wants to be looked at, and who waits for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use super::connection::Connection;
use super::listener::Accepting;
use crate::link::Peer;
use crate::lock::lock;

/// What tells the connections of one tunnel apart: its own address is the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FlowKey {
    /// The local port.
    pub(super) port: u16,
    pub(super) remote: SocketAddr,
}

pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) peer: Arc<Peer>,
    state: Mutex<FlowState>,
}

pub(super) struct FlowState {
    pub(super) connection: Connection,
    /// The deadline that is set for it.
    pub(super) armed: Option<Instant>,
    /// The listener that it is to be given to when its handshake is over.
    pub(super) accepting: Option<Arc<Accepting>>,
    /// Whether packets still find it. One that rests or is over keeps only what was not read yet.
    pub(super) listed: bool,
    /// How many times it was its turn.
    #[cfg(test)]
    pub(super) turns: u64,
}

impl Flow {
    pub(super) fn new(
        key: FlowKey,
        peer: &Arc<Peer>,
        connection: Connection,
        accepting: Option<Arc<Accepting>>,
    ) -> Arc<Self> {
        let state = FlowState {
            connection,
            armed: None,
            accepting,
            listed: true,
            #[cfg(test)]
            turns: 0,
        };
        Arc::new(Self { key, peer: Arc::clone(peer), state: Mutex::new(state) })
    }

    /// The connection; none when a panic has left it in pieces.
    pub(super) fn lock(&self) -> Option<MutexGuard<'_, FlowState>> {
        self.state.lock().ok()
    }

    /// The connection in whatever state, to be ended.
    pub(super) fn lock_anyhow(&self) -> MutexGuard<'_, FlowState> {
        lock(&self.state)
    }
}
