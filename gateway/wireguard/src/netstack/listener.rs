//! A port that is listened on, and the connections that wait there.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::flow::Flow;
use crate::lock::lock;

pub(super) struct Accepting {
    pub(super) port: u16,
    /// Connections that may be accepted; none once nobody listens any more.
    ready: Mutex<Option<VecDeque<Arc<Flow>>>>,
    /// How many connections there are that were not accepted, those in their handshake included.
    waiting: AtomicUsize,
    wake: Notify,
}

impl Accepting {
    pub(super) fn new(port: u16) -> Arc<Self> {
        Arc::new(Self {
            port,
            ready: Mutex::new(Some(VecDeque::new())),
            waiting: AtomicUsize::new(0),
            wake: Notify::new(),
        })
    }

    /// Takes a place for a connection that begins its handshake, if there is one.
    pub(super) fn enter(&self, backlog: usize) -> bool {
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < backlog).then_some(n + 1)).is_ok()
    }

    /// Gives the place of a connection back.
    pub(super) fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Offers a connection whose handshake is over; returns false when nobody listens any more.
    pub(super) fn offer(&self, flow: &Arc<Flow>) -> bool {
        let mut ready = lock(&self.ready);
        let Some(queue) = ready.as_mut() else { return false };
        queue.push_back(Arc::clone(flow));
        self.wake.notify_one();
        true
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> Arc<Flow> {
        loop {
            let wake = self.wake.notified();
            let next = lock(&self.ready).as_mut().and_then(VecDeque::pop_front);
            if let Some(flow) = next {
                self.leave();
                return flow;
            }
            wake.await;
        }
    }

    /// Ends listening; returns the connections that nobody has accepted.
    pub(super) fn close(&self) -> VecDeque<Arc<Flow>> {
        let left = lock(&self.ready).take().unwrap_or_default();
        self.waiting.fetch_sub(left.len(), Ordering::Relaxed);
        left
    }
}
