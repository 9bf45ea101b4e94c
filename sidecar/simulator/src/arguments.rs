//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use postern_identity::AppId;
use postern_simulator::Faults;

/// A trusted execution environment that does not exist, for development and tests.
///
/// All output follows from a seed: programs that are told to trust the simulated root accept its quotes, and no others do.
/// Whoever holds the seed chooses every measurement, so these quotes prove nothing.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve dstack's guest-agent API for one simulated CVM on a Unix socket, a TCP port or both, until SIGINT or SIGTERM
    Agent(AgentArguments),
    /// Write the simulated root certificate as PEM, for the trust root of gateway and sidecar
    Root {
        /// File with the seed: 64 hex digits
        #[arg(long, value_name = "FILE")]
        seed_file: PathBuf,
        /// Where to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write the root certificate of the simulated KMS as PEM, for those who accept what the guest agent issues
    KmsRoot {
        /// File with the seed: 64 hex digits
        #[arg(long, value_name = "FILE")]
        seed_file: PathBuf,
        /// Where to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write the collateral that the quotes are verified with; it is good for 29 days
    Collateral {
        /// File with the seed: 64 hex digits
        #[arg(long, value_name = "FILE")]
        seed_file: PathBuf,
        /// Where to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        faults: FaultArguments,
    },
    /// Serve that collateral as a PCCS does, issued anew at each request, until SIGINT or SIGTERM
    CollateralService {
        /// File with the seed: 64 hex digits
        #[arg(long, value_name = "FILE")]
        seed_file: PathBuf,
        /// The TCP address to serve on, as http://ADDRESS; port 0 stands for any
        #[arg(long, value_name = "ADDRESS")]
        listen: SocketAddr,
        #[command(flatten)]
        faults: FaultArguments,
    },
}

#[derive(Args)]
#[command(group(ArgGroup::new("endpoint").args(["socket", "listen"]).required(true).multiple(true)))]
pub(crate) struct AgentArguments {
    /// File with the seed of the platform: 64 hex digits
    #[arg(long, value_name = "FILE")]
    pub(crate) seed_file: PathBuf,
    /// The application that the CVM belongs to
    #[arg(long, value_name = "HEX")]
    pub(crate) app_id: AppId,
    /// The app-compose.json that it booted; its raw bytes are hashed
    #[arg(long, value_name = "FILE")]
    pub(crate) compose: PathBuf,
    /// Name of the instance; one name gives one instance id
    #[arg(long)]
    pub(crate) instance: String,
    /// The Unix socket to serve on
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The TCP address to serve on, as http://ADDRESS; port 0 stands for any
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Insecure: let --listen be an address that other machines reach; whoever does gets the keys
    #[arg(long, requires = "listen")]
    pub(crate) insecure_listen_anywhere: bool,
    /// Fault: the debug attribute is on
    #[arg(long)]
    pub(crate) debug_td: bool,
    /// Fault: SEPT_VE_DISABLE is off
    #[arg(long)]
    pub(crate) sept_ve_off: bool,
    /// Fault: the TDX module is out of date
    #[arg(long)]
    pub(crate) old_module: bool,
}

#[derive(Args)]
pub(crate) struct FaultArguments {
    /// Fault: the CRL lists the platform's PCK certificate
    #[arg(long)]
    revoked_pck: bool,
    /// Fault: the collateral ended ten days ago
    #[arg(long)]
    expired: bool,
}

impl From<FaultArguments> for Faults {
    fn from(arguments: FaultArguments) -> Self {
        Self { revoked_pck: arguments.revoked_pck, expired_collateral: arguments.expired, ..Self::default() }
    }
}
