//! The datapath that needs no privileges: TCP in this process.
//!
//! A packet that comes in is decrypted, finds its connection by its ports and far end in one table, and is worked off by
//! that connection alone; what it answers is encrypted and sent before the next one is looked at. What a caller writes
//! is sent by the caller's own task. So nothing is handed from task to task, nothing queues in between, and the cost of a
//! packet does not depend on how many connections there are. A slow reader only fills its own window.
//!
//! Locks are taken in this order and none is held while waiting: one connection, then any of the tables here, then those
//! of the [`Link`].

mod advance;
mod connection;
mod deadlines;
mod deliver;
mod dial;
mod flow;
mod listener;
mod ports;

mod sequence;
mod stream;
mod table;
mod time_wait;
mod wire;
mod work;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postern_plumbing::shutdown::Shutdown;
use smoltcp::iface::Interface;
use tokio::sync::Notify;

use self::connection::{Ending, Terms};
use self::deadlines::Deadlines;
use self::flow::{Flow, FlowKey};
use self::listener::Accepting;
use self::table::FlowTable;
use crate::batch::Batch;
use crate::clock;
use crate::config::{Peer, TcpSettings};
use crate::error::ListenError;
use crate::key::PublicKey;
use crate::link::{self, Link};
use crate::lock::lock;

pub(crate) use self::stream::{Listener, Stream};

/// smoltcp counts from zero and takes zero for long ago.
const EPOCH_OFFSET: Duration = Duration::from_secs(1);

pub(crate) struct Netstack {
    pub(crate) link: Link,
    pub(crate) address: IpAddr,
    mtu: u16,
    tcp: TcpSettings,
    epoch: Instant,
    flows: Mutex<FlowTable>,
    deadlines: Mutex<Deadlines<Instant, FlowKey>>,
    /// Woken when the first deadline has become an earlier one.
    earlier: Notify,
    scratch: Mutex<Vec<Scratch>>,
    /// Refuses packets that are for no connection.
    stranger: Mutex<Interface>,
    shutdown: Shutdown,
}

/// Buffers that are used again.
#[derive(Default)]
struct Scratch {
    packets: Batch,
    sealed: Batch,
}

impl Netstack {
    pub(crate) fn new(link: Link, address: IpAddr, mtu: u16, tcp: TcpSettings) -> Arc<Self> {
        let epoch = clock::now();
        Arc::new(Self {
            link,
            address,
            mtu,
            tcp,
            epoch,
            flows: Mutex::new(FlowTable::new(tcp.max_connections)),
            deadlines: Mutex::new(Deadlines::new()),
            earlier: Notify::new(),
            scratch: Mutex::default(),
            stranger: Mutex::new(connection::interface(address, mtu, tcp_time(epoch, epoch))),
            shutdown: Shutdown::new(),
        })
    }

    pub(crate) fn set_peer(&self, peer: &Peer) {
        if self.link.set_peer(peer, clock::now()) {
            self.cut_which(|flow| !self.link.owns(&flow.peer, flow.key.remote.ip()));
        }
    }

    pub(crate) fn remove_peer(&self, key: &PublicKey) -> bool {
        let Some(removed) = self.link.remove_peer(key) else { return false };
        self.cut_which(|flow| Arc::ptr_eq(&flow.peer, &removed));
        true
    }

    pub(crate) fn listen(self: &Arc<Self>, port: u16) -> Result<Listener, ListenError> {
        let accepting = lock(&self.flows).listen(port)?;
        Ok(Listener { stack: Arc::clone(self), accepting })
    }

    fn cut_which(&self, holds: impl Fn(&Flow) -> bool) {
        let flows = lock(&self.flows).which(holds);
        for flow in flows {
            self.cut(&flow);
        }
    }

    fn cut(&self, flow: &Arc<Flow>) {
        if let Some(mut state) = self.lock_or_clear(flow, clock::now()) {
            state.connection.cut(Ending::Removed);
            self.advance(flow, &mut state);
        }
    }

    fn unlisten(&self, accepting: &Accepting) {
        lock(&self.flows).unlisten(accepting.port);
        for flow in accepting.close() {
            self.cut(&flow);
        }
    }

    /// Stops at once, without a word to anybody.
    pub(crate) fn stop(&self) {
        self.shutdown.trigger();
        self.link.close();
        let flows = lock(&self.flows).stop();
        let now = clock::now();
        for flow in flows {
            let mut state = flow.lock_anyhow();
            state.connection.cut(Ending::Removed);
            self.unlist(&flow, &mut state, None, now);
        }
    }

    /// What a connection of a port with a peer keeps to.
    fn terms(&self, port: u16, peer: &link::Peer) -> Terms {
        let mtu = peer.mtu().unwrap_or(self.mtu);
        Terms { local: SocketAddr::new(self.address, port), mtu, tcp: self.tcp }
    }

    fn take_scratch(&self) -> Scratch {
        lock(&self.scratch).pop().unwrap_or_default()
    }

    fn give_scratch(&self, mut scratch: Scratch) {
        scratch.packets.clear();
        scratch.sealed.clear();
        lock(&self.scratch).push(scratch);
    }

    fn tcp_now(&self) -> smoltcp::time::Instant {
        self.tcp_time(clock::now())
    }

    fn tcp_time(&self, now: Instant) -> smoltcp::time::Instant {
        tcp_time(self.epoch, now)
    }

    fn time(&self, at: smoltcp::time::Instant) -> Instant {
        let since = Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or(0));
        self.epoch + since.saturating_sub(EPOCH_OFFSET)
    }
}

fn tcp_time(epoch: Instant, now: Instant) -> smoltcp::time::Instant {
    let since = now.saturating_duration_since(epoch) + EPOCH_OFFSET;
    smoltcp::time::Instant::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
