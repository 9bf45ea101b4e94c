//! Runs one benchmark and prints what it found: the program behind `deploy/bench`.

mod admission;
mod authority;
mod cpu;
mod edge;
mod gateway;
mod handshake;
mod machine;
mod passthrough;
mod process;
mod report;
mod sidecar;
mod spread;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures parts of Postern beside what they are compared with.
///
/// Prints a Markdown table with medians and spreads over interleaved rounds, and then one line `figure NAME VALUE` per
/// figure. A figure that could not be had is left out, and a note says why.
#[derive(Parser)]
#[command(name = "measure", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Mutual RA-TLS beside plain mutual TLS, appraisals, and a live session while strangers arrive
    Handshake,
    /// How soon a removal on chain reaches live sessions, what looking at the chain costs, and whether a liar gets anybody in
    Admission(admission::Wish),
    /// The gateway's data path, beside HAProxy and nginx over the tunnels of others
    ///
    /// Has to be started in network and process namespaces of its own, as deploy/bench does.
    Edge(Box<edge::Programs>),
    /// The gateway's relay without its tunnel, for `edge`
    #[command(hide = true)]
    Passthrough(passthrough::Road),
    /// The sidecar in front of Postgres, beside PgBouncer and beside Postgres' own TLS
    Sidecar(sidecar::Programs),
}

fn main() -> ExitCode {
    let outcome: anyhow::Result<Box<dyn Display>> = match Arguments::parse().benchmark {
        Benchmark::Admission(wish) => admission::run(&admission::Plan::full(&wish)).map(boxed),
        Benchmark::Edge(programs) => edge::run(&programs).map(boxed),
        Benchmark::Passthrough(road) => passthrough::run(&road).map(|never| match never {}),
        Benchmark::Handshake => handshake::run(&handshake::Plan::full()).map(boxed),
        Benchmark::Sidecar(programs) => sidecar::run(&programs).map(boxed),
    };
    match outcome.and_then(|report| Ok(write!(std::io::stdout(), "{report}")?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn boxed(outcome: impl Display + 'static) -> Box<dyn Display> {
    Box::new(outcome)
}

/// Says on stderr what is going on.
#[expect(clippy::print_stderr, reason = "a command-line program tells its user what it does")]
fn tell(text: &str) {
    eprintln!("measure: {text}");
}
