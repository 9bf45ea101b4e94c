//! The timers of every session, of which only those are looked at whose time has come.

use std::sync::Arc;
use std::time::Instant;

use super::Link;
use super::session::Session;
use super::table::Peer;
use crate::batch::Batch;
use crate::lock::{lock, read};

impl Link {
    /// Drives the timers whose time has come. Returns how many sessions were looked at.
    pub(crate) fn tick(&self, now: Instant) -> usize {
        self.limiter.reset_count();
        let (mut out, mut looked_at) = (Batch::default(), 0);
        loop {
            let Some((tick, due)) = lock(&self.wheel).turn(now) else { return looked_at };
            for index in due {
                let Some(peer) = read(&self.table).by_index(index).map(Arc::clone) else { continue };
                let mut session = lock(&peer.session);
                if session.armed != Some(tick) {
                    continue;
                }
                looked_at += 1;
                self.look_at(&peer, &mut session, now, &mut out);
                self.send_sealed(&self.udp, &mut session, &mut out);
            }
        }
    }

    /// Lets a session do what is due, and finds out when to look at it again.
    pub(super) fn look_at(&self, peer: &Peer, session: &mut Session, now: Instant, out: &mut Batch) {
        session.tick(now, out);
        let mut wheel = lock(&self.wheel);
        let tick = wheel.tick_at(session.next(now));
        session.armed = Some(tick);
        wheel.set(peer.index, tick);
    }

    /// To be called before a session is used. One that was left alone for a while gets its timers driven first, as it counts
    /// the time from there; and it is looked at soon, since something is about to happen to it.
    pub(super) fn wake(&self, peer: &Peer, session: &mut Session, now: Instant, out: &mut Batch) {
        if !session.is_fresh(now) {
            session.tick(now, out);
        }
        if session.awake {
            return;
        }
        session.awake = true;
        let mut wheel = lock(&self.wheel);
        let soon = wheel.tick_at(now);
        if session.armed.is_none_or(|armed| armed > soon) {
            session.armed = Some(soon);
            wheel.set(peer.index, soon);
        }
    }
}

#[cfg(test)]
mod tests;
