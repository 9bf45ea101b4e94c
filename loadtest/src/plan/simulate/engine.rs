//! Plays a scenario, event by event.

mod parts;
mod registering;
mod revoking;

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::agenda::Agenda;
use super::control::{Control, Scenario};
use super::cvm::{Cvm, Stage};
use super::gateway::Gateway;
use super::outcome::{Failure, Outcome, Part, by};
use super::station::Station;

/// The longest time that is simulated, and the most events: a fleet that has not come to rest by then will not.
const HORIZON: Duration = Duration::from_secs(10 * 60);
const MOST_EVENTS: u64 = 5_000_000;
/// How long the fleet is watched after a revocation reached everybody, and how much of that counts.
const AFTERMATH: Duration = Duration::from_secs(3 * 60);
const LAST: Duration = Duration::from_secs(20);

/// What happens.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A CVM connects to a gateway.
    Dial { cvm: usize },
    /// A gateway has judged its evidence.
    Judged { cvm: usize, attempt: u32 },
    /// Its registration is in the registry.
    Written { cvm: usize, gateway: usize },
    /// It renews its registration.
    Renew { cvm: usize, attempt: u32 },
    /// It waits no longer.
    GiveUp { cvm: usize, attempt: u32 },
    /// A gateway sees the block that revokes.
    Look { gateway: usize },
    /// A request to the chain is over.
    Heard { gateway: usize, length: usize, answered: bool },
}

/// The state of everything.
#[derive(Debug)]
pub(super) struct Engine<'a> {
    control: &'a Control,
    random: ChaCha8Rng,
    agenda: Agenda<Event>,
    cvms: Vec<Cvm>,
    gateways: Vec<Gateway>,
    endpoints: Vec<Station>,
    registry: Station,
    /// The CVMs that count, the first of all, and how many of them are where they should be.
    concerned: Concerned,
    reached: usize,
    /// The latest moment at which one of them got there, which may still be to come.
    latest: Duration,
    failed: BTreeMap<Failure, u64>,
    /// When the fleet came to rest, and what was hot until then.
    rest: Option<(Duration, Vec<Part>)>,
    after: u64,
    rules: bool,
}

/// Which CVMs a scenario is about, and what is to become of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concerned {
    /// All are to register.
    All,
    /// Those whose gateway is among the first, so many, are to register again.
    OfGateways(usize),
    /// The first, so many, are to be cut.
    Revoked(usize),
}

impl<'a> Engine<'a> {
    pub(super) fn new(control: &'a Control, seed: u64) -> Self {
        Self {
            control,
            random: ChaCha8Rng::seed_from_u64(seed),
            agenda: Agenda::new(),
            cvms: vec![Cvm::new(&control.bounds); control.cvms],
            gateways: (0..control.gateways).map(|_| Gateway::new(control.cores)).collect(),
            endpoints: vec![Station::new(1); control.chain.endpoints],
            registry: Station::new(1),
            concerned: Concerned::All,
            reached: 0,
            latest: Duration::ZERO,
            failed: BTreeMap::new(),
            rest: None,
            after: 0,
            rules: false,
        }
    }

    pub(super) fn play(mut self, scenario: Scenario) -> Outcome {
        self.set_the_scene(scenario);
        let target = self.target();
        while let Some(event) = self.agenda.next() {
            let now = self.agenda.now();
            if now > self.end() || self.agenda.taken() > MOST_EVENTS {
                break;
            }
            self.happen(event);
            if self.rest.is_none() && self.reached >= target {
                let rest = now.max(self.latest);
                self.rest = Some((rest, self.parts(rest)));
                if !matches!(self.concerned, Concerned::Revoked(_)) {
                    break;
                }
            }
        }
        self.outcome(target)
    }

    fn set_the_scene(&mut self, scenario: Scenario) {
        match scenario {
            Scenario::ColdStart(within) => {
                for cvm in 0..self.cvms.len() {
                    let at = within.mul_f64(self.random.random());
                    self.agenda.at(at, Event::Dial { cvm });
                }
            }
            Scenario::RegionLost(lost) => {
                self.settle();
                self.concerned = Concerned::OfGateways(lost);
                self.gateways.iter_mut().take(lost).for_each(|gateway| gateway.there = false);
            }
            Scenario::Revocation { revoked, rules } => {
                self.settle();
                self.rules = rules;
                self.concerned = Concerned::Revoked(revoked);
                self.cvms.iter_mut().take(revoked).for_each(|cvm| cvm.revoked = true);
                for gateway in 0..self.gateways.len() {
                    let phase = self.control.chain.poll.mul_f64(self.random.random());
                    // The head, and what was logged since the one before.
                    self.agenda.at(phase + 2 * self.control.chain.round_trip, Event::Look { gateway });
                }
            }
        }
    }

    /// Has everybody registered, evenly over the gateways, as far as there is room.
    fn settle(&mut self) {
        let gateways = self.gateways.len().max(1);
        for (number, cvm) in self.cvms.iter_mut().enumerate() {
            let at = number % gateways;
            let room = self.gateways.get_mut(at).is_some_and(|gateway| gateway.hold(self.control.bounds.registrations));
            if !room {
                self.agenda.at(Duration::ZERO, Event::Dial { cvm: number });
                continue;
            }
            (cvm.stage, cvm.attempt, cvm.home) = (Stage::Registered, 1, Some(at));
            (cvm.judged_at, cvm.followed_at) = (Some(at), Some(at));
            let renewal = self.control.bounds.refresh.mul_f64(self.random.random());
            self.agenda.at(renewal, Event::Renew { cvm: number, attempt: 1 });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dial { cvm } => self.dial(cvm),
            Event::Judged { cvm, attempt } => self.judged(cvm, attempt),
            Event::Written { cvm, gateway } => self.written(cvm, gateway),
            Event::Renew { cvm, attempt } => self.renew(cvm, attempt),
            Event::GiveUp { cvm, attempt } => self.give_up(cvm, attempt),
            Event::Look { gateway } => self.look(gateway),
            Event::Heard { gateway, length, answered } => self.heard(gateway, length, answered),
        }
    }

    fn end(&self) -> Duration {
        self.rest.as_ref().map_or(HORIZON, |(rest, _)| *rest + AFTERMATH)
    }

    /// Whether the scenario is about this CVM.
    fn concerns(&self, cvm: usize) -> bool {
        match self.concerned {
            Concerned::All => true,
            Concerned::OfGateways(lost) => cvm % self.gateways.len().max(1) < lost,
            Concerned::Revoked(revoked) => cvm < revoked,
        }
    }

    /// Whether the fleet is not at rest until something happens to this CVM.
    fn waits_for(&self, cvm: usize) -> bool {
        self.rest.is_none() && self.concerns(cvm)
    }

    fn target(&self) -> usize {
        (0..self.cvms.len()).filter(|&cvm| self.concerns(cvm)).count()
    }

    fn outcome(self, target: usize) -> Outcome {
        let revocation = matches!(self.concerned, Concerned::Revoked(_));
        let moment = |cvm: &Cvm| match revocation {
            true => cvm.cut,
            false => (cvm.stage == Stage::Registered).then_some(cvm.since),
        };
        let concerned = self.cvms.iter().enumerate().filter(|(number, _)| self.concerns(*number));
        let mut moments: Vec<Duration> = concerned.filter_map(|(_, cvm)| moment(cvm)).collect();
        moments.sort();
        // Shares are of all who are concerned: while some are missing, their moments lie beyond all others.
        let share = |percent| (moments.len() * 100 >= target * percent).then(|| by(&moments, percent)).flatten();
        let simulated = self.agenda.now();
        let converged = self.rest.as_ref().map(|(rest, _)| *rest);
        let watched = converged.filter(|_| revocation).map(|rest| (simulated - rest).min(LAST));
        Outcome {
            converged,
            half: share(50),
            most: share(99),
            reached: (self.reached, target),
            aftermath: watched.filter(|time| !time.is_zero()).map(|time| rate(self.after, time)),
            simulated,
            events: self.agenda.taken(),
            parts: self.rest.as_ref().map_or_else(|| self.parts(simulated), |(_, parts)| parts.clone()),
            failed: self.failed,
        }
    }

    /// A CVM has failed and tries again after a pause.
    fn fail(&mut self, cvm: usize, failure: Failure) {
        self.note(failure);
        let random = self.random.random();
        let now = self.agenda.now();
        let Some(state) = self.cvms.get_mut(cvm) else { return };
        (state.stage, state.attempt) = (Stage::Away, state.attempt + 1);
        if matches!(failure, Failure::GatewayFull | Failure::GatewaySilent) {
            state.home = None;
        }
        let backoff = if failure == Failure::NotAdmitted { &mut state.refused } else { &mut state.backoff };
        let pause = backoff.next(random);
        self.agenda.at(now + pause, Event::Dial { cvm });
    }

    fn note(&mut self, failure: Failure) {
        match &self.rest {
            None => *self.failed.entry(failure).or_default() += 1,
            Some((rest, _)) if self.agenda.now() > *rest + AFTERMATH - LAST => self.after += 1,
            Some(_) => {}
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of events stays far below 2^53")]
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
