//! Longer trials of a whole cluster than the demo's checks: the programs behind `deploy/drivers`, `deploy/regress` and
//! `deploy/endurance`.

mod drivers;
mod endurance;
mod program;
mod regress;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use postern_world::report::words;
use postern_world::{Keys, PostgresSource, Programs, Stage, World};

/// Starts a cluster on this machine and puts it through one trial.
///
/// Exits with 1 when something failed. All parts are stopped by pid when it ends.
#[derive(Parser)]
#[command(name = "trials", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    trial: Trial,

    /// Keep the state in this folder, which must not be in use, instead of a new one among the temporary files
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,

    /// Leave the state folder behind; after a failure it always stays
    #[arg(long, global = true)]
    keep: bool,

    /// Which Postgres: a release, from npm; `path`, the one that is first on PATH; or a folder of programs
    #[arg(long, value_name = "15|17|18|path|DIR", default_value = "17", global = true)]
    postgres: PostgresSource,

    /// The repository
    #[arg(long, value_name = "DIR", default_value = ".", global = true)]
    repository: PathBuf,
}

#[derive(Subcommand)]
enum Trial {
    /// Every stock driver connects, queries and cancels, on every way that it can take; prints a Markdown table
    Drivers(drivers::Arguments),
    /// PostgreSQL's own regression suite, directly and through Postern; the outcomes have to be the same
    Regress(regress::Arguments),
    /// pgbench, in long sessions and with a new connection for each transaction, while parts restart
    Endurance(endurance::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let name = match arguments.trial {
        Trial::Drivers(_) => "drivers",
        Trial::Regress(_) => "regress",
        Trial::Endurance(_) => "endurance",
    };
    let stage = Stage { name, keep: arguments.keep || arguments.state.is_some() };
    match run(stage, &arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            stage.tell(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(stage: Stage, arguments: &Arguments) -> Result<bool, String> {
    let programs = Programs::beside_this_one(&arguments.repository).map_err(words)?;
    let builder = World::builder(programs).state(arguments.state.clone()).postgres(arguments.postgres.clone());
    let keys = match &arguments.trial {
        Trial::Drivers(trial) => trial.keys(),
        Trial::Regress(_) => Keys::default(),
        Trial::Endurance(_) => endurance::KEYS,
    };
    let site = builder.tenants(["a"]).keys(keys).open().map_err(words)?;
    match &arguments.trial {
        Trial::Drivers(trial) => {
            stage.play(site, async |world| Ok((drivers::run(stage, trial, &world).await?, world))).await
        }
        Trial::Regress(trial) => {
            let postgres = &arguments.postgres;
            stage.play(site, async |world| Ok((regress::run(stage, trial, postgres, &world).await?, world))).await
        }
        Trial::Endurance(trial) => stage.play(site, async |world| endurance::run(trial, world).await).await,
    }
}
