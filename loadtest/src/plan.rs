//! `loadtest plan`: how large a fleet has to be, and how its control plane behaves when everything happens at once.

mod check;
mod costs;
mod fleet;
mod simulate;
mod size;
mod words;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::value_parser;

use self::costs::Costs;
use self::fleet::Surroundings;
use self::simulate::{Outcome, Scenario, simulate};
use self::size::{Demand, Machine};
use crate::result::RunResult;
use crate::{Datapath, Failure};

/// The command line of `loadtest plan`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many tenants the fleet is for; each has at least one CVM with a database
    #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000), required_unless_present_any = ["check", "print_costs"])]
    tenants: Option<u32>,
    /// How many gateways there are; the fewest that suffice when nothing is said
    #[arg(long, value_parser = value_parser!(u32).range(1..=10_000))]
    gateways: Option<u32>,
    /// CVMs with a database per tenant
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=100))]
    instances: u32,
    /// Sessions per tenant that are open at once
    #[arg(long, default_value_t = 3.0, value_parser = amount)]
    sessions: f64,
    /// New connections per tenant and second
    #[arg(long, default_value_t = 0.05, value_parser = amount)]
    connections: f64,
    /// Small requests per tenant and second
    #[arg(long, default_value_t = 2.0, value_parser = amount)]
    requests: f64,
    /// KiB per tenant and second, both ways together, beyond small requests
    #[arg(long, default_value_t = 10.0, value_parser = amount)]
    kib: f64,
    /// Regions over which the gateways are spread; the fleet has to bear the loss of one, unless there is only one
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=100))]
    regions: u32,
    /// Processor cores of a gateway
    #[arg(long, default_value_t = 4, value_parser = value_parser!(u32).range(1..=1024))]
    cores: u32,
    /// Memory of a gateway, in GiB
    #[arg(long, default_value_t = 8.0, value_parser = amount)]
    memory: f64,
    /// The part of a gateway's processors and memory that may be taken, in percent
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u32).range(1..=100))]
    load: u32,
    /// How packets become connections: "tun" for a fleet, and what a run had for --check, when nothing is said
    #[arg(long, value_enum)]
    datapath: Option<Datapath>,
    /// Endpoints of the chain
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=15))]
    endpoints: u32,
    /// A round trip between a gateway and anybody else, in milliseconds
    #[arg(long, default_value_t = 20.0, value_parser = amount)]
    round_trip: f64,
    /// Within how many seconds all CVMs boot
    #[arg(long, default_value_t = 60.0, value_parser = amount)]
    boot_within: f64,
    /// The part of all CVMs that a mass revocation concerns, in percent
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=100))]
    revoked: u32,
    /// What every random choice of the simulation comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Other unit costs than those that were measured here, in the form that --print-costs shows
    #[arg(long, value_name = "FILE.toml")]
    costs: Option<PathBuf>,
    /// Print the unit costs with their sources, and stop
    #[arg(long)]
    print_costs: bool,
    /// Foretell what these results of `loadtest run` measured, and print by how much that is wrong
    #[arg(long, value_name = "RESULT.json", num_args = 1..)]
    check: Vec<PathBuf>,
}

/// A number that is not below 0.
fn amount(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..1e9).contains(&number) {
        Ok(number)
    } else {
        Err("expected 0 or more, and less than a billion".to_owned())
    }
}

/// Runs the command. The exit code is 1 when the fleet that was asked for does not suffice.
///
/// # Errors
/// See [`Failure`].
pub fn main(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let (text, suffices) = plan(arguments)?;
    std::io::stdout().write_all(text.as_bytes()).map_err(Failure::Output)?;
    Ok(if suffices { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plan(arguments: &Arguments) -> Result<(String, bool), Failure> {
    if arguments.print_costs && arguments.costs.is_none() {
        return Ok((costs::DEFAULT.to_owned(), true));
    }
    let costs = Costs::load(arguments.costs.as_ref())?;
    // Writing to a string does not fail.
    let mut text = String::new();
    let mut suffices = true;
    if let Some(tenants) = arguments.tenants {
        suffices = arguments.fleet(&costs, f64::from(tenants), &mut text)?;
    }
    if !arguments.check.is_empty() {
        let mut checked = Vec::new();
        for file in &arguments.check {
            let run = RunResult::read(file)?;
            checked.extend(check::check(&costs, arguments.datapath.unwrap_or(run.subject.datapath), &run));
        }
        words::checks(&checked, &mut text).unwrap_or_default();
    }
    if arguments.print_costs {
        words::sources(&costs, &mut text).unwrap_or_default();
    }
    Ok((text, suffices))
}

impl Arguments {
    /// Sizes and simulates a fleet; returns whether it suffices.
    fn fleet(&self, costs: &Costs, tenants: f64, text: &mut String) -> Result<bool, Failure> {
        const KIB_IN_GIB: f64 = 1024.0 * 1024.0;
        let demand = Demand {
            instances: tenants * f64::from(self.instances),
            sessions: tenants * self.sessions,
            connections: tenants * self.connections,
            requests: tenants * self.requests,
            gib: tenants * self.kib / KIB_IN_GIB,
        };
        let machine = Machine {
            cores: f64::from(self.cores),
            memory_mib: self.memory * 1024.0,
            part: f64::from(self.load) / 100.0,
        };
        let gateway = costs.gateway(self.datapath.unwrap_or(Datapath::Tun));
        let fewest = || size::fewest(gateway, &demand, &machine, self.regions);
        let too_small =
            || Failure::Usage("a gateway of this size does not even bear itself: more --memory or --cores".into());
        let gateways = self.gateways.or_else(fewest).ok_or_else(too_small)?;
        let size = size::size(costs, gateway, &demand, &machine, (gateways, self.regions));
        words::size(&size, self.gateways.is_some(), costs.questions_per_second, text).unwrap_or_default();
        self.simulations(costs, demand.instances, gateways, text);
        Ok(size.needs.iter().all(|need| need.part() <= 1.0))
    }

    fn simulations(&self, costs: &Costs, instances: f64, gateways: u32, text: &mut String) {
        let around = Surroundings {
            cores: self.cores,
            endpoints: whole(f64::from(self.endpoints)),
            round_trip: Duration::from_secs_f64(self.round_trip / 1e3),
        };
        let control = fleet::control(costs, whole(instances), whole(f64::from(gateways)), around);
        let lost = whole(f64::from(gateways.div_ceil(self.regions)));
        let revoked = whole(instances * f64::from(self.revoked) / 100.0);
        let within = Duration::from_secs_f64(self.boot_within);
        let mut scenarios = vec![
            (format!("all boot within {} s", self.boot_within), Scenario::ColdStart(within)),
            ("all boot at once".to_owned(), Scenario::ColdStart(Duration::ZERO)),
        ];
        if self.regions > 1 && lost < control.gateways {
            scenarios.push((format!("a region is lost ({lost} gateways)"), Scenario::RegionLost(lost)));
        }
        let share = self.revoked;
        scenarios.push((format!("{share} % are revoked"), Scenario::Revocation { revoked, rules: false }));
        scenarios.push((
            format!("{share} % are revoked by a rule that concerns everybody"),
            Scenario::Revocation { revoked, rules: true },
        ));
        let play = |(name, scenario)| (name, simulate(&control, scenario, self.seed));
        let outcomes: Vec<(String, Outcome)> = scenarios.into_iter().map(play).collect();
        words::simulations(&control, &outcomes, text).unwrap_or_default();
    }
}

/// A count that the command line bounds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a hundred million at most, and not negative"
)]
fn whole(count: f64) -> usize {
    count as usize
}

#[cfg(test)]
mod tests;
