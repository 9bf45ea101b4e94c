//! The interleaved rounds.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::Plan;
use super::pgbench::{Turn, Work};
use super::process;
use super::scene::{Scene, Server};
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
    pub(super) connects: Sides,
    pub(super) copies: Sides,
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

/// What each of the three gave, one value a round.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) sidecar: Vec<f64>,
    pub(super) pgbouncer: Vec<f64>,
    /// Only where connections are counted.
    pub(super) unpooled: Vec<f64>,
    pub(super) postgres: Vec<f64>,
}

impl Sides {
    fn push(&mut self, server: Server, value: f64) {
        match server {
            Server::Sidecar => self.sidecar.push(value),
            Server::PgBouncer => self.pgbouncer.push(value),
            Server::Unpooled => self.unpooled.push(value),
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
    let mut measured = Measured::default();
    scene.initialize().await.context("pgbench's tables")?;
    // First, while the sidecar's memory has held nothing else.
    crate::tell("idle sessions");
    measured.idle_kb.push(idle(scene, plan.idle).await.context("idle sessions")?);
    for clients in plan.clients {
        measured.selects.push(Selects { clients, ..Selects::default() });
    }
    for round in 0..plan.rounds {
        crate::tell(&format!("round {} of {}", round + 1, plan.rounds));
        for server in order(round) {
            for selects in &mut measured.selects {
                select(scene, plan, server, selects).await.with_context(|| format!("{server:?}, transactions"))?;
            }
            connect(scene, plan, server, &mut measured.connects).await?;
            if server == Server::PgBouncer {
                connect(scene, plan, Server::Unpooled, &mut measured.connects).await?;
            }
            let copied = scene.copy(server, plan.copied_rows).await;
            measured.copies.push(server, copied.with_context(|| format!("{server:?}, COPY"))? / 1e6);
        }
    }
    Ok(measured)
}

async fn connect(scene: &Scene, plan: &Plan, server: Server, connects: &mut Sides) -> anyhow::Result<()> {
    let turn = scene.turn(server, Work::Connect, CONNECTING, plan.turn).await;
    connects.push(server, turn.with_context(|| format!("{server:?}, connections"))?.tps);
    Ok(())
}

async fn select(scene: &Scene, plan: &Plan, server: Server, selects: &mut Selects) -> anyhow::Result<()> {
    let spent = |pid: Option<u32>| pid.map(process::cpu).transpose();
    let before = spent(scene.pid(server))?;
    let turn = scene.turn(server, Work::Select, selects.clients, plan.turn).await?;
    let after = spent(scene.pid(server))?;
    let Turn { tps, transactions, latencies } = turn;
    let p99 = percentile(&latencies, 99).context("no transaction was logged")?;
    selects.tps.push(server, tps);
    selects.p99.push(server, p99.as_secs_f64() * 1e3);
    if let (Some(before), Some(after)) = (before, after) {
        let count = f64::from(u32::try_from(transactions)?);
        selects.cpu.push(server, after.saturating_sub(before).as_secs_f64() * 1e6 / count);
    }
    Ok(())
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
