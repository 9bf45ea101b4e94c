//! `sidecar collateral`: what Intel says about platforms, fetched, carried and looked at.

mod arguments;
mod failed;
mod show;

use std::sync::Arc;

use postern_attest::{Collateral, Fmspc, TrustRoot, certificate, platform_of};
use postern_attest_io::collateral::{self, Fetcher, INTEL, Sources};
use postern_plumbing::clock::unix_now;

pub use self::arguments::{Action, CollateralCommand, Export, Fetch, Import, Show, Subject};
pub use self::failed::CollateralFailed;
use crate::verify::files;

/// Ends the help.
pub const HELP: &str = "\
Into a closed network:
  sidecar collateral fetch --quote quote.bin --out bundle.json          where there is a way to Intel
  sidecar collateral import bundle.json --state-dir /var/lib/postern    where there is none, while nothing runs
A bundle can also be named as `attestation.collateral`: the programs take a new version over while they run.

Exit codes: 0 done, 1 the collateral is not good, 64 wrong usage, 69 something needed is not there,
75 a program uses the folder.";

/// Does what was asked for, and gives what is to be printed.
///
/// # Errors
/// See [`CollateralFailed`].
pub async fn run(command: &CollateralCommand) -> Result<String, CollateralFailed> {
    match &command.action {
        Action::Fetch(arguments) => fetch(arguments).await,
        Action::Export(arguments) => export(arguments),
        Action::Import(arguments) => import(arguments),
        Action::Show(arguments) => shown(arguments),
    }
}

async fn fetch(arguments: &Fetch) -> Result<String, CollateralFailed> {
    let root = files::root(arguments.root.as_deref())?;
    let urls =
        if arguments.urls.is_empty() { vec![INTEL] } else { arguments.urls.iter().map(String::as_str).collect() };
    let sources = Sources::new(urls)?;
    let fetcher =
        Fetcher::new(sources, arguments.timeout()).map_err(|error| CollateralFailed::Client(error.to_string()))?;
    let mut all = Collateral::default();
    for fmspc in platforms(arguments)? {
        all.merge(fetcher.fetch(fmspc, &root, unix_now(), |_| Ok(())).await?);
    }
    collateral::export(&all, &arguments.out)?;
    Ok(show::words(&all, &root, unix_now()))
}

/// The kinds of platform that the arguments name, in their order.
fn platforms(arguments: &Fetch) -> Result<Vec<Fmspc>, CollateralFailed> {
    let mut platforms = arguments.fmspcs.clone();
    for path in &arguments.quotes {
        platforms.push(platform_of(&files::quote(path)?)?);
    }
    for path in &arguments.certs {
        let chain = files::certificates(path)?;
        let leaf = chain.first().ok_or(certificate::CertificateError::NoQuote)?;
        platforms.push(platform_of(&certificate::evidence(leaf)?.quote)?);
    }
    Ok(platforms)
}

/// What is not good any more is of no use to anybody else either.
fn export(arguments: &Export) -> Result<String, CollateralFailed> {
    let (root, now) = (files::root(arguments.root.as_deref())?, unix_now());
    let kept = collateral::stored(&arguments.state_dir)?;
    let mut good = Collateral::default();
    for (fmspc, _) in kept.windows() {
        let Some(set) = kept.only(fmspc) else { continue };
        if set.verify(&root, now).is_ok() {
            good.merge(set);
        }
    }
    if good.is_empty() {
        return Err(CollateralFailed::NothingToExport);
    }
    collateral::export(&good, &arguments.out)?;
    Ok(show::words(&kept, &root, now))
}

fn import(arguments: &Import) -> Result<String, CollateralFailed> {
    let root = files::root(arguments.root.as_deref())?;
    let taken = collateral::store(&arguments.bundle, &root, &arguments.state_dir, Arc::new(unix_now))?;
    Ok(show::words(&taken, &root, unix_now()))
}

fn shown(arguments: &Show) -> Result<String, CollateralFailed> {
    let (root, now) = (files::root(arguments.root.as_deref())?, unix_now());
    let collateral = match (&arguments.subject.bundle, &arguments.subject.state_dir) {
        (Some(bundle), _) => collateral::read(bundle)?,
        (None, Some(folder)) => collateral::stored(folder)?,
        (None, None) => Collateral::default(),
    };
    let words = show::words(&collateral, &root, now);
    if is_good(&collateral, &root, now) { Ok(words) } else { Err(CollateralFailed::NotGood(words)) }
}

fn is_good(collateral: &Collateral, root: &TrustRoot, now: u64) -> bool {
    !collateral.is_empty() && collateral.verify(root, now).is_ok()
}
