//! One simulated gateway.

use std::collections::VecDeque;
use std::time::Duration;

use super::station::Station;

/// A question to the chain about a CVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether a newcomer may run.
    First(usize),
    /// Whether one that was allowed may still run.
    Again(usize),
}

/// What a gateway knows and does.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) there: bool,
    pub(super) processors: Station,
    /// Registration connections.
    pub(super) held: usize,
    pub(super) most_held: usize,
    pub(super) asking: Asking,
}

impl Gateway {
    pub(super) fn new(cores: u32) -> Self {
        Self { there: true, processors: Station::new(cores), held: 0, most_held: 0, asking: Asking::default() }
    }

    /// Takes one more connection, unless there are `limit`.
    pub(super) fn hold(&mut self, limit: usize) -> bool {
        if self.held >= limit {
            return false;
        }
        self.held += 1;
        self.most_held = self.most_held.max(self.held);
        true
    }
}

/// The one task that asks the chain: a round of questions at a time, in requests of a batch each, newcomers first.
#[derive(Debug, Default)]
pub(super) struct Asking {
    newcomers: VecDeque<Question>,
    doubts: VecDeque<Question>,
    /// What is being asked, how much of it was answered, and when the request was sent that is under way.
    round: Vec<Question>,
    next: usize,
    sent: Option<Duration>,
    /// Time that went by with requests, by how full they were: a request for one costs the time of one for many.
    spent: f64,
}

impl Asking {
    pub(super) fn push(&mut self, question: Question) {
        match question {
            Question::First(_) => self.newcomers.push_back(question),
            Question::Again(_) => self.doubts.push_back(question),
        }
    }

    /// Begins a round unless one is under way. Returns whether a request can be sent.
    pub(super) fn begin(&mut self, longest: usize) -> bool {
        if !self.round.is_empty() || (self.newcomers.is_empty() && self.doubts.is_empty()) {
            return false;
        }
        let newcomers = self.newcomers.len().min(longest);
        let doubts = self.doubts.len().min(longest - newcomers);
        self.round.extend(self.newcomers.drain(..newcomers).chain(self.doubts.drain(..doubts)));
        self.next = 0;
        true
    }

    /// Sends the next request of the round, of the length that it returns; `None` when all were sent.
    pub(super) fn send(&mut self, now: Duration, batch: usize) -> Option<usize> {
        let length = (self.round.len() - self.next).min(batch);
        self.sent = (length > 0).then_some(now);
        self.sent.map(|_| length)
    }

    /// The request was answered, or was not and has to be sent again in a later round.
    pub(super) fn heard(&mut self, now: Duration, (length, batch): (usize, usize), answered: bool) {
        let took = self.sent.take().map_or(Duration::ZERO, |sent| now - sent);
        self.spent += took.as_secs_f64() * part(length, batch);
        if answered {
            self.next += length;
        } else {
            let unanswered: Vec<_> = self.round.drain(self.next..self.next + length).collect();
            unanswered.into_iter().for_each(|question| self.push(question));
        }
    }

    /// Ends the round and gives what was answered in it.
    pub(super) fn end(&mut self) -> Vec<Question> {
        self.next = 0;
        std::mem::take(&mut self.round)
    }

    /// The part of the time until `now` that requests took, as if all of them had been full.
    pub(super) fn busy(&self, now: Duration) -> f64 {
        if now.is_zero() { 0.0 } else { self.spent / now.as_secs_f64() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a batch of questions")]
fn part(length: usize, batch: usize) -> f64 {
    length as f64 / batch.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_are_asked_about_first_and_a_round_is_bounded() {
        use Question::{Again, First};
        let second = Duration::from_secs(1);
        let mut asking = Asking::default();
        assert!(!asking.begin(3), "there is nothing to ask");
        (0..3).for_each(|cvm| asking.push(Again(cvm)));
        asking.push(First(9));
        assert!(asking.begin(3));
        assert!(!asking.begin(3), "one round at a time");
        assert_eq!(asking.send(second, 2), Some(2));
        asking.heard(2 * second, (2, 2), true);
        assert_eq!(asking.send(2 * second, 2), Some(1));
        asking.heard(3 * second, (1, 2), false);
        assert_eq!(asking.send(3 * second, 2), None);
        assert_eq!(asking.end(), [First(9), Again(0)]);
        assert_eq!(asking.busy(3 * second), 0.5, "a full request and a half one");
        assert!(asking.begin(3));
        assert_eq!(asking.send(4 * second, 3), Some(2));
        asking.heard(4 * second, (2, 3), true);
        assert_eq!(asking.end(), [Again(2), Again(1)], "what was not answered comes again");
    }

    #[test]
    fn connections_are_counted_and_limited() {
        let mut gateway = Gateway::new(1);
        assert!(gateway.hold(1));
        assert!(!gateway.hold(1));
        assert_eq!((gateway.held, gateway.most_held), (1, 1));
    }
}
