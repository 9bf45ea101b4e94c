//! What a connection does after something has happened to it: it sends, and it moves between the tables.

use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::connection::{Ending, Phase};
use super::flow::{Flow, FlowState};
use super::{Netstack, Scratch};
use crate::clock;
use crate::lock::lock;

/// When a connection wants to be looked at at once though it was looked at just now, because the socket has no room, it
/// is after this pause.
const SHORTLY: Duration = Duration::from_millis(2);

/// Longer than an acknowledgement is ever held back.
const ACK_DELAY: Duration = Duration::from_millis(500);

impl Netstack {
    /// Sends what a connection has to send, and does what follows from its state.
    pub(super) fn advance(&self, flow: &Arc<Flow>, state: &mut FlowState) {
        let mut scratch = self.take_scratch();
        self.advance_with(flow, state, &mut scratch, clock::now());
        self.give_scratch(scratch);
    }

    /// [`Netstack::advance`] with answers that are to be sent already.
    pub(super) fn advance_with(&self, flow: &Arc<Flow>, state: &mut FlowState, scratch: &mut Scratch, now: Instant) {
        #[cfg(test)]
        {
            state.turns += 1;
        }
        if !state.listed {
            return;
        }
        self.offer(flow, state);
        let Scratch { packets, sealed } = scratch;
        loop {
            let more = !self.link.is_congested() && state.connection.emit(self.tcp_time(now), packets);
            if !packets.is_empty() {
                self.link.send(&flow.peer, packets, state.connection.awaits_answer(), sealed, now);
            }
            if !more {
                break;
            }
            packets.clear();
        }
        self.settle(flow, state, packets.last(), now);
        packets.clear();
    }

    /// Does what follows from the state that a connection is in now. `answer` is what was sent last.
    fn settle(&self, flow: &Arc<Flow>, state: &mut FlowState, answer: Option<&[u8]>, now: Instant) {
        let phase = state.connection.phase();
        let tcp_now = self.tcp_time(now);
        let next = state.connection.next(tcp_now).map(|at| self.time(at).max(now + SHORTLY));
        // An acknowledgement of the far end's FIN may be held back for a moment.
        let owes_answer = answer.is_none() && next.is_some_and(|at| at < now + ACK_DELAY);
        match phase {
            Phase::Resting if !owes_answer => self.unlist(flow, state, answer, now),
            Phase::Over => self.unlist(flow, state, None, now),
            Phase::Opening | Phase::Open | Phase::Resting => {
                if let Some(next) = next.filter(|next| state.armed.is_none_or(|armed| *next < armed)) {
                    if lock(&self.deadlines).set(flow.key, state.armed, next) {
                        self.earlier.notify_one();
                    }
                    state.armed = Some(next);
                }
            }
        }
    }

    /// Gives a connection whose handshake is over to its listener, once.
    fn offer(&self, flow: &Arc<Flow>, state: &mut FlowState) {
        if state.connection.phase() != Phase::Open || state.connection.ending().is_some() {
            return;
        }
        let Some(accepting) = state.accepting.take() else { return };
        if accepting.offer(flow) {
            self.link.meters.connection("in", "open");
        } else {
            accepting.leave();
            state.connection.cut(Ending::Removed);
        }
    }

    /// Takes a connection out of every table.
    pub(super) fn unlist(&self, flow: &Arc<Flow>, state: &mut FlowState, answer: Option<&[u8]>, now: Instant) {
        state.listed = false;
        lock(&self.flows).remove(flow, answer, now);
        if let Some(armed) = state.armed.take() {
            lock(&self.deadlines).clear(flow.key, armed);
        }
        if let Some(accepting) = state.accepting.take() {
            accepting.leave();
            self.link.meters.connection("in", "not_completed");
        }
        self.link.meters.connections.decrement(1.0);
    }

    /// Locks a connection. One that a panic has left in pieces is taken out of every table instead.
    pub(super) fn lock_or_clear<'a>(&self, flow: &'a Arc<Flow>, now: Instant) -> Option<MutexGuard<'a, FlowState>> {
        let state = flow.lock();
        if state.is_none() {
            let mut wreck = flow.lock_anyhow();
            if wreck.listed {
                wreck.connection.cut(Ending::Removed);
                self.unlist(flow, &mut wreck, None, now);
            }
        }
        state
    }
}
