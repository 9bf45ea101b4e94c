//! Serves the guest agent of one simulated CVM, and writes or serves what its verifiers need.

mod arguments;
mod serving;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use postern_plumbing::clock::unix_now;
use postern_simulator::{Faults, Tee};

use arguments::{Arguments, Command};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Agent(arguments) => serving::serve(&arguments).await,
        Command::Root { seed_file, out } => write_root(&seed_file, &out, Tee::root_pem),
        Command::KmsRoot { seed_file, out } => write_root(&seed_file, &out, Tee::kms_root_pem),
        Command::Collateral { seed_file, out, faults } => write_collateral(&seed_file, &out, faults.into()),
        Command::CollateralService { seed_file, listen, faults } => {
            serving::collateral(&seed_file, listen, faults.into()).await
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn write_root(seed_file: &Path, out: &Path, root_pem: fn(&Tee) -> &str) -> Outcome {
    let tee = Tee::new(seed(seed_file)?)?;
    fs::write(out, root_pem(&tee)).map_err(|error| at(out, &error))?;
    Ok(())
}

fn write_collateral(seed_file: &Path, out: &Path, faults: Faults) -> Outcome {
    let tee = Tee::with_faults(seed(seed_file)?, faults)?;
    fs::write(out, tee.collateral_bundle_json(unix_now())?).map_err(|error| at(out, &error))?;
    Ok(())
}

/// The seed: 64 hex digits in a file.
fn seed(path: &Path) -> Result<[u8; 32], String> {
    let text = fs::read_to_string(path).map_err(|error| at(path, &error))?;
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| format!("{}: not 64 hex digits", path.display()))?;
    Ok(seed)
}

fn at(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[expect(clippy::print_stderr, reason = "a command-line program says on stderr why it failed")]
fn report(error: &dyn std::error::Error) {
    eprintln!("simulator: {error}");
}
