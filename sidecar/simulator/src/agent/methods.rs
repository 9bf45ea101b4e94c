//! Certificates, quotes and attestations.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::Agent;
use super::info::vm_config;
use super::parameters::{HexBytes, Parameters, Refusal};
use crate::certificate::{Attestation, CertificateRequest};

/// The release of dstack that the agent claims to be: its answers are those of this release.
const SIMULATED_RELEASE: &str = "0.6.0";

pub(super) type Answer<T> = Result<Json<T>, Refusal>;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct TlsKeyRequest {
    subject: String,
    alt_names: Vec<String>,
    usage_ra_tls: bool,
    usage_server_auth: bool,
    usage_client_auth: bool,
    not_before: Option<u64>,
    not_after: Option<u64>,
    with_app_info: bool,
}

#[derive(Serialize)]
pub(super) struct TlsKey {
    key: String,
    certificate_chain: Vec<String>,
}

/// A fresh key with a certificate, which carries this CVM's attestation when `usage_ra_tls` is set.
pub(super) async fn tls_key(
    State(agent): State<Agent>,
    Parameters(request): Parameters<TlsKeyRequest>,
) -> Answer<TlsKey> {
    if request.not_before.zip(request.not_after).is_some_and(|(start, end)| start >= end) {
        return Err(Refusal::new(&"not_before must be earlier than not_after"));
    }
    let request = CertificateRequest {
        subject: request.subject,
        alt_names: request.alt_names,
        attestation: if request.usage_ra_tls { Attestation::Bound } else { Attestation::None },
        app_info: request.with_app_info,
        server_auth: request.usage_server_auth,
        client_auth: request.usage_client_auth,
        not_before: request.not_before,
        not_after: request.not_after,
    };
    let certificate = agent.cvm.certificate(&request, (agent.clock)()).map_err(|error| Refusal::new(&error))?;
    Ok(Json(TlsKey { key: certificate.key.to_string(), certificate_chain: certificate.chain }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct QuoteRequest {
    report_data: HexBytes,
}

impl QuoteRequest {
    /// At most 64 bytes, which are padded with zeros on the right.
    fn padded(&self) -> Result<[u8; 64], Refusal> {
        let mut report_data = [0; 64];
        let Some(start) = report_data.get_mut(..self.report_data.0.len()) else {
            return Err(Refusal::new(&"report_data has more than 64 bytes"));
        };
        start.copy_from_slice(&self.report_data.0);
        Ok(report_data)
    }
}

#[derive(Serialize)]
pub(super) struct Quote {
    quote: String,
    event_log: String,
    report_data: String,
    vm_config: String,
}

/// A quote, with the event log that explains it.
pub(super) async fn quote(State(agent): State<Agent>, Parameters(request): Parameters<QuoteRequest>) -> Answer<Quote> {
    let report_data = request.padded()?;
    Ok(Json(Quote {
        quote: hex::encode(agent.cvm.quote(report_data)),
        event_log: serde_json::to_string(agent.cvm.event_log()).map_err(|error| Refusal::new(&error))?,
        report_data: hex::encode(report_data),
        vm_config: vm_config(),
    }))
}

#[derive(Serialize)]
pub(super) struct Attested {
    attestation: String,
}

/// Quote, event log and configuration in one value.
pub(super) async fn attest(
    State(agent): State<Agent>,
    Parameters(request): Parameters<QuoteRequest>,
) -> Answer<Attested> {
    let report_data = request.padded()?;
    let quote = agent.cvm.quote(report_data);
    let attestation = crate::attestation::version_0(&quote, report_data, agent.cvm.event_log(), &vm_config());
    Ok(Json(Attested { attestation: hex::encode(attestation) }))
}

/// Applications could once extend RTMR3. The method is left so that those who still call it learn why it fails.
pub(super) async fn emit_event() -> Refusal {
    Refusal::new(&"EmitEvent was removed in dstack 0.6.0: applications no longer extend RTMR3")
}

#[derive(Serialize)]
pub(super) struct Version {
    version: &'static str,
    rev: &'static str,
}

/// Which agent answers.
pub(super) async fn version() -> Json<Version> {
    Json(Version { version: SIMULATED_RELEASE, rev: concat!("postern-simulator-", env!("CARGO_PKG_VERSION")) })
}
