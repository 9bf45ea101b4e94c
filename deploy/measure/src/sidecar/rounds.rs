//! The interleaved rounds.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Plan;
use super::pgbench::{Turn, Work};
use super::scene::{Scene, Server};
use super::{process, tls};
use crate::spread::percentile;

/// How many connections are made at a time where connections are counted.
const CONNECTING: usize = 8;
/// How long sessions are idle.
const IDLE: Duration = Duration::from_secs(12);

/// What the rounds gave, one value a round.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// For each number of clients.
    pub(super) selects: Vec<Selects>,
    pub(super) connects: Connects,
    pub(super) copies: Sides,
    /// What is agreed on in a handshake.
    pub(super) tls: String,
    /// Memory of the sidecar for each idle session, in KiB; one value in all.
    pub(super) idle_kb: Vec<f64>,
}

/// Transactions by one number of clients.
#[derive(Debug, Default)]
pub(super) struct Selects {
    pub(super) clients: usize,
    /// Transactions a second.
    pub(super) tps: Sides,
    /// 99 of 100 took no longer, in milliseconds.
    pub(super) p99: Sides,
    /// CPU per transaction of who stands before Postgres, in microseconds.
    pub(super) cpu: Sides,
}

/// New connections.
#[derive(Debug, Default)]
pub(super) struct Connects {
    /// How many a second.
    pub(super) rate: Sides,
    /// CPU per connection of who stands before Postgres, in microseconds.
    pub(super) cpu: Sides,
}

/// What each of the three gave, one value a round.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) sidecar: Vec<f64>,
    /// Only where connections are counted.
    pub(super) unpooled_sidecar: Vec<f64>,
    pub(super) pgbouncer: Vec<f64>,
    /// Only where connections are counted.
    pub(super) unpooled_pgbouncer: Vec<f64>,
    pub(super) postgres: Vec<f64>,
}

impl Sides {
    fn push(&mut self, server: Server, value: f64) {
        match server {
            Server::Sidecar => self.sidecar.push(value),
            Server::UnpooledSidecar => self.unpooled_sidecar.push(value),
            Server::PgBouncer => self.pgbouncer.push(value),
            Server::UnpooledPgBouncer => self.unpooled_pgbouncer.push(value),
            Server::Postgres => self.postgres.push(value),
        }
    }
}

/// Everybody takes a turn in each round; the next round begins with another.
fn order(round: usize) -> [Server; 3] {
    let mut servers = [Server::Sidecar, Server::PgBouncer, Server::Postgres];
    servers.rotate_left(round % 3);
    servers
}

pub(super) async fn measure(scene: &Scene, plan: &Plan) -> anyhow::Result<Measured> {
    let mut measured = Measured { tls: tls::compare(scene).await.context("handshakes")?, ..Measured::default() };
    scene.initialize().await.context("pgbench's tables")?;
    // First, while the sidecar's memory has held nothing else.
    crate::tell("idle sessions");
    measured.idle_kb.push(idle(scene, plan.idle).await.context("idle sessions")?);
    for clients in plan.clients {
        measured.selects.push(Selects { clients, ..Selects::default() });
    }
    for round in 0..plan.rounds {
        crate::tell(&format!("round {} of {}", round + 1, plan.rounds));
        // What is compared is measured within seconds: who else uses the machine changes from minute to minute.
        let servers = order(round);
        for selects in &mut measured.selects {
            for server in servers {
                select(scene, plan, server, selects).await.with_context(|| format!("{server:?}, transactions"))?;
            }
        }
        for server in servers.into_iter().chain(servers.into_iter().filter_map(Server::unpooled)) {
            let connected = connect(scene, plan, server, &mut measured.connects).await;
            connected.with_context(|| format!("{server:?}, connections"))?;
        }
        for server in servers {
            let copied = scene.copy(server, plan.copied_rows).await;
            measured.copies.push(server, copied.with_context(|| format!("{server:?}, COPY"))? / 1e6);
        }
    }
    Ok(measured)
}

async fn connect(scene: &Scene, plan: &Plan, server: Server, connects: &mut Connects) -> anyhow::Result<()> {
    let (turn, cpu) = timed(scene, plan, server, Work::Connect, CONNECTING).await?;
    connects.rate.push(server, turn.tps);
    cpu.into_iter().for_each(|cpu| connects.cpu.push(server, cpu));
    Ok(())
}

async fn select(scene: &Scene, plan: &Plan, server: Server, selects: &mut Selects) -> anyhow::Result<()> {
    let (turn, cpu) = timed(scene, plan, server, Work::Select, selects.clients).await?;
    let p99 = percentile(&turn.latencies, 99).context("no transaction was logged")?;
    selects.tps.push(server, turn.tps);
    selects.p99.push(server, p99.as_secs_f64() * 1e3);
    cpu.into_iter().for_each(|cpu| selects.cpu.push(server, cpu));
    Ok(())
}

/// A turn, and the microseconds of CPU that who stands before Postgres has spent on each transaction.
async fn timed(
    scene: &Scene,
    plan: &Plan,
    server: Server,
    work: Work,
    clients: usize,
) -> anyhow::Result<(Turn, Option<f64>)> {
    let spent = || scene.pid(server).map(process::cpu).transpose();
    let before = spent()?;
    let turn = scene.turn(server, work, clients, plan.turn).await?;
    let spent = spent()?.zip(before).map(|(after, before)| after.saturating_sub(before));
    let count = f64::from(u32::try_from(turn.transactions)?);
    Ok((turn, spent.map(|spent| spent.as_secs_f64() * 1e6 / count)))
}

/// The sidecar's memory for each of some idle sessions, in KiB.
async fn idle(scene: &Scene, sessions: usize) -> anyhow::Result<f64> {
    let pid = scene.pid(Server::Sidecar).context("the sidecar does not run")?;
    // What is there once, whoever connects, is no session's.
    scene.turn(Server::Sidecar, Work::Connect, 1, Duration::from_secs(1)).await?;
    let before = process::memory(pid)?;
    let holding = scene.turn(Server::Sidecar, Work::Idle, sessions, IDLE);
    let looking = async {
        tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
        process::memory(pid)
    };
    let (held, after) = tokio::join!(holding, looking);
    let held = held?.transactions;
    if held < sessions as u64 {
        bail!("only {held} of {sessions} sessions were there");
    }
    let grown = after?.saturating_sub(before);
    Ok(f64::from(u32::try_from(grown)?) / f64::from(u32::try_from(sessions)?))
}
