//! What gateways ask the chain, and what they do about the answers.

use std::time::Duration;

use super::super::cvm::Stage;
use super::super::gateway::Question;
use super::{Engine, Event};

impl Engine<'_> {
    /// A gateway sees the block with the revocations, and doubts what it knew.
    pub(super) fn look(&mut self, at: usize) {
        let rules = self.rules;
        let members = self.cvms.iter().enumerate();
        let here = members.filter(|(_, cvm)| cvm.stage == Stage::Registered && cvm.home == Some(at));
        let doubtful: Vec<usize> = here.filter(|(_, cvm)| rules || cvm.revoked).map(|(number, _)| number).collect();
        if let Some(gateway) = self.gateways.get_mut(at) {
            doubtful.into_iter().for_each(|cvm| gateway.asking.push(Question::Again(cvm)));
        }
        self.ask(at);
    }

    /// Has a gateway ask, unless it already does or has nothing to ask.
    pub(super) fn ask(&mut self, at: usize) {
        let round = self.control.chain.round;
        if self.gateways.get_mut(at).is_some_and(|gateway| gateway.asking.begin(round)) {
            self.request(at);
        }
    }

    /// Sends the next request of a round to all endpoints, or ends the round.
    fn request(&mut self, at: usize) {
        let now = self.agenda.now();
        let chain = self.control.chain;
        let Some(gateway) = self.gateways.get_mut(at) else { return };
        let Some(length) = gateway.asking.send(now, chain.batch) else {
            let answers = gateway.asking.end();
            answers.into_iter().for_each(|question| self.answer(at, question));
            return self.ask(at);
        };
        let work = Duration::from_secs_f64(count(length) / chain.questions_per_second);
        let mut answers: Vec<_> = self.endpoints.iter_mut().map(|endpoint| endpoint.serve(now, work)).collect();
        answers.sort();
        let settled = answers.get(chain.quorum.saturating_sub(1)).map(|done| *done + chain.round_trip);
        let late = now + chain.deadline;
        let answered = settled.is_some_and(|settled| settled <= late);
        let over = settled.filter(|_| answered).unwrap_or(late);
        self.agenda.at(over, Event::Heard { gateway: at, length, answered });
    }

    pub(super) fn heard(&mut self, at: usize, length: usize, answered: bool) {
        let (now, batch) = (self.agenda.now(), self.control.chain.batch);
        if let Some(gateway) = self.gateways.get_mut(at) {
            gateway.asking.heard(now, (length, batch), answered);
        }
        self.request(at);
    }

    fn answer(&mut self, at: usize, question: Question) {
        let now = self.agenda.now();
        let (Question::First(number) | Question::Again(number)) = question;
        let Some(cvm) = self.cvms.get_mut(number) else { return };
        match question {
            Question::First(_) => {
                cvm.asked_at = cvm.asked_at.filter(|&asked| asked != at);
                if cvm.stage == Stage::Asking && cvm.home == Some(at) {
                    self.answered(number);
                } else if !cvm.revoked {
                    // It has given up; when it comes again, the answer is there.
                    cvm.followed_at = Some(at);
                }
            }
            Question::Again(_) if cvm.revoked => {
                let Some(gateway) = self.gateways.get_mut(at) else { return };
                let cut = gateway.processors.serve(now, self.control.work.cut);
                self.is_cut(number, cut);
            }
            Question::Again(_) => {}
        }
    }

    /// Notes when a revoked CVM lost its sessions, or was refused without having had any.
    pub(super) fn is_cut(&mut self, cvm: usize, when: Duration) {
        let waits = self.waits_for(cvm);
        let Some(state) = self.cvms.get_mut(cvm).filter(|state| state.cut.is_none()) else { return };
        state.cut = Some(when);
        if waits {
            self.reached += 1;
            self.latest = self.latest.max(when);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a batch of questions")]
fn count(length: usize) -> f64 {
    length as f64
}
