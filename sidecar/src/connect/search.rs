//! The way from a driver's startup packet to a server that will do.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postern_pgwire::boundary::Boundary;
use postern_pgwire::error_response::ServerError;
use postern_pgwire::login::MAX_LOGIN_MESSAGE;
use postern_pgwire::startup::Startup;
use postern_plumbing::Io;
use postern_plumbing::backoff::Backoff;
use tokio::io::AsyncReadExt as _;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep_until};

use super::choice::{self, Known, SessionAttrs};
use super::failure::Failure;
use super::forward::{Forwarder, Session};
use super::keys::Holder;
use super::login::{Greeting, Login, LoginFailed};
use super::target::{Target, Unmade, Verified};
use crate::deadline::Deadline;
use crate::packets::{self, ReadError};

/// The first and the longest pause after failures of which no server's circuit knows.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Terminate: the driver's goodbye.
const TERMINATE: &[u8] = b"X\0\0\0\x04";
/// How much is read of a server's first answer.
const FIRST_ANSWER: usize = 1_024;

/// What is known after each server was tried once.
#[derive(Debug)]
struct Round {
    failures: Vec<Arc<Failure>>,
    /// Whether one of the failures may be over soon.
    hope: bool,
    /// When to look again.
    next: Option<Instant>,
    /// How long to wait after a failure of which no server's circuit knows.
    pause: Duration,
}

impl Round {
    fn new(pauses: &mut Backoff) -> Self {
        let pause = pause(pauses, rand::random());
        Self { failures: Vec::new(), hope: false, next: None, pause }
    }

    fn away(&mut self, until: Option<Instant>, reason: Arc<Failure>) {
        self.hope |= reason.may_pass();
        self.next = self.next.into_iter().chain(until).min();
        self.failures.push(reason);
    }

    fn failed(&mut self, reason: Arc<Failure>) {
        let soon = reason.may_pass().then(|| Instant::now() + self.pause);
        self.away(soon, reason);
    }

    /// Why there is no server.
    fn end(mut self, wanted: SessionAttrs) -> Arc<Failure> {
        match self.failures.pop() {
            Some(only) if self.failures.is_empty() => only,
            last => {
                self.failures.extend(last);
                Arc::new(Failure::Nowhere { wanted, failures: self.failures })
            }
        }
    }
}

/// The next pause of a driver that waits for a server which serves nobody now, for a random number in `[0, 1)`. At least half of
/// the limit: full jitter could come out as no pause at all.
fn pause(pauses: &mut Backoff, random: f64) -> Duration {
    pauses.next(0.5 + random / 2.0)
}

impl Forwarder {
    /// Whether logins are watched: to choose among servers by what they say, and to know which of them a cancel key is for.
    pub(super) fn watches(&self) -> bool {
        match self.targets.as_slice() {
            [only] => self.wanted != SessionAttrs::Any || only.has_instances(),
            _ => true,
        }
    }

    /// The only server, whatever it says.
    pub(super) async fn reach<S: Io>(
        &self,
        driver: &mut S,
        startup: &Startup,
        ahead: &BytesMut,
        deadline: Deadline,
    ) -> Result<Session, Arc<Failure>> {
        let patience = deadline.at_most(self.patience);
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let mut round = Round::new(&mut pauses);
            for (_, target) in self.in_order() {
                match self.first_answer(target, driver, startup, ahead, deadline).await {
                    Ok((verified, heard)) => {
                        return Ok(Session { verified, heard, counted: target.count(), kept: None });
                    }
                    Err(Unmade::Away(away)) => round.away(away.until, away.reason),
                    Err(Unmade::Failed(failure)) if failure.leaves_others() => round.failed(failure),
                    Err(Unmade::Failed(failure)) => return Err(failure),
                }
            }
            self.wait(round, changed, patience).await?;
        }
    }

    /// The first of several servers, in the order of the day, that lets the driver in and is of the wanted kind.
    pub(super) async fn choose<S: Io>(
        &self,
        driver: &mut S,
        startup: &Startup,
        ahead: &mut BytesMut,
        deadline: Deadline,
    ) -> Result<Session, Arc<Failure>> {
        let mut login = Login::new(driver, ahead);
        let patience = deadline.at_most(self.patience);
        let mut pauses = Backoff::new(PAUSES.0, PAUSES.1);
        let Candidate { index, target, mut verified, greeting } = loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let mut round = Round::new(&mut pauses);
            if let Some(candidate) = Box::pin(self.try_each(&mut login, startup, deadline, &mut round)).await? {
                break candidate;
            }
            self.wait(round, changed, patience).await?;
        };
        let place = || target.name().to_owned();
        let concluded = deadline.limit(login.conclude(&mut verified.server.stream, &greeting)).await;
        let concluded = concluded.map_err(|_| Failure::Deadline { place: place() })?;
        concluded.map_err(|source| Failure::Login { place: place(), source })?;
        let instance = verified.server.peer.as_ref().map(|peer| peer.identity.instance_id);
        let kept = greeting.key.zip(instance).map(|(key, instance)| {
            let holder = Holder { target: index, instance };
            self.keys.keep(key, holder)
        });
        let heard = Boundary::after(&greeting.messages);
        Ok(Session { verified, heard, counted: target.count(), kept })
    }

    /// Tries every server once, until one will do.
    async fn try_each<S: Io>(
        &self,
        login: &mut Login<'_, S>,
        startup: &Startup,
        deadline: Deadline,
        round: &mut Round,
    ) -> Result<Option<Candidate>, Arc<Failure>> {
        let mut spare = None;
        for (index, target) in self.in_order() {
            let (verified, greeting) = match self.log_in(target, login, startup, deadline).await {
                Ok(logged_in) => logged_in,
                Err(Unmade::Away(away)) => {
                    round.away(away.until, away.reason);
                    continue;
                }
                Err(Unmade::Failed(failure)) if failure.leaves_others() => {
                    round.failed(failure);
                    continue;
                }
                Err(Unmade::Failed(failure)) => return Err(failure),
            };
            target.said(greeting.said);
            let suits = self.wanted.accept(greeting.said);
            let candidate = Candidate { index, target: Arc::clone(target), verified, greeting };
            if suits {
                if let Some(unneeded) = spare.replace(candidate) {
                    leave(unneeded).await;
                }
                break;
            }
            if self.wanted == SessionAttrs::PreferStandby && spare.is_none() {
                spare = Some(candidate);
                continue;
            }
            let place = target.name().to_owned();
            round.failed(Arc::new(Failure::Unsuitable { place, wanted: self.wanted }));
            leave(candidate).await;
        }
        Ok(spare)
    }

    /// Waits for a moment at which another round may go better.
    async fn wait(
        &self,
        round: Round,
        changed: Pin<&mut Notified<'_>>,
        patience: Deadline,
    ) -> Result<(), Arc<Failure>> {
        if !round.hope || patience.left().is_zero() {
            return Err(round.end(self.wanted));
        }
        let next = async {
            match round.next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => Ok(()),
            () = next => Ok(()),
            () = patience.passed() => Err(round.end(self.wanted)),
        }
    }

    fn in_order(&self) -> impl Iterator<Item = (usize, &Arc<Target>)> {
        let known: Vec<Known> = self.targets.iter().map(|target| target.known()).collect();
        let order = choice::order(self.balance, self.wanted, &known, |below| rand::random_range(0..below.max(1)));
        order.into_iter().filter_map(|index| Some((index, self.targets.get(index)?)))
    }

    /// A connection on which the server has answered the startup packet, and whatever the driver has sent behind it; and what
    /// the driver has heard of its server. An answer that is a refusal is not passed on: it may be over soon.
    async fn first_answer<S: Io>(
        &self,
        target: &Target,
        driver: &mut S,
        startup: &Startup,
        ahead: &[u8],
        deadline: Deadline,
    ) -> Result<(Verified, Boundary), Unmade> {
        let opening = [startup.raw(), ahead].concat();
        let place = || target.name().to_owned();
        let failed = |failure: Failure| Unmade::Failed(Arc::new(failure));
        let late = |_| failed(Failure::Deadline { place: place() });
        let mut verified = target.connection(deadline).await?;
        let answer = loop {
            let within = if verified.warm { deadline.at_most(self.attempt) } else { deadline };
            match within.limit(first_words(&mut verified.server.stream, &opening)).await {
                Ok(Ok(answer)) => break answer,
                // One that was kept ready may have been given up while nobody looked.
                Ok(Err(_)) | Err(_) if verified.warm => verified = target.new_connection(deadline).await?,
                Ok(Err(source)) => return Err(failed(Failure::Login { place: place(), source })),
                Err(passed) => return Err(late(passed)),
            }
        };
        let passed_on = deadline.limit(packets::write(driver, &answer)).await.map_err(late)?;
        passed_on.map_err(|error| {
            let source = LoginFailed::Driver(error.into());
            failed(Failure::Login { place: place(), source })
        })?;
        Ok((verified, Boundary::after(&answer)))
    }

    /// A login at one server.
    async fn log_in<S: Io>(
        &self,
        target: &Target,
        login: &mut Login<'_, S>,
        startup: &Startup,
        deadline: Deadline,
    ) -> Result<(Verified, Greeting), Unmade> {
        let place = || target.name().to_owned();
        let failed = |failure: Failure| Unmade::Failed(Arc::new(failure));
        let mut verified = target.connection(deadline).await?;
        loop {
            let logging_in = login.with(&mut verified.server.stream, startup.raw(), self.attempt);
            let ended = deadline.limit(Box::pin(logging_in)).await;
            match ended.map_err(|_| failed(Failure::Deadline { place: place() }))? {
                Ok(greeting) => return Ok((verified, greeting)),
                // A connection that was kept ready may have been given up by the server while nobody looked.
                Err(LoginFailed::Gone(_) | LoginFailed::Refused { at_once: true, .. }) if verified.warm => {
                    verified = target.new_connection(deadline).await?;
                }
                Err(source) => return Err(failed(Failure::Login { place: place(), source })),
            }
        }
    }
}

/// What a server answers first, as far as it comes at once.
async fn first_words<T: Io>(server: &mut T, opening: &[u8]) -> Result<BytesMut, LoginFailed> {
    let gone = |error: io::Error| LoginFailed::Gone(error.into());
    packets::write(server, opening).await.map_err(gone)?;
    let mut answer = BytesMut::with_capacity(FIRST_ANSWER);
    if server.read_buf(&mut answer).await.map_err(gone)? == 0 {
        return Err(LoginFailed::Gone(ReadError::Closed));
    }
    if !answer.starts_with(b"E") {
        return Ok(answer);
    }
    let refusal = packets::message(server, &mut answer, MAX_LOGIN_MESSAGE).await.map_err(LoginFailed::Server)?;
    let error = ServerError::parse(refusal.raw(), refusal.body());
    Err(LoginFailed::Refused { error, messages: BytesMut::new(), at_once: true })
}

/// A server that has let the driver in.
struct Candidate {
    index: usize,
    target: Arc<Target>,
    verified: Verified,
    greeting: Greeting,
}

/// Leaves a server that is not needed, as a driver would.
async fn leave(mut unneeded: Candidate) {
    let stream = &mut unneeded.verified.server.stream;
    if packets::write(stream, TERMINATE).await.is_ok() {
        packets::close(stream).await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    /// How long drivers wait, unless another patience is configured.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// When a driver asks that comes at zero and is told each time that nobody is served now.
    fn asks(mut random: impl FnMut() -> f64) -> Vec<Duration> {
        let (mut pauses, mut at) = (Backoff::new(PAUSES.0, PAUSES.1), Duration::ZERO);
        let next = || {
            at += pause(&mut pauses, random());
            (at < PATIENCE).then_some(at)
        };
        std::iter::once(Duration::ZERO).chain(std::iter::from_fn(next)).collect()
    }

    proptest! {
        #[test]
        fn a_driver_that_waits_asks_nine_times_at_most(numbers in prop::collection::vec(0.0..1.0_f64, 100)) {
            let mut numbers = numbers.into_iter().cycle();
            let asked = asks(|| numbers.next().unwrap()).len();
            prop_assert!((6..=9).contains(&asked), "{asked}");
        }
    }

    #[test]
    fn drivers_that_come_together_do_not_ask_in_step() {
        const DRIVERS: usize = 512;
        let mut chance = StdRng::seed_from_u64(1);
        let all: Vec<_> = (0..DRIVERS).map(|_| asks(|| chance.random())).collect();
        for (nth, least) in [(1, 25), (2, 75), (3, 175), (4, 375), (5, 775)] {
            let mut times: Vec<_> = all.iter().map(|asks| asks[nth]).collect();
            times.sort_unstable();
            // Nine of ten ask within this.
            let spread = times[DRIVERS * 19 / 20] - times[DRIVERS / 20];
            assert!(spread > Duration::from_millis(least), "ask {nth}: within {spread:?}");
        }
        for tenth in 10..50 {
            let (from, length) = (Duration::from_millis(100) * tenth, Duration::from_millis(100));
            let asked = all.iter().flatten().filter(|at| **at >= from && **at < from + length).count();
            assert!(asked < DRIVERS / 3, "{asked} ask after {from:?}");
        }
    }
}
