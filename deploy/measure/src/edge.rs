//! The gateway's data path beside that of others: the same TLS client and server, by turns through each of several edges and
//! the tunnels behind them, in networks that are there for this alone.

mod client;
mod figures;
mod impairment;
mod machine;
mod measured;
mod network;
mod peers;
mod postern;
mod program;
mod proxies;
mod rounds;
mod scene;
mod server;
mod slow;
mod turn;
mod usage;
mod wireguard;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::figures::Outcome;
use self::peers::Peer;
use self::scene::Scene;

/// How many connections are idle while memory is looked at, unless another number is asked for.
const IDLE: usize = 5_000;

/// How many slow clients there are: as many as the gateway has places, but for those who ask meanwhile.
const SLOW: usize = proxies::CONNECTIONS - turn::CLIENTS;

/// The programs that are compared, and how much is measured. A program that is not named takes no part.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// HAProxy
    #[arg(long, value_name = "FILE")]
    haproxy: Option<PathBuf>,

    /// nginx
    #[arg(long, value_name = "FILE")]
    nginx: Option<PathBuf>,

    /// nginx' module for streams
    #[arg(long, value_name = "FILE")]
    nginx_stream: Option<PathBuf>,

    /// wireguard-go
    #[arg(long, value_name = "FILE")]
    wireguard_go: Option<PathBuf>,

    /// boringtun-cli
    #[arg(long, value_name = "FILE")]
    boringtun_cli: Option<PathBuf>,

    /// ethtool, which has the kernel split datagrams before a cable
    #[arg(long, value_name = "FILE")]
    ethtool: Option<PathBuf>,

    /// A folder of libraries that the other programs may need
    #[arg(long, value_name = "DIR")]
    libraries: Option<PathBuf>,

    /// Who takes part; everybody when nothing is said
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    peers: Vec<Peer>,

    /// What is measured; everything when nothing is said
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    parts: Vec<Part>,

    /// How many rounds; in each, everybody takes a turn with everything
    #[arg(long, value_name = "NUMBER")]
    rounds: Option<usize>,

    /// How long a turn is looked at, in seconds
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<f64>,

    /// How many connections are idle while memory is looked at. More than others are set up for, the gateway alone has
    #[arg(long, value_name = "NUMBER")]
    idle: Option<usize>,

    /// One round of short turns: a first impression, of which no figure holds
    #[arg(long)]
    quick: bool,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Memory with idle connections
    Idle,
    /// Gigabits a second, by one connection and by eight, both ways
    Bulk,
    /// The same where UDP datagrams are split before the cable
    Split,
    /// New TLS connections
    Connections,
    /// Requests by connections that stand
    Requests,
    /// The same while slow clients hold all other places
    Slow,
    /// A download through a tunnel without an interface, with idle connections beside it and without
    Netstack,
    /// A long way on which packets are lost
    Lossy,
}

/// How much is measured.
struct Plan {
    parts: Vec<Part>,
    /// How many connections are idle.
    idle: usize,
    rounds: usize,
    /// How long a turn goes on before it is looked at.
    warm_up: Duration,
    turn: Duration,
    /// The same for a lossy way, on which everything is slower.
    lossy_warm_up: Duration,
    lossy_turn: Duration,
    /// How many connections share the lossy way: each loses by chance.
    lossy_connections: usize,
}

impl Plan {
    fn new(programs: &Programs) -> anyhow::Result<Self> {
        let mut plan = if programs.quick { Self::of(1, 1.0, 4) } else { Self::of(3, 2.0, 10) };
        if let Some(seconds) = programs.seconds {
            plan.turn = Duration::try_from_secs_f64(seconds).context("the length of a turn")?;
        }
        if !programs.parts.is_empty() {
            plan.parts.clone_from(&programs.parts);
        }
        plan.rounds = programs.rounds.unwrap_or(plan.rounds);
        plan.idle = programs.idle.unwrap_or(plan.idle);
        Ok(plan)
    }

    /// Everything, with turns of some seconds.
    fn of(rounds: usize, turn: f64, lossy_turn: u64) -> Self {
        Self {
            parts: Part::value_variants().to_vec(),
            idle: IDLE,
            rounds,
            warm_up: Duration::from_millis(500),
            turn: Duration::from_secs_f64(turn),
            lossy_warm_up: Duration::from_secs(3),
            lossy_turn: Duration::from_secs(lossy_turn),
            lossy_connections: 32,
        }
    }
}

/// Runs the benchmark. It changes the network that it is started in, and leaves processes behind if it is killed: it belongs
/// into network and process namespaces of its own.
pub(crate) fn run(programs: &Programs) -> anyhow::Result<Outcome> {
    let plan = Plan::new(programs)?;
    raise_descriptors()?;
    let peers = if programs.peers.is_empty() { Peer::value_variants() } else { &programs.peers };
    let needed = |peer: &&Peer| plan.parts.iter().any(|part| rounds::takes_part(*part, **peer));
    let peers: Vec<Peer> = peers.iter().filter(needed).copied().collect();
    tokio::runtime::Runtime::new()?.block_on(async {
        crate::tell("starting networks, tunnels and proxies");
        let scene = Box::pin(Scene::new(programs, &peers)).await?;
        let measured = rounds::measure(&scene, &plan).await;
        let taking_part: Vec<Peer> = scene.targets.iter().map(|target| target.peer).collect();
        Ok(figures::report(&plan, &taking_part, &measured, &scene.remarks))
    })
}

/// As many descriptors as may be, for this process and those that it starts.
fn raise_descriptors() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("the limit of descriptors")
}
