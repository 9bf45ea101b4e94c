//! Runs one benchmark and prints what it found: the program behind `deploy/bench`.

mod admission;
mod authority;
mod cpu;
mod gateway;
mod handshake;
mod machine;
mod process;
mod report;
mod sidecar;
mod spread;

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
    Admission,
    /// The sidecar in front of Postgres, beside PgBouncer and beside Postgres' own TLS
    Sidecar(sidecar::Programs),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().benchmark {
        Benchmark::Admission => admission::run(&admission::Plan::full()),
        Benchmark::Handshake => handshake::run(&handshake::Plan::full()),
        Benchmark::Sidecar(programs) => sidecar::run(&programs),
    };
    match outcome.and_then(|report| Ok(write!(std::io::stdout(), "{report}")?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Says on stderr what is going on.
#[expect(clippy::print_stderr, reason = "a command-line program tells its user what it does")]
fn tell(text: &str) {
    eprintln!("measure: {text}");
}
