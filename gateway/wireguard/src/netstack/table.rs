//! Where packets find their connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::flow::{Flow, FlowKey};
use super::listener::Accepting;
use super::ports;
use super::time_wait::TimeWait;
use crate::error::{ConnectError, ListenError};

pub(super) struct FlowTable {
    flows: HashMap<FlowKey, Arc<Flow>>,
    listeners: HashMap<u16, Arc<Accepting>>,
    resting: TimeWait<FlowKey>,
    most: usize,
    stopped: bool,
}

/// What there is for a packet.
pub(super) enum Found {
    Flow(Arc<Flow>),
    /// Nothing yet, but somebody listens, and a place at the listener was taken.
    Listener(Arc<Accepting>),
    /// A connection that is over. If the far end closes it once more, this is the answer, as it was the first time; to
    /// anything else there is none, or two ends at rest might answer each other for ever.
    Resting(Vec<u8>),
    /// Somebody listens, but there is no room for one more.
    Full,
    Nothing,
}

impl FlowTable {
    pub(super) fn new(most: usize) -> Self {
        Self { flows: HashMap::new(), listeners: HashMap::new(), resting: TimeWait::new(), most, stopped: false }
    }

    /// Finds what a packet is for; `opens` when it wishes for a new connection.
    pub(super) fn find(&mut self, key: &FlowKey, opens: bool, backlog: usize, now: Instant) -> Found {
        if let Some(flow) = self.flows.get(key) {
            return Found::Flow(Arc::clone(flow));
        }
        if !opens {
            return self.resting.answer(key, now).map_or(Found::Nothing, |answer| Found::Resting(answer.to_vec()));
        }
        match self.listeners.get(&key.port) {
            Some(listener) if self.flows.len() < self.most && listener.enter(backlog) => {
                Found::Listener(Arc::clone(listener))
            }
            Some(_) => Found::Full,
            None => Found::Nothing,
        }
    }

    /// A local port for a connection to `remote`.
    pub(super) fn free_port(&self, remote: std::net::SocketAddr, now: Instant) -> Result<u16, ConnectError> {
        let is_taken = |port| {
            let key = FlowKey { port, remote };
            self.listeners.contains_key(&port)
                || self.flows.contains_key(&key)
                || self.resting.answer(&key, now).is_some()
        };
        ports::choose(rand::random(), is_taken).ok_or(ConnectError::Exhausted)
    }

    /// Lists a connection, unless there is no room, its peer is gone or its place is taken.
    pub(super) fn insert(&mut self, flow: &Arc<Flow>) -> Result<(), ConnectError> {
        if self.stopped || flow.peer.is_removed() {
            return Err(ConnectError::Removed);
        }
        if self.flows.len() >= self.most || self.flows.contains_key(&flow.key) {
            return Err(ConnectError::Exhausted);
        }
        self.resting.forget(&flow.key);
        self.flows.insert(flow.key, Arc::clone(flow));
        Ok(())
    }

    /// A connection by its key.
    pub(super) fn get(&self, key: &FlowKey) -> Option<Arc<Flow>> {
        self.flows.get(key).map(Arc::clone)
    }

    /// Takes a connection out; with the last thing that was said, if the far end may have to hear it again.
    pub(super) fn remove(&mut self, flow: &Arc<Flow>, answer: Option<&[u8]>, now: Instant) {
        if self.flows.get(&flow.key).is_some_and(|listed| Arc::ptr_eq(listed, flow)) {
            self.flows.remove(&flow.key);
            if let Some(answer) = answer {
                self.resting.rest(flow.key, answer, now);
            }
        }
    }

    /// The connections for which something holds.
    pub(super) fn which(&self, holds: impl Fn(&Flow) -> bool) -> Vec<Arc<Flow>> {
        self.flows.values().filter(|flow| holds(flow)).map(Arc::clone).collect()
    }

    /// Listens on a port.
    pub(super) fn listen(&mut self, port: u16) -> Result<Arc<Accepting>, ListenError> {
        if port == 0 {
            return Err(ListenError::Port);
        }
        if self.stopped {
            return Err(ListenError::Stopped);
        }
        if self.listeners.contains_key(&port) {
            return Err(ListenError::InUse(port));
        }
        let listener = Accepting::new(port);
        self.listeners.insert(port, Arc::clone(&listener));
        Ok(listener)
    }

    /// Ends listening on a port.
    pub(super) fn unlisten(&mut self, port: u16) {
        self.listeners.remove(&port);
    }

    /// Lets nothing new in; returns every connection.
    pub(super) fn stop(&mut self) -> Vec<Arc<Flow>> {
        self.stopped = true;
        self.flows.drain().map(|(_, flow)| flow).collect()
    }
}
