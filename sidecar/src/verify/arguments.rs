use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use postern_attest::policy::{MAX_POLICY_BYTES, MAX_SIGNATURE_BYTES, PolicyError, PolicyKey};
use postern_attest::{PeerPolicy, Policy};
use postern_attest_io::signature_of;
use postern_identity::{AppId, ComposeHash};
use rustls::pki_types::ServerName;
use url::Url;

use super::attestation;
use super::files;
use super::not_accepted::NotAccepted;
use super::report::{Subject, SubjectKind};
use super::second_opinion::SecondOpinion;
use crate::dial::Place;

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// What is judged.
    #[command(flatten)]
    pub subjects: Subjects,

    /// What Intel says about platforms: a bundle, or one set as dcap-qvl writes it.
    #[arg(long, value_name = "FILE")]
    pub collateral: PathBuf,

    /// The root of trust, PEM or DER, in place of Intel's. Quotes under another root prove nothing about hardware.
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    pub root: Option<PathBuf>,

    /// A signed policy to judge by.
    #[command(flatten)]
    pub signed: Signed,

    /// The root of the dstack KMS that may have issued the certificate, PEM or DER. Without it, one that was issued cannot be
    /// judged.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quote", "attestation"])]
    pub kms_root: Option<PathBuf>,

    /// Refuse every app but this one, and those of further --app-id.
    #[arg(long = "app-id", value_name = "HEX")]
    pub app_ids: Vec<AppId>,

    /// Refuse every composition but this one, and those of further --compose-hash.
    #[arg(long = "compose-hash", value_name = "HEX")]
    pub compose_hashes: Vec<ComposeHash>,

    /// The event log of --quote, dstack's JSON; without it a quote names no app.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "cert", "attestation"])]
    pub event_log: Option<PathBuf>,

    /// The name to ask the server for, by which gateways route. Default: the host.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["cert", "quote", "attestation"], value_parser = server_name)]
    pub sni: Option<String>,

    /// Where to connect to, in place of what DNS says about the host.
    #[arg(long, value_name = "IP:PORT", conflicts_with_all = ["cert", "quote", "attestation"])]
    pub address: Option<SocketAddr>,

    /// Send Postgres' SSLRequest first. Default: TLS at once, with ALPN `postgresql`.
    #[arg(long, conflicts_with_all = ["cert", "quote", "attestation"])]
    pub starttls: bool,

    /// The nonce to ask for an attestation with, or that the one in a file was made for: 16 to 64 bytes in hex, or `none`, with
    /// which nothing shows when it was made. Default: a random one for a server, none for a file.
    #[arg(long, value_name = "HEX", conflicts_with_all = ["cert", "quote"], value_parser = attestation::nonce)]
    pub nonce: Option<Nonce>,

    /// How many seconds connection, TLS and judgement may take together.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub timeout: u64,

    /// Judge as of this time, in seconds since 1970, and not as of now.
    #[arg(long, value_name = "UNIX_TIME")]
    pub at: Option<u64>,

    /// Whom to ask for a second opinion.
    #[command(flatten)]
    pub second_opinion: SecondOpinion,

    /// Print the verdict as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is judged: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Subjects {
    /// A server, as host:port, or the address of its attestation, as http://host:8080/attestation.
    #[arg(value_name = "HOST:PORT|URL", value_parser = asked)]
    pub server: Option<Asked>,

    /// What a server's attestation has said, as JSON.
    #[arg(long, value_name = "FILE")]
    pub attestation: Option<PathBuf>,

    /// A certificate, PEM or DER; of a chain in PEM, the first, with those above it.
    #[arg(long, value_name = "FILE")]
    pub cert: Option<PathBuf>,

    /// A TDX quote, raw or as hex.
    #[arg(long, value_name = "FILE")]
    pub quote: Option<PathBuf>,
}

/// A signed policy, which takes the place of Intel's root and the usual rules for platforms.
#[derive(Debug, Args)]
pub struct Signed {
    /// The policy by which Postern's programs judge. One that expects apps needs the --event-log of a --quote.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub policy: Option<PathBuf>,

    /// The public key of whoever signs policies.
    #[arg(long = "policy-key", value_name = "KEY", requires = "policy")]
    pub key: Option<PolicyKey>,

    /// The policy's signature. Default: the policy's path and ".minisig".
    #[arg(long = "policy-signature", value_name = "FILE", requires = "policy")]
    pub signature: Option<PathBuf>,
}

impl Signed {
    /// The policy, if one is named, provided that it counts at `now`.
    pub(super) fn load(&self, now: u64) -> Result<Option<Policy>, NotAccepted> {
        let (Some(policy), Some(key)) = (&self.policy, &self.key) else { return Ok(None) };
        let signature = self.signature.clone().unwrap_or_else(|| signature_of(policy));
        let text = files::read(policy, MAX_POLICY_BYTES)?;
        let signature = files::read(&signature, MAX_SIGNATURE_BYTES)?;
        let verified = Policy::verify(&text, &String::from_utf8_lossy(&signature), key, None, now);
        let wrong = |error: PolicyError| NotAccepted::unknown("policy", format!("{}: {error}", policy.display()));
        verified.map(Some).map_err(wrong)
    }
}
/// A server, and what it is asked for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Its certificate.
    Certificate(Place),
    /// Its attestation, in HTTP.
    Attestation(Url),
}

/// A nonce in lower-case hex, or `None` where there shall be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(pub Option<String>);

impl Verify {
    /// How long connection, TLS and judgement may take together.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// What the peer is expected to be.
    #[must_use]
    pub fn expected(&self) -> PeerPolicy {
        let apps: BTreeSet<_> = self.app_ids.iter().copied().collect();
        let compose_hashes: BTreeSet<_> = self.compose_hashes.iter().copied().collect();
        PeerPolicy {
            apps: (!apps.is_empty()).then_some(apps),
            compose_hashes: (!compose_hashes.is_empty()).then_some(compose_hashes),
        }
    }

    /// What the report is about, before it was looked at.
    pub(super) fn subject(&self) -> Subject {
        let Subjects { server, cert, quote, attestation } = &self.subjects;
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let (kind, name) = match (server, attestation, cert) {
            (Some(Asked::Certificate(place)), ..) => (SubjectKind::Server, place.to_string()),
            (Some(Asked::Attestation(url)), ..) => (SubjectKind::Attestation, url.to_string()),
            (None, Some(_), _) => (SubjectKind::Attestation, file(attestation)),
            (None, None, Some(_)) => (SubjectKind::Certificate, file(cert)),
            (None, None, None) => (SubjectKind::Quote, file(quote)),
        };
        let sni = match server {
            Some(Asked::Certificate(place)) => Some(self.sni.clone().unwrap_or_else(|| place.host.clone())),
            Some(Asked::Attestation(_)) | None => None,
        };
        // An address is no name that TLS can carry.
        let sni = sni.filter(|name| matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_))));
        Subject { kind, name, address: None, sni, alpn: None }
    }
}

fn asked(text: &str) -> Result<Asked, String> {
    if text.contains("://") {
        attestation::url(text).map(Asked::Attestation)
    } else {
        place(text).map(Asked::Certificate)
    }
}

fn place(text: &str) -> Result<Place, String> {
    let (host, port) = text.rsplit_once(':').ok_or("expected host:port")?;
    let port = port.parse().map_err(|_| "expected a port after the last colon")?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err("an IPv6 address is written in brackets, as [::1]:5432".to_owned());
    }
    Ok(Place { host: server_name(bare.unwrap_or(host))?, port, address: None })
}

fn server_name(text: &str) -> Result<String, String> {
    ServerName::try_from(text).map_err(|_| "expected a DNS name or an IP address".to_owned())?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_have_a_host_and_a_port() {
        for (text, host, port) in
            [("db.example:5432", "db.example", 5432), ("127.0.0.1:1", "127.0.0.1", 1), ("[::1]:65535", "::1", 65535)]
        {
            let place = place(text).unwrap();
            assert_eq!((place.host.as_str(), place.port, place.to_string().as_str()), (host, port, text));
        }
        for text in ["", ":5432", "db.example", "db.example:", "db.example:65536", "::1:5432", "[::1]", "a b:1", "é:1"]
        {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
