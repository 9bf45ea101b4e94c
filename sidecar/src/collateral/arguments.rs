use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use postern_attest::Fmspc;
use postern_attest_io::StateFolder;

/// Options of `collateral`.
#[derive(Debug, Args)]
pub struct CollateralCommand {
    /// What to do with it.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with collateral.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Ask Intel or a cache of it for the collateral of some kinds of platform, and write a bundle.
    Fetch(Fetch),
    /// Write a bundle of what a program has fetched into its state folder.
    Export(Export),
    /// Take a bundle over into the state folder of a program that does not run.
    ///
    /// All of it has to verify under the root and to be in force, and nothing may be older than what the program accepted
    /// before.
    Import(Import),
    /// Say what a bundle or a state folder holds, and whether it is good.
    Show(Show),
}

/// Options of `collateral fetch`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("platform").args(["fmspcs", "quotes", "certs"]).required(true).multiple(true)))]
pub struct Fetch {
    /// A kind of platform, 12 hex digits; may be given several times.
    #[arg(long = "fmspc", value_name = "HEX")]
    pub fmspcs: Vec<Fmspc>,

    /// A TDX quote of such a platform, raw or as hex.
    #[arg(long = "quote", value_name = "FILE")]
    pub quotes: Vec<PathBuf>,

    /// A certificate that carries such a quote, PEM or DER.
    #[arg(long = "cert", value_name = "FILE")]
    pub certs: Vec<PathBuf>,

    /// A service with Intel's API, such as a PCCS; the next one is asked when one does not help. Default: Intel's own.
    #[arg(long = "url", value_name = "URL")]
    pub urls: Vec<String>,

    /// How many seconds one answer may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,

    /// The root of trust, PEM or DER, in place of Intel's.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,

    /// The bundle to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Options of `collateral export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The program's `attestation.state_dir`.
    #[arg(long, value_name = "DIR", value_parser = state_folder)]
    pub state_dir: StateFolder,

    /// The root of trust, PEM or DER, in place of Intel's.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,

    /// The bundle to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Options of `collateral import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The bundle.
    #[arg(value_name = "FILE")]
    pub bundle: PathBuf,

    /// The program's `attestation.state_dir`.
    #[arg(long, value_name = "DIR", value_parser = state_folder)]
    pub state_dir: StateFolder,

    /// The root of trust, PEM or DER, in place of Intel's.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

/// Options of `collateral show`.
#[derive(Debug, Args)]
pub struct Show {
    /// What is looked at.
    #[command(flatten)]
    pub subject: Subject,

    /// The root of trust, PEM or DER, in place of Intel's.
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

/// What is looked at: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Subject {
    /// A bundle.
    #[arg(value_name = "FILE")]
    pub bundle: Option<PathBuf>,

    /// A program's `attestation.state_dir`, which may be in use.
    #[arg(long, value_name = "DIR", value_parser = state_folder)]
    pub state_dir: Option<StateFolder>,
}

impl Fetch {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

fn state_folder(path: &str) -> Result<StateFolder, std::convert::Infallible> {
    Ok(StateFolder::at(path.into()))
}
