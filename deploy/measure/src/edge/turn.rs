//! One turn: one edge does one thing for a while.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::time::sleep;

use super::client::{Client, Deed, Stream};
use super::network::Underlay;
use super::scene::{Scene, Target};
use super::server::Wish;
use super::slow::Slow;
use super::usage::Spent;
use crate::spread::percentile;

/// How many ask, or connect, at a time.
pub(super) const CLIENTS: usize = 64;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// Bytes from the server to the client, by so many connections.
    Down(usize),
    /// Bytes from the client to the server.
    Up(usize),
    /// A connection with a TLS handshake for each request.
    Connect,
    /// Bytes from the server to the client by one connection, while so many others are idle.
    Beside(usize),
    /// Requests by connections that stand.
    Request,
    /// The same, while so many clients begin a connection and never come to its end.
    Amid(usize),
}

/// What is done, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) underlay: Underlay,
    /// How long it goes on before it is looked at.
    pub(super) warm_up: Duration,
    /// How long it is looked at.
    pub(super) turn: Duration,
}

/// What was seen meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn {
    pub(super) seconds: f64,
    pub(super) bytes: f64,
    /// Connections, or requests.
    pub(super) count: f64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) spent: Spent,
}

impl Turn {
    /// Gigabits a second.
    pub(super) fn gbps(&self) -> f64 {
        self.bytes * 8.0 / 1e9 / self.seconds
    }

    pub(super) fn gib(&self) -> f64 {
        self.bytes / f64::from(1 << 30)
    }

    /// Connections, or requests, a second.
    pub(super) fn rate(&self) -> f64 {
        self.count / self.seconds
    }
}

/// What is known at a moment.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    bytes: u64,
    spent: Spent,
}

impl Scene {
    /// Has a target do something for a while.
    pub(super) async fn turn(&self, target: &Target, job: Job) -> anyhow::Result<Turn> {
        self.network.lay(job.underlay, false).await?;
        let turn = self.on_the_client(target, job).await;
        self.network.lay(job.underlay, true).await?;
        ensure!(self.server.is_left().await, "some connections did not end");
        turn
    }

    async fn on_the_client(&self, target: &Target, job: Job) -> anyhow::Result<Turn> {
        let (client, server, edge) = (self.client.clone(), self.server.clone(), target.edge);
        let (address, got) = (target.address, Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&got);
        let look = move || {
            let is_up = matches!(job.work, Work::Up(_));
            let bytes = if is_up { server.received() } else { counted.load(Ordering::Relaxed) };
            anyhow::Ok(Moment { at: Instant::now(), bytes, spent: edge.spent()? })
        };
        let watch = async move || {
            sleep(job.warm_up).await;
            let before = look()?;
            sleep(job.turn).await;
            anyhow::Ok((before, look()?))
        };
        let turn = async move {
            match job.work {
                Work::Down(count) => {
                    let busy = client.download(address, count, &got).await?;
                    let (before, after) = watch().await?;
                    busy.check().await?;
                    Ok(before.until(after, &[]))
                }
                Work::Up(count) => {
                    let busy = client.upload(address, count).await?;
                    let (before, after) = watch().await?;
                    busy.check().await?;
                    Ok(before.until(after, &[]))
                }
                Work::Beside(count) => {
                    let _idle = idle(&client, address, count).await?;
                    let busy = client.download(address, 1, &got).await?;
                    let (before, after) = watch().await?;
                    busy.check().await?;
                    Ok(before.until(after, &[]))
                }
                Work::Connect => {
                    let doing = client.connect_anew(address, CLIENTS);
                    let (before, after) = watch().await?;
                    Ok(before.until(after, &doing.stop().await?))
                }
                Work::Request => {
                    let doing = client.ask_on(address, CLIENTS).await?;
                    let (before, after) = watch().await?;
                    Ok(before.until(after, &doing.stop().await?))
                }
                Work::Amid(count) => {
                    let doing = client.ask_on(address, CLIENTS).await?;
                    let slow = Slow::start(address, count).await?;
                    let (before, after) = watch().await?;
                    slow.check()?;
                    Ok(before.until(after, &doing.stop().await?))
                }
            }
        };
        self.network.client.run("turn", turn).await?
    }

    /// The memory of a target with some idle connections, in bytes: of its proxy, and of its tunnel.
    pub(super) async fn idle(&self, target: &Target, count: usize) -> anyhow::Result<(f64, f64)> {
        let (client, address, edge) = (self.client.clone(), target.address, target.edge);
        let held = self.network.client.run("idle", hold(client, address, count, move || edge.memory())).await?;
        ensure!(self.server.is_left().await, "some connections did not end");
        held
    }
}

/// Looks at something while connections are idle.
async fn hold<T>(
    client: Client,
    address: SocketAddr,
    count: usize,
    look: impl Fn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let streams = idle(&client, address, count).await?;
    let seen = look();
    drop(streams);
    seen
}

/// Opens connections, each of which has a request answered and is idle from then on.
async fn idle(client: &Client, address: SocketAddr, count: usize) -> anyhow::Result<Vec<Stream>> {
    const SETTLING: Duration = Duration::from_secs(1);
    let mut streams = client.open_many(address, Wish::Requests, count).await?;
    for stream in &mut streams {
        super::client::ask(stream).await?;
    }
    sleep(SETTLING).await;
    Ok(streams)
}

impl Moment {
    /// What happened from one moment to another, with what was done by then.
    fn until(self, after: Self, deeds: &[Deed]) -> Turn {
        let between = deeds.iter().filter(|deed| deed.done > self.at && deed.done <= after.at);
        let took: Vec<Duration> = between.map(|deed| deed.took).collect();
        let percent = |percent| percentile(&took, percent).unwrap_or_default();
        Turn {
            seconds: (after.at - self.at).as_secs_f64(),
            bytes: float(after.bytes - self.bytes),
            count: float(took.len() as u64),
            p50: percent(50),
            p99: percent(99),
            spent: after.spent.since(self.spent),
        }
    }
}

/// Exact up to 2^53, which no turn comes near.
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_done_meanwhile_counts() {
        let begin = Instant::now();
        let at = |seconds, bytes| Moment { at: begin + Duration::from_secs(seconds), bytes, spent: Spent::default() };
        let deed =
            |millis| Deed { done: begin + Duration::from_millis(millis), took: Duration::from_millis(millis / 100) };
        let deeds: Vec<Deed> = [900, 1_500, 2_500, 3_500].map(deed).into();
        let turn = at(1, 1 << 30).until(at(3, 5 << 30), &deeds);
        assert_eq!((turn.seconds, turn.gib(), turn.count, turn.rate()), (2.0, 4.0, 2.0, 1.0));
        assert_eq!((turn.p50, turn.p99), (Duration::from_millis(15), Duration::from_millis(25)));
        assert!((turn.gbps() - 17.18).abs() < 0.01);
    }
}
