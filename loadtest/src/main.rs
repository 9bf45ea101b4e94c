//! The binary `loadtest`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::{Failure, compare, peers, plan, report, run};
use postern_plumbing::exit;

/// Load tests of a Postern cluster.
///
/// `run` builds a whole cluster on this machine, of real parts but for the simulated hardware under them, and puts a scenario's
/// load on it: an open loop of queries that are due at times fixed by a seed, each measured from when it was due. The result
/// is a JSON file, from which `report` makes a page to read and `compare` a verdict.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, max_term_width = 110, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build a cluster, or aim at one that is there, and run a scenario on it
    Run(Box<run::Arguments>),
    /// Run a scenario with other edges in the gateway's place, and without any
    Peers(Box<peers::Arguments>),
    /// Tell whether one result is better or worse than another
    Compare(compare::Arguments),
    /// Size a fleet from measured unit costs, and simulate its control plane
    Plan(plan::Arguments),
    /// Make a page of a result, to be read at a glance
    Report(report::Arguments),
}

const AFTER_HELP: &str = "\
Exit codes:
  0   done, and nothing was found wrong
  1   the system failed: it lost acknowledged writes, or did no work; or a comparison found a measure worse
  64  wrong usage
  65  a result file is not one
  69  something needed is not there
  78  a scenario that is wrong, or cannot work on this machine";

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            let code = if message.use_stderr() { exit::USAGE } else { exit::OK };
            return if message.print().is_ok() { code.into() } else { exit::SOFTWARE.into() };
        }
    };
    let outcome = match &arguments.command {
        Command::Run(arguments) => run::main(arguments),
        Command::Peers(arguments) => peers::main(arguments),
        Command::Compare(arguments) => compare::main(arguments),
        Command::Plan(arguments) => plan::main(arguments),
        Command::Report(arguments) => report::main(arguments),
    };
    outcome.unwrap_or_else(|failure| {
        complain(&failure);
        failure.exit_code().into()
    })
}

#[expect(clippy::print_stderr, reason = "a command-line program tells its user what went wrong")]
fn complain(failure: &Failure) {
    eprintln!("loadtest: {failure}");
}
