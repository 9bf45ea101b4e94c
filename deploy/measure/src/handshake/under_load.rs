//! A live session alone, and among strangers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::anyhow;
use postern_attest_io::{Acceptor, Attestor, ClientRule, Connector};
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::{Task, Tasks};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::Plan;
use super::crowd::{Crowd, Stranger, arrive};
use super::guest::{ALPN, CLIENT, Guest, Platform, SERVER};
use super::live::converse;
use super::service::serve;
use crate::machine::Watch;
use crate::report::Row;
use crate::spread::{Spread, micros, percentile};

/// The most that 99 of 100 requests of the live session should take, in microseconds.
const LIVE_P99: f64 = 5000.0;

/// A round counts when its strangers kept this much of their pace, and this part of them was served.
const ENOUGH: f64 = 0.95;

/// What the rounds found. All times are in microseconds.
#[derive(Default)]
pub(super) struct Outcome {
    alone: Vec<f64>,
    loaded: Vec<f64>,
    loaded_median: Vec<f64>,
    strangers: Vec<f64>,
    /// Served strangers a second.
    rate: Vec<f64>,
    /// What others took of the machine's processors, in percent.
    others: Vec<f64>,
    troubles: Vec<String>,
}

/// Measures what the plan says about load.
pub(super) fn measure(plan: &Plan) -> anyhow::Result<Outcome> {
    // The server's runtime is that of a sidecar: a thread for each core, and others for appraisals.
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let stage = runtime.block_on(Stage::set())?;
    let mut outcome = Outcome::default();
    for round in 0..plan.loaded_rounds {
        let strangers = runtime.block_on(Stranger::issue(&stage.guest, &stage.of_clients, plan.strangers))?;
        let alone = stage.alone(plan.arriving() / 2)?;
        let watch = Watch::start();
        let (live, crowd) = stage.among(strangers, plan.rate, round)?;
        outcome.others.extend(watch.others());
        outcome.record(&alone, &live, &crowd);
    }
    Ok(outcome)
}

/// A server, and what its clients need.
struct Stage {
    address: SocketAddr,
    guest: Guest,
    of_clients: Arc<Attestor>,
    connector: Connector,
    _serving: Task<()>,
}

impl Stage {
    async fn set() -> anyhow::Result<Self> {
        let platform = Platform::new()?;
        let identity = Guest::start(&platform, SERVER)?.identity().await?;
        let acceptor = Acceptor::new(identity, platform.attestor()?, ALPN, ClientRule::Required);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        // If it ends early, whoever connects hears so.
        let serving = Task::spawn("service", async move { drop(serve(listener, acceptor, Tasks::new()).await) });
        let (guest, of_clients) = (Guest::start(&platform, CLIENT)?, platform.attestor()?);
        let connector = Connector::new(Some(guest.identity().await?), Arc::clone(&of_clients), ALPN);
        Ok(Self { address, guest, of_clients, connector, _serving: serving })
    }

    /// The live session's requests when nobody else is there.
    fn alone(&self, time: Duration) -> anyhow::Result<Vec<Duration>> {
        let stop = Shutdown::new();
        let live = self.live(&stop)?;
        std::thread::sleep(time);
        stop.trigger();
        join(live)
    }

    /// The live session's requests while strangers arrive, and what became of these.
    fn among(&self, strangers: Vec<Stranger>, rate: f64, seed: u64) -> anyhow::Result<(Vec<Duration>, Crowd)> {
        let stop = Shutdown::new();
        let live = self.live(&stop)?;
        let address = self.address;
        let arriving = move || client_runtime()?.block_on(arrive(strangers, address, rate, seed));
        let crowd = join(std::thread::spawn(arriving));
        stop.trigger();
        Ok((join(live)?, crowd?))
    }

    /// Starts the live session on a thread of its own, and waits until it is up.
    fn live(&self, stop: &Shutdown) -> anyhow::Result<JoinHandle<anyhow::Result<Vec<Duration>>>> {
        let (up, is_up) = oneshot::channel();
        let (connector, address, stop) = (self.connector.clone(), self.address, stop.clone());
        let live = std::thread::spawn(move || client_runtime()?.block_on(converse(connector, address, up, stop)));
        match is_up.blocking_recv() {
            Ok(()) => Ok(live),
            Err(_) => Err(join(live).err().unwrap_or_else(|| anyhow!("the live session ended at once"))),
        }
    }
}

/// The one thread of a client.
fn client_runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn join<T>(thread: JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

impl Outcome {
    fn record(&mut self, alone: &[Duration], live: &[Duration], crowd: &Crowd) {
        self.alone.extend(percentile(alone, 99).map(micros));
        if let Some(trouble) = trouble(crowd) {
            self.troubles.push(trouble);
            return;
        }
        self.rate.push(count(crowd.served.len()) / crowd.arriving.as_secs_f64());
        self.loaded.extend(percentile(live, 99).map(micros));
        self.loaded_median.extend(percentile(live, 50).map(micros));
        self.strangers.extend(percentile(&crowd.served, 99).map(micros));
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |what, rounds: &[f64]| Row { what, rounds: Spread::of(rounds), ..Row::default() };
        vec![
            row("live session alone, p99 µs", &self.alone),
            row("live session among strangers, p50 µs", &self.loaded_median),
            Row {
                bar: Some(LIVE_P99),
                figure: Some("live_p99_under_cold_load_us"),
                ..row("live session among strangers, p99 µs", &self.loaded)
            },
            row("strangers, from arrival to first response, p99 µs", &self.strangers),
            row("strangers served a second", &self.rate),
            row("meanwhile, other programs on this machine, % of its CPUs", &self.others),
        ]
    }

    /// Why rounds do not count.
    pub(super) fn troubles(&self) -> &[String] {
        &self.troubles
    }
}

/// Why a round says nothing about the load that was asked for, if so.
fn trouble(crowd: &Crowd) -> Option<String> {
    let Crowd { served, refused, arriving, timetable } = crowd;
    if timetable.as_secs_f64() < ENOUGH * arriving.as_secs_f64() {
        return Some(format!(
            "A round is left out: its strangers were to arrive within {timetable:.1?} and took {arriving:.1?}; the machine is \
             too busy."
        ));
    }
    let all = served.len() + refused.len();
    if count(served.len()) < ENOUGH * count(all) {
        let why = refused.first().map_or("nobody came", String::as_str);
        return Some(format!("A round is left out: {} of {all} strangers were not served: {why}.", refused.len()));
    }
    None
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests;
