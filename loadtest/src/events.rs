//! Does to a fleet what a scenario says, and notes when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_world::{Fleet, Process, Weather, WorldError};
use tokio::time::sleep;

use crate::drive::{Lane, Shared};
use crate::result::{Mark, MarkKind};
use crate::scenario::{Action, Event, Target};

/// How long is waited for an effect before it is noted as missing.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for an effect.
const LOOK: Duration = Duration::from_millis(2);

/// What was done, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Chronicle {
    pub(crate) marks: Vec<Mark>,
    /// Each figure, with all its values in the order in which they were found.
    pub(crate) figures: BTreeMap<String, Vec<f64>>,
    pub(crate) notes: Vec<String>,
    /// Effects that did not come.
    pub(crate) failures: Vec<String>,
}

/// Who does it.
pub(crate) struct Conductor<'a> {
    pub(crate) fleet: &'a mut Fleet,
    pub(crate) shared: &'a Arc<Shared>,
    /// When the load began.
    pub(crate) begin: Instant,
    pub(crate) chronicle: &'a mut Chronicle,
}

impl Conductor<'_> {
    /// Does everything that belongs to a phase which begins now.
    pub(crate) async fn play(mut self, events: &[Event]) -> Result<(), WorldError> {
        let start = Instant::now();
        for event in events {
            tokio::time::sleep_until((start + event.at).into()).await;
            let at = self.begin.elapsed();
            Box::pin(self.perform(event)).await?;
            let until = self.begin.elapsed();
            let (kind, target, text) = describe(event, &self);
            self.chronicle.marks.push(Mark {
                at_s: at.as_secs_f64(),
                until_s: Some(until.as_secs_f64()),
                kind,
                target,
                text,
            });
        }
        Ok(())
    }

    async fn perform(&mut self, event: &Event) -> Result<(), WorldError> {
        match event.action {
            Action::Kill(target) => self.again(target, true).await,
            Action::Restart(target) => self.again(target, false).await,
            Action::Stop(target) => {
                self.process(target)?.halt();
                sleep(event.lasts).await;
                self.process(target)?.go_on();
                Ok(())
            }
            Action::Partition => self.weather(event, Weather { blocked: true, ..Weather::default() }).await,
            Action::LossyLink { loss, delay } => self.weather(event, Weather { blocked: false, loss, delay }).await,
            Action::SlowDisk { tenant, delay } => {
                self.fleet.slow_disk(tenant, delay).await?;
                sleep(event.lasts).await;
                self.fleet.slow_disk(tenant, Duration::ZERO).await
            }
            Action::Revoke { tenant } => self.revoke(tenant, event.lasts).await,
            Action::Leave { tenant } => self.leave(tenant, event.lasts).await,
        }
    }

    /// Ends a process, in order or as a crash would, starts it and waits until it is ready.
    async fn again(&mut self, target: Target, kill: bool) -> Result<(), WorldError> {
        let word = if kill { "kill" } else { "restart" };
        let begun = Instant::now();
        if let (Target::Database(tenant), true) = (target, kill) {
            self.fleet.crash_database(tenant).await?;
        } else {
            let process = self.process(target)?;
            if kill {
                process.kill().await;
            } else {
                process.stop().await;
            }
            process.start()?;
            self.ready(target).await?;
        }
        let part = match target {
            Target::Gateway => "gateway",
            Target::Sidecar(_) => "sidecar",
            Target::Database(_) => "database",
        };
        self.figure(&format!("{word}_{part}_ready_ms"), begun.elapsed());
        Ok(())
    }

    async fn ready(&mut self, target: Target) -> Result<(), WorldError> {
        match target {
            Target::Gateway => self.fleet.gateway_mut().ready().await,
            Target::Sidecar(tenant) => match self.fleet.member_mut(tenant) {
                Some(member) => member.sidecar_mut().ready().await,
                None => Ok(()),
            },
            Target::Database(_) => Ok(()),
        }
    }

    fn process(&mut self, target: Target) -> Result<&mut Process, WorldError> {
        match target {
            Target::Gateway => Ok(self.fleet.gateway_mut().process()),
            Target::Database(tenant) => self.fleet.database(tenant),
            Target::Sidecar(tenant) => match self.fleet.member_mut(tenant) {
                Some(member) => Ok(member.sidecar_mut().process()),
                None => Err(WorldError::Missing(format!("there is no tenant {tenant}"))),
            },
        }
    }

    async fn weather(&self, event: &Event, weather: Weather) -> Result<(), WorldError> {
        let missing = || WorldError::Missing("there is no stage on the way of packets".to_owned());
        self.fleet.link().ok_or_else(missing)?.set(weather);
        sleep(event.lasts).await;
        self.fleet.link().ok_or_else(missing)?.set(Weather::default());
        Ok(())
    }

    /// Withdraws an app on the chain; its sessions have to end. Allows it again; there have to be sessions again.
    async fn revoke(&mut self, tenant: usize, lasts: Duration) -> Result<(), WorldError> {
        let (Some(member), Some(lane)) = (self.fleet.members().get(tenant), self.shared.lanes.get(tenant)) else {
            return Ok(());
        };
        let had = lane.open() > 0;
        let asked = Instant::now();
        member.forbid().await?;
        let told = Instant::now();
        let gone = until(|| lane.open() == 0).await;
        match lane.cut().filter(|_| gone && had) {
            Some(cut) => {
                self.figure("revocation_asked_to_cut_ms", cut.saturating_duration_since(asked));
                // 0 when the last session was gone before the registrar had its receipt.
                self.figure("revocation_told_to_cut_ms", cut.saturating_duration_since(told));
            }
            None => self.missing(tenant, "had sessions a minute after the chain had withdrawn it, or none before"),
        }
        sleep(lasts).await;
        let Some(member) = self.fleet.members().get(tenant) else { return Ok(()) };
        let asked = Instant::now();
        member.allow().await?;
        self.back("allowance_asked_to_session_ms", tenant, asked).await;
        Ok(())
    }

    /// Has a sidecar end in order, and starts it again.
    async fn leave(&mut self, tenant: usize, lasts: Duration) -> Result<(), WorldError> {
        let begun = Instant::now();
        self.process(Target::Sidecar(tenant))?.stop().await;
        self.figure("leave_ms", begun.elapsed());
        sleep(lasts).await;
        let begun = Instant::now();
        self.process(Target::Sidecar(tenant))?.start()?;
        self.ready(Target::Sidecar(tenant)).await?;
        self.figure("arrive_ready_ms", begun.elapsed());
        self.back("arrive_session_ms", tenant, begun).await;
        Ok(())
    }

    /// Waits until a tenant has a session again.
    async fn back(&mut self, figure: &str, tenant: usize, since: Instant) {
        let Some(lane) = self.shared.lanes.get(tenant).map(Arc::clone) else { return };
        if until(|| has_session(&lane)).await {
            self.figure(figure, since.elapsed());
        } else {
            self.missing(tenant, "had no session again within a minute");
        }
    }

    fn figure(&mut self, name: &str, value: Duration) {
        self.chronicle.figures.entry(name.to_owned()).or_default().push(value.as_secs_f64() * 1000.0);
    }

    fn missing(&mut self, tenant: usize, text: &str) {
        let name = self.shared.lanes.get(tenant).map_or("a tenant", |lane| lane.door.tenant.as_str());
        self.chronicle.failures.push(format!("{name} {text}"));
    }
}

fn has_session(lane: &Lane) -> bool {
    lane.open() > 0
}

/// Waits until something is so; says whether it came to be.
async fn until(is_so: impl Fn() -> bool) -> bool {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() >= end {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

fn describe(event: &Event, conductor: &Conductor<'_>) -> (MarkKind, String, String) {
    let tenant = |tenant: usize| conductor.shared.lanes.get(tenant).map_or("", |lane| lane.door.tenant.as_str());
    let target = |target: Target| match target {
        Target::Gateway => "gateway".to_owned(),
        Target::Sidecar(number) => format!("sidecar of {}", tenant(number)),
        Target::Database(number) => format!("database of {}", tenant(number)),
    };
    let all = || "every tunnel".to_owned();
    match event.action {
        Action::Kill(part) => (MarkKind::Kill, target(part), "killed, and started again".to_owned()),
        Action::Restart(part) => (MarkKind::Restart, target(part), "asked to end, and started again".to_owned()),
        Action::Stop(part) => (MarkKind::Stop, target(part), format!("halted for {:?}", event.lasts)),
        Action::Partition => (MarkKind::Partition, all(), format!("no packet passed for {:?}", event.lasts)),
        Action::LossyLink { loss, delay } => {
            let text =
                format!("{:.1} % of packets lost, the others {delay:?} late, for {:?}", loss * 100.0, event.lasts);
            (MarkKind::LossyLink, all(), text)
        }
        Action::SlowDisk { tenant: number, delay } => {
            let text = format!("each flush {delay:?} longer, for {:?}", event.lasts);
            (MarkKind::SlowDisk, format!("database of {}", tenant(number)), text)
        }
        Action::Revoke { tenant: number } => {
            let text = format!("withdrawn on the chain for {:?}", event.lasts);
            (MarkKind::Revoke, tenant(number).to_owned(), text)
        }
        Action::Leave { tenant: number } => {
            (MarkKind::Leave, tenant(number).to_owned(), format!("its sidecar was away for {:?}", event.lasts))
        }
    }
}
