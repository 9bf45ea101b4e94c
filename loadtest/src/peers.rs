//! `loadtest peers`: the same scenario with other edges in the gateway's place, and without any.
//!
//! Each edge gets a cluster of its own, of the same programs and with the same seed, one after the other and round by round.
//! None of the peers speaks WireGuard. They go through the gateway's tunnels all the same, where those are interfaces of the
//! kernel; otherwise they connect to the sidecars' own ports in clear TCP, and are spared what tunnels cost on both ends. The
//! table says which, and what else they do not do.

mod edge;
mod process;
mod table;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::progress::Progress;
use crate::scenario::Scenario;
use crate::{Datapath, Failure, run};

pub(crate) use edge::{Edge, Front};
pub(crate) use process::Programs;
use table::Table;

/// The command line of `loadtest peers`.
#[derive(Debug, clap::Args)]
#[group(id = "peers")]
pub struct Arguments {
    #[command(flatten)]
    run: run::Arguments,
    #[command(flatten)]
    programs: Programs,

    /// Which edges, in this order in each round
    #[arg(long, value_enum, num_args = 1.., default_values_t = Edge::ALL)]
    edges: Vec<Edge>,

    /// How often each of them gets its turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
}

/// Runs the command.
///
/// # Errors
/// See [`Failure`].
pub fn main(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let scenario = arguments.run.scenario()?;
    refuse_what_no_peer_can(&scenario)?;
    let seed = arguments.run.seed(&scenario);
    let datapath = arguments.run.datapath.unwrap_or(Datapath::Tun);
    let (there, missing) = sort(&arguments.edges, &arguments.programs);
    let mut table = Table::new(datapath, missing);
    for round in 1..=arguments.rounds {
        for &edge in &there {
            let front = Front { edge, datapath };
            let one = arguments.run.on(front, &arguments.programs, seed, file(&arguments.run.out, edge, round));
            let result = run::run(&scenario, &one, Arc::new(Progress::new(scenario.length())))?;
            result.write(&one.out)?;
            table.add(edge, result);
        }
    }
    let mut stdout = std::io::stdout().lock();
    let title = format!("# {}, {} rounds, seed {seed}\n\n", scenario.name, arguments.rounds);
    let figures = if arguments.run.figures { table.figures() } else { String::new() };
    write!(stdout, "{title}{table}{figures}").map_err(Failure::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// The edges that can be had, and why the others cannot.
fn sort(edges: &[Edge], programs: &Programs) -> (Vec<Edge>, Vec<(Edge, String)>) {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for &edge in edges {
        match programs.missing(edge) {
            None => there.push(edge),
            Some(why) => missing.push((edge, why)),
        }
    }
    (there, missing)
}

/// What is done to the cluster while it works is done to the gateway, the chain or a registration: peers know none of them.
fn refuse_what_no_peer_can(scenario: &Scenario) -> Result<(), Failure> {
    let limits = scenario.phases.iter().any(|phase| phase.connections_per_app.is_some());
    let wrong = match scenario {
        scenario if !scenario.events.is_empty() => "it does things to the cluster that only the gateway answers to",
        scenario if scenario.churn.is_some() => "its tenants come and go, and a peer's list of them is fixed",
        _ if limits || scenario.cluster.connections_per_app.is_some() => "it sets limits that only the gateway keeps",
        _ => return Ok(()),
    };
    Err(Failure::Usage(format!("{} cannot be run on peers: {wrong}", scenario.name)))
}

/// Where the result of a round goes: beside the file that was named.
fn file(out: &std::path::Path, edge: Edge, round: u32) -> PathBuf {
    let stem = out.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    out.with_file_name(format!("{stem}.{}.{round}.json", edge.name()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::Shipped;

    fn shipped(name: &str) -> Scenario {
        Scenario::read(Shipped::find(name).unwrap().text, &[], Path::new(".")).unwrap()
    }

    #[test]
    fn scenarios_that_need_the_gateway_are_refused_and_steady_ones_are_not() {
        for steady in ["pool", "handshakes", "bulk", "mixed", "idle"] {
            refuse_what_no_peer_can(&shipped(steady)).unwrap();
        }
        for needs in ["faults", "revocation", "churn", "noisy-neighbour"] {
            let refused = refuse_what_no_peer_can(&shipped(needs)).unwrap_err().to_string();
            assert!(refused.contains("cannot be run on peers"), "{refused}");
        }
    }

    #[test]
    fn every_round_has_a_file_of_its_own() {
        let name = file(Path::new("out/pool.json"), Edge::Haproxy, 2);
        assert_eq!(name, Path::new("out/pool.haproxy.2.json"));
    }
}
