//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use postern_attest_io::agent::AgentEndpoint;

use crate::collateral::{self, CollateralCommand};
use crate::policy::{self, PolicyCommand};
use crate::verify::{self, Verify};

/// Postern's sidecar: the guarded door of a Postgres in a confidential VM, and the verified way to it.
///
/// `serve` runs beside Postgres. It takes connections by mutual RA-TLS (TLS at once, or after Postgres' SSLRequest), refuses
/// clients without a valid TDX quote, asks for the cluster secret inside TLS, and logs in to Postgres with a password that
/// only it knows. It registers with gateways, through which clients reach it
/// as `<app-id>s.<domain>`.
///
/// `connect` runs beside an application. Drivers connect to it in plain Postgres; it verifies the far sidecar before the
/// first byte leaves, and shows its own quote.
#[derive(Debug, Parser)]
#[command(name = "sidecar", version, after_help = AFTER_HELP)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Get started:
  sidecar serve --print-config > sidecar.toml   then fill in the keys without a default
  sidecar serve --config sidecar.toml --check
  sidecar serve --config sidecar.toml

Every key can be set from the environment: POSTERN_SIDECAR__SECTION__KEY=value.

SIGTERM and SIGINT drain: no new connections, and sessions may go on until the drain time is over.
A second signal ends the process at once. SIGHUP has `serve` read the secrets of roles again and set
their passwords in Postgres anew; sessions go on.

Exit codes: 0 stopped as asked, 64 wrong usage, 69 something needed is not there, 78 configuration.";

const CERTIFICATE_HELP: &str = "\
Example:
  sidecar certificate --out-dir .
  psql \"host=<app-id>s.<domain> user=teesql_read dbname=postgres
        sslmode=require sslcert=client.crt sslkey=client.key\"";

const PASSWORD_HELP: &str = "\
Example:
  sidecar password --role postgres --out superuser-password
  initdb --auth scram-sha-256 --pwfile superuser-password --pgdata ...";

/// The modes, and tools for setting them up.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Stand in front of Postgres.
    ///
    /// Needs the guest agent, the collateral, a secret for each role, and a Postgres on a Unix socket whose pg_hba.conf says
    /// scram-sha-256. Roles are created and their privileges granted at start, and again when Postgres comes back.
    Serve(Mode),
    /// Stand beside an application and connect it to a sidecar.
    ///
    /// Point any driver at the listening address, without TLS, with the role as user and the cluster secret as password.
    /// Nothing is sent to a server that has not proven to be one of the apps in [connect.target] or [[connect.targets]].
    Connect(Mode),
    /// Write a client certificate with a quote, for drivers that do TLS themselves.
    ///
    /// Writes client.crt and client.key (mode 0600). A driver that uses them proves what it runs in, and does not verify the
    /// server; `sidecar connect` does both.
    #[command(after_help = CERTIFICATE_HELP)]
    Certificate(Certificate),
    /// Write the password that a role has in Postgres, as derived from the guest's keys.
    ///
    /// The superuser's is for initdb; the roles' own are set by `sidecar serve`.
    #[command(after_help = PASSWORD_HELP)]
    Password(Password),
    /// Judge a server, its attestation, a certificate or a quote, and say what is proven, what is not, and why it is refused.
    ///
    /// Needs no identity of its own and no guest agent, so that it runs on any machine. A server is asked for its certificate
    /// and nothing is sent to it inside TLS.
    #[command(after_help = verify::HELP, after_long_help = verify::LONG_HELP)]
    Verify(Box<Verify>),
    /// Fetch, carry and look at what Intel says about platforms.
    #[command(after_help = collateral::HELP)]
    Collateral(CollateralCommand),
    /// Say what a signed policy allows, and whether it would be put in force.
    #[command(after_help = policy::HELP)]
    Policy(PolicyCommand),
}

/// Options of both modes.
#[derive(Debug, Args)]
pub struct Mode {
    /// The configuration file. Without one, the environment has to say everything that has no default.
    #[arg(short, long, value_name = "FILE", env = "POSTERN_SIDECAR_CONFIG")]
    pub config: Option<PathBuf>,

    /// Read the configuration and the files that it names, report every mistake, and exit.
    #[arg(long)]
    pub check: bool,

    /// Print the default configuration with the meaning of every key, and exit.
    #[arg(long, conflicts_with = "check")]
    pub print_config: bool,
}

/// Options of `certificate`.
#[derive(Debug, Args)]
pub struct Certificate {
    /// The directory to write client.crt and client.key to.
    #[arg(long, value_name = "DIR")]
    pub out_dir: PathBuf,

    /// A DNS name for the certificate.
    #[arg(long, value_name = "NAME", default_value = "client")]
    pub name: String,

    /// How many hours it is valid.
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=8_760))]
    pub hours: u32,

    /// Where the guest agent is.
    #[command(flatten)]
    pub agent: Agent,
}

/// Options of `password`.
#[derive(Debug, Args)]
pub struct Password {
    /// The role: `postgres` for the superuser, whatever it is called, or the name of one of `[[roles]]`.
    #[arg(long, value_name = "ROLE")]
    pub role: String,

    /// The file to write, with mode 0600.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,

    /// Where the guest agent is.
    #[command(flatten)]
    pub agent: Agent,
}

/// Where the guest agent is.
#[derive(Debug, Args)]
pub struct Agent {
    /// The guest agent: unix:/path or http://host:port. Left out, it is looked for as dstack's SDKs do.
    #[arg(long = "agent", value_name = "ENDPOINT")]
    pub endpoint: Option<AgentEndpoint>,

    /// How many seconds one answer of the agent may take.
    #[arg(long = "agent-timeout", value_name = "SECONDS", default_value_t = 10)]
    pub timeout: u64,
}

impl Agent {
    /// How long one answer may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Arguments;

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::command().debug_assert();
    }
}
