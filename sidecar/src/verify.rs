//! `sidecar verify`: a verdict on a server, its attestation, a certificate or a quote, for people and for programs.
//!
#![doc = include_str!("verify/schema.md")]

mod arguments;
mod attestation;
pub(crate) mod files;
mod findings;
mod judge;
pub(crate) mod not_accepted;
mod report;
mod second_opinion;
mod server;
mod text;

use postern_attest::{Appraiser, CertificateRules, TcbPolicy};
use postern_plumbing::clock::unix_now;

pub use arguments::{Asked, Nonce, Signed, Subjects, Verify};
pub use report::{
    App, CertificateDates, Database, Platform, Registers, Report, Root, Statement, Subject, SubjectKind, Verdict,
};
pub use second_opinion::SecondOpinion;

use judge::{Judge, Proof};
use not_accepted::NotAccepted;

/// Ends the command's long help.
pub const LONG_HELP: &str = include_str!("verify/schema.md");

/// Ends the command's short help.
pub const HELP: &str = "\
Examples:
  sidecar verify <app-id>s.<domain>:5432 --collateral bundle.json --app-id <app-id>
  sidecar verify <app-id>s.<domain>:5432 --collateral bundle.json --starttls
  sidecar verify http://<host>:8080/attestation --collateral bundle.json --app-id <app-id>
  sidecar verify --cert server.crt --collateral bundle.json --json
  sidecar verify --cert tls-key.pem --kms-root kms-root.pem --collateral bundle.json
  sidecar verify --quote quote.bin --event-log log.json --collateral bundle.json --at 1751000000

Exit codes: 0 accepted, 1 refused, 2 could not tell, 64 wrong usage. --help documents the JSON.";

/// Judges what the arguments name. Whatever goes wrong is part of the report.
pub async fn verify(arguments: &Verify) -> Report {
    let now = arguments.at.unwrap_or_else(unix_now);
    let mut report = Report::of(arguments.subject(), now);
    match judge(arguments, now, &mut report).await {
        Ok(proof) => {
            findings::accept(&mut report, &proof, arguments);
            second_opinion::add(&mut report, &proof, arguments).await;
        }
        Err(refused) => report.refuse(refused),
    }
    report
}

/// The report as it is printed, with the newline at its end.
#[must_use]
pub fn render(report: &Report, json: bool) -> String {
    if json { report.json() } else { text::render(report) }
}

async fn judge(arguments: &Verify, now: u64, report: &mut Report) -> Result<Proof, NotAccepted> {
    let policy = arguments.signed.load(now)?;
    let appraiser = match &policy {
        Some(policy) => policy.appraiser(),
        None => Appraiser::new(files::root(arguments.root.as_deref())?, TcbPolicy::default()),
    };
    report.root = Some(Root::of(appraiser.root()));
    let collateral = files::collateral(&arguments.collateral)?;
    let kms_root = arguments.kms_root.as_deref().map(files::kms_root).transpose()?;
    let certificates = CertificateRules { kms_root, ..CertificateRules::default() };
    let judge = Judge { appraiser: appraiser.with_certificates(certificates), policy, collateral, now };
    let Subjects { server, cert, quote, attestation } = &arguments.subjects;
    match (server, cert, quote, attestation) {
        (Some(Asked::Certificate(place)), ..) => {
            judge.certificate(&server::chain(arguments, place, &judge, &mut report.subject).await?)
        }
        (Some(Asked::Attestation(url)), ..) => {
            judge.attestation(&attestation::fetched(arguments, url, &mut report.subject).await?)
        }
        (_, Some(path), ..) => judge.certificate(&files::certificates(path)?),
        (_, _, Some(path), _) => {
            let log = arguments.event_log.as_deref().map(files::event_log).transpose()?;
            judge.quote(&files::quote(path)?, log.as_ref())
        }
        (.., Some(path)) => judge.attestation(&attestation::read(arguments, path)?),
        (None, None, None, None) => Err(NotAccepted::unknown("nothing_named", "nothing to verify was named")),
    }
}
