//! The sidecar in front of Postgres, beside PgBouncer in session mode and beside Postgres' own TLS: all with mutual TLS 1.3 to
//! the same client, all in front of the same Postgres.

mod figures;
mod pgbench;
mod pki;
mod process;
mod rounds;
mod scene;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::report::Report;

/// The programs that are compared, and what they need.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// The repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    repository: PathBuf,

    /// The folder with gateway, registrar and simulator, which are only there because a sidecar needs them
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,

    /// The sidecar that is measured
    #[arg(long, value_name = "FILE")]
    sidecar: PathBuf,

    /// The folder of PostgreSQL's programs, psql and pgbench among them
    #[arg(long, value_name = "DIR")]
    postgres: PathBuf,

    /// The folder with PgBouncer and the libraries that it needs
    #[arg(long, value_name = "DIR")]
    pgbouncer: PathBuf,

    /// How many rounds; a few give a first impression
    #[arg(long, default_value_t = 7)]
    rounds: usize,

    /// How many seconds a turn of transactions or connections takes
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    turn: u64,
}

/// How much is measured.
struct Plan {
    /// In each round, everybody takes a turn with everything.
    rounds: usize,
    /// How long a turn of transactions or connections is.
    turn: Duration,
    /// How many clients there are at a time.
    clients: [usize; 3],
    /// How many rows of 8 KiB are copied in a turn.
    copied_rows: usize,
    /// How many sessions are idle while memory is looked at.
    idle: usize,
}

impl Plan {
    /// Enough for figures that hold, with enough rounds of enough time.
    fn full(rounds: usize, turn: Duration) -> Self {
        Self { rounds, turn, clients: [1, 16, 64], copied_rows: 65_536, idle: 300 }
    }
}

/// Runs the benchmark.
pub(crate) fn run(programs: &Programs) -> anyhow::Result<Report> {
    let plan = &Plan::full(programs.rounds, Duration::from_secs(programs.turn));
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        crate::tell("starting a cluster, PgBouncer and Postgres with TLS");
        let scene = Box::pin(scene::Scene::new(programs)).await.context("the cluster")?;
        let measured = rounds::measure(&scene, plan).await;
        scene.stop().await;
        Ok(figures::report(plan, &measured?))
    })
}
