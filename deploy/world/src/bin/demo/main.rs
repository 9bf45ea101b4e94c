//! Shows Postern at work, or checks that it works: the program behind `deploy/demo`.

mod checks;
mod client;
mod guide;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use postern_world::{PostgresSource, Programs, State, World, WorldSite};
use tokio::signal::unix::{SignalKind, signal};

use report::words;

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

    /// Which Postgres: `package` is version 17 from npm, `path` the one that is first on PATH, or a folder of programs
    #[arg(long, value_name = "package|path|DIR", default_value = "package")]
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
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell(&format!("demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether everything went well.
async fn run(arguments: &Arguments) -> Result<bool, String> {
    let programs = Programs::beside_this_one(&arguments.repository).map_err(words)?;
    let builder = World::builder(programs).state(arguments.state.clone()).postgres(arguments.postgres.clone());
    let site = builder.taps(arguments.check).open().map_err(words)?;
    let folder = site.folder().display().to_string();
    tell(&format!("demo: state in {folder}"));
    let outcome = show(site, arguments).await;
    let passed = outcome.as_ref().is_ok_and(|(passed, _)| *passed);
    if passed && !arguments.keep && arguments.state.is_none() {
        outcome?.1.remove().map_err(words)?;
        return Ok(true);
    }
    tell(&format!("demo: state and logs stay in {folder}"));
    outcome.map(|_| passed)
}

/// Builds the world; checks it, or lets a human try it until a signal comes; and stops it.
async fn show(site: WorldSite, arguments: &Arguments) -> Result<(bool, State), String> {
    let build = async { site.build(|step| tell(&format!("demo: {step}"))).await.map_err(words) };
    let world = unless_stopped(Box::pin(build)).await?;
    let (passed, world) = if arguments.check {
        unless_stopped(Box::pin(checks::run(world, arguments.python.clone(), std::io::stdout()))).await?
    } else {
        tell(&unless_stopped(guide::text(&world)).await?);
        tell(&format!("demo: {}, stopping", stop_signal().await));
        (true, world)
    };
    Ok((passed, world.stop().await))
}

/// Breaks off when a signal asks to end. What the future has started is stopped as it is dropped.
async fn unless_stopped<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::select! {
        outcome = future => outcome,
        signal = stop_signal() => Err(format!("stopped by {signal}")),
    }
}

/// Waits for a signal that asks to end, and names it.
async fn stop_signal() -> &'static str {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    }
}

#[expect(clippy::print_stderr, reason = "a command-line program tells its user what it does")]
fn tell(text: &str) {
    eprintln!("{text}");
}
