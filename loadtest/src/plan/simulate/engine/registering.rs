//! A CVM's way into the fleet.

use std::time::Duration;

use rand::Rng as _;

use super::super::cvm::Stage;
use super::super::gateway::Question;
use super::super::outcome::Failure;
use super::{Engine, Event};

impl Engine<'_> {
    /// A CVM goes where it was before, unless that was in vain, and then to any gateway that is there.
    pub(super) fn dial(&mut self, cvm: usize) {
        let (now, round_trip) = (self.agenda.now(), self.control.round_trip);
        let before = self.cvms.get(cvm).and_then(|state| state.home);
        let Some(at) = before.or_else(|| self.choose()) else { return self.fail(cvm, Failure::GatewaySilent) };
        let (Some(state), Some(gateway)) = (self.cvms.get_mut(cvm), self.gateways.get_mut(at)) else { return };
        if !gateway.hold(self.control.bounds.registrations) {
            return self.fail(cvm, Failure::GatewayFull);
        }
        (state.stage, state.home, state.attempt) = (Stage::Opening, Some(at), state.attempt + 1);
        let attempt = state.attempt;
        let appraisal = if state.judged_at == Some(at) { Duration::ZERO } else { self.control.work.appraisal };
        // The certificate comes with the client's second flight.
        let judged = gateway.processors.serve(now + round_trip, self.control.work.handshake + appraisal);
        self.agenda.at(judged + round_trip, Event::Judged { cvm, attempt });
        self.agenda.at(now + self.control.bounds.give_up, Event::GiveUp { cvm, attempt });
    }

    fn choose(&mut self) -> Option<usize> {
        let there = self.gateways.iter().filter(|gateway| gateway.there).count();
        if there == 0 {
            return None;
        }
        let which = self.random.random_range(0..there);
        self.gateways.iter().enumerate().filter(|(_, gateway)| gateway.there).nth(which).map(|(at, _)| at)
    }

    pub(super) fn judged(&mut self, cvm: usize, attempt: u32) {
        let Some(state) = self.cvms.get_mut(cvm).filter(|state| state.is_at(attempt, Stage::Opening)) else { return };
        let Some(at) = state.home else { return };
        state.judged_at = Some(at);
        if state.followed_at == Some(at) {
            return self.answered(cvm);
        }
        state.stage = Stage::Asking;
        // It may have been here before, and the question still be on its way.
        if state.asked_at.replace(at) == Some(at) {
            return;
        }
        if let Some(gateway) = self.gateways.get_mut(at) {
            gateway.asking.push(Question::First(cvm));
        }
        self.ask(at);
    }

    /// What the chain says about a newcomer is known.
    pub(super) fn answered(&mut self, cvm: usize) {
        let now = self.agenda.now();
        let write = Duration::from_secs_f64(1.0 / self.control.registry_writes);
        let Some(state) = self.cvms.get_mut(cvm) else { return };
        if state.revoked {
            self.turn_away(cvm, Failure::NotAdmitted);
            return self.is_cut(cvm, now);
        }
        state.followed_at = state.home;
        state.stage = Stage::Writing;
        let Some(home) = state.home else { return };
        match state.written_at.filter(|(at, _)| *at == home) {
            // It comes again, and finds what was begun the time before.
            Some((_, true)) => self.registered(cvm),
            Some((_, false)) => {}
            None => {
                state.written_at = Some((home, false));
                let written = self.registry.serve(now, write);
                self.agenda.at(written, Event::Written { cvm, gateway: home });
            }
        }
    }

    pub(super) fn written(&mut self, cvm: usize, gateway: usize) {
        let Some(state) = self.cvms.get_mut(cvm).filter(|state| state.written_at == Some((gateway, false))) else {
            return;
        };
        state.written_at = Some((gateway, true));
        if state.stage == Stage::Writing {
            self.registered(cvm);
        }
    }

    fn registered(&mut self, cvm: usize) {
        let now = self.agenda.now();
        let Some(state) = self.cvms.get_mut(cvm) else { return };
        (state.stage, state.since) = (Stage::Registered, now);
        state.backoff.reset();
        state.refused.reset();
        let attempt = state.attempt;
        if self.waits_for(cvm) {
            self.reached += 1;
        }
        self.agenda.at(now + self.control.bounds.refresh, Event::Renew { cvm, attempt });
    }

    pub(super) fn renew(&mut self, cvm: usize, attempt: u32) {
        let now = self.agenda.now();
        let Some(state) = self.cvms.get(cvm).filter(|state| state.is_at(attempt, Stage::Registered)) else { return };
        let Some(gateway) = state.home.and_then(|at| self.gateways.get_mut(at)) else { return };
        if !gateway.there {
            self.agenda.at(now + self.control.bounds.give_up, Event::GiveUp { cvm, attempt });
            return;
        }
        gateway.processors.serve(now + self.control.round_trip, self.control.work.renewal);
        if state.cut.is_some() {
            return self.turn_away(cvm, Failure::NotAdmitted);
        }
        self.agenda.at(now + self.control.bounds.refresh, Event::Renew { cvm, attempt });
    }

    pub(super) fn give_up(&mut self, cvm: usize, attempt: u32) {
        let Some(state) = self.cvms.get(cvm).filter(|state| state.attempt == attempt) else { return };
        let there = state.home.and_then(|at| self.gateways.get(at)).is_some_and(|gateway| gateway.there);
        let failure = match state.stage {
            Stage::Away => return,
            Stage::Registered if there => return,
            Stage::Registered => Failure::GatewaySilent,
            Stage::Opening => Failure::HandshakeLate,
            Stage::Asking => Failure::ChainLate,
            Stage::Writing => Failure::RegistryLate,
        };
        self.turn_away(cvm, failure);
    }

    /// Its connection ends, and it comes again.
    fn turn_away(&mut self, cvm: usize, failure: Failure) {
        let home = self.cvms.get(cvm).and_then(|state| state.home);
        if let Some(gateway) = home.and_then(|at| self.gateways.get_mut(at)) {
            gateway.held = gateway.held.saturating_sub(1);
        }
        self.fail(cvm, failure);
    }
}
