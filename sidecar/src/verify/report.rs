use std::net::SocketAddr;

use postern_attest::TrustRoot;
use serde::Serialize;

use super::not_accepted::NotAccepted;

/// The version of the schema.
const SCHEMA: u32 = 1;

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is what it must be.
    Accepted,
    /// It is not.
    Refused,
    /// It could not be judged.
    Unknown,
}

impl Verdict {
    /// The code to exit with.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Refused => 1,
            Self::Unknown => 2,
        }
    }
}

/// Everything there is to say. The fields are those of the schema, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version of the schema.
    pub schema: u32,
    /// The outcome.
    pub verdict: Verdict,
    /// Why it is not accepted.
    pub reason: Option<Statement>,
    /// The time of the judgement, seconds since 1970.
    pub judged_at: u64,
    /// What was judged.
    pub subject: Subject,
    /// The root of trust; `None` when it could not be read.
    pub root: Option<Root>,
    /// What was proven.
    pub proven: Vec<Statement>,
    /// What was not.
    pub not_proven: Vec<Statement>,
    /// What measured boot says about the application.
    pub app: Option<App>,
    /// The machine.
    pub platform: Option<Platform>,
    /// What was measured.
    pub registers: Option<Registers>,
    /// What the software inside the TD put into the quote, in hex.
    pub report_data: Option<String>,
    /// The certificate.
    pub certificate: Option<CertificateDates>,
    /// What the database says about itself, where the quote vouches for it.
    pub database: Option<Database>,
    /// Until when the verdict can stand, seconds since 1970.
    pub valid_until: Option<u64>,
}

/// A sentence with a stable name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// The name.
    pub code: &'static str,
    /// The sentence.
    pub text: String,
}

/// What was judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// What it is.
    pub kind: SubjectKind,
    /// The server as given, or the file.
    pub name: String,
    /// Where the server was reached.
    pub address: Option<SocketAddr>,
    /// The name that it was asked for.
    pub sni: Option<String>,
    /// The protocol that it agreed to.
    pub alpn: Option<String>,
}

/// What can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectKind {
    /// A server that was connected to.
    Server,
    /// A certificate in a file.
    Certificate,
    /// A quote in a file.
    Quote,
    /// What a sidecar says about itself and its database.
    Attestation,
}

/// What a database has said about itself, and the quote vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Database {
    /// Where its write-ahead log ends.
    pub wal_lsn: String,
    /// SHA-256 of its control data, in hex.
    pub controldata_hash: String,
    /// Its version.
    pub pg_version: String,
    /// When it was asked by its own clock, seconds since 1970.
    pub timestamp: u64,
    /// The nonce that the quote was asked for with, in hex.
    pub nonce: Option<String>,
    /// The key of its RA-TLS certificate, as SubjectPublicKeyInfo in hex.
    pub tls_public_key: Option<String>,
}

/// The root of trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Root {
    /// Whether it is Intel's.
    pub intel: bool,
    /// SHA-256 of its certificate, in hex.
    pub sha256: String,
}

/// What measured boot says about the application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct App {
    /// The application.
    pub app_id: String,
    /// SHA-256 of its composition.
    pub compose_hash: String,
    /// The CVM within it.
    pub instance_id: String,
    /// The OS image.
    pub os_image_hash: Option<String>,
    /// Who provided the keys.
    pub key_provider: Option<String>,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Platform {
    /// SHA-256 of its PPID.
    pub device_id: String,
    /// Its kind.
    pub fmspc: String,
    /// Its TCB status, under Intel's name.
    pub tcb_status: String,
    /// The advisories that apply to it.
    pub advisory_ids: Vec<String>,
    /// The evaluation number of the collateral.
    pub tcb_evaluation_number: u32,
}

/// What was measured, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Registers {
    /// The TD's initial memory.
    pub mrtd: String,
    /// The virtual hardware.
    pub rtmr0: String,
    /// The kernel.
    pub rtmr1: String,
    /// What the kernel was started with.
    pub rtmr2: String,
    /// Runtime events.
    pub rtmr3: String,
    /// MRCONFIGID.
    pub mr_config_id: String,
    /// MROWNER.
    pub mr_owner: String,
    /// MROWNERCONFIG.
    pub mr_owner_config: String,
}

/// The certificate's hash and dates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateDates {
    /// SHA-256 of its DER form, in hex.
    pub sha256: String,
    /// Start of its validity, seconds since 1970.
    pub not_before: u64,
    /// End of its validity, seconds since 1970.
    pub not_after: u64,
}

impl Statement {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl Root {
    pub(super) fn of(root: &TrustRoot) -> Self {
        Self { intel: root.is_intel(), sha256: hex::encode(root.fingerprint()) }
    }
}

impl Report {
    /// A report that knows nothing yet.
    pub(super) fn of(subject: Subject, judged_at: u64) -> Self {
        Self {
            schema: SCHEMA,
            verdict: Verdict::Unknown,
            reason: None,
            judged_at,
            subject,
            root: None,
            proven: Vec::new(),
            not_proven: Vec::new(),
            app: None,
            platform: None,
            registers: None,
            report_data: None,
            certificate: None,
            database: None,
            valid_until: None,
        }
    }

    /// Ends the report without any proof.
    pub(super) fn refuse(&mut self, why: NotAccepted) {
        self.not_proven = vec![Statement::new("evidence", "Nothing: no claim of the evidence is believed.")];
        self.end(Err(why));
    }

    pub(super) fn end(&mut self, verdict: Result<(), NotAccepted>) {
        (self.verdict, self.reason) = match verdict {
            Ok(()) => (Verdict::Accepted, None),
            Err(why) => (why.verdict, Some(why.reason)),
        };
    }

    /// The schema's JSON and a newline.
    pub(super) fn json(&self) -> String {
        // Strings and numbers alone, which all have a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}
