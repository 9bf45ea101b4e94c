//! The methods of the guest agent.

use axum::Json;
use axum::extract::State;
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Agent;
use super::parameters::{Parameters, Refusal};
use crate::certificate::{Attestation, CertificateRequest};
use crate::{Cvm, OS_IMAGE};

type Answer<T> = Result<Json<T>, Refusal>;

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
    let request = CertificateRequest {
        subject: request.subject,
        alt_names: request.alt_names,
        attestation: if request.usage_ra_tls { Attestation::Bound } else { Attestation::None },
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
pub(super) struct KeyRequest {
    path: String,
}

#[derive(Serialize)]
pub(super) struct Key {
    key: String,
    /// Always empty: no KMS stands behind a simulated key, so nobody vouches for it.
    signature_chain: [String; 0],
}

/// The key of a path. `purpose` and `algorithm` change only the signature chain of a real agent, never the key.
pub(super) async fn key(State(agent): State<Agent>, Parameters(request): Parameters<KeyRequest>) -> Json<Key> {
    Json(Key { key: hex::encode(*agent.cvm.derive_key(&request.path)), signature_chain: [] })
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct QuoteRequest {
    report_data: String,
}

#[derive(Serialize)]
pub(super) struct Quote {
    quote: String,
    event_log: String,
    report_data: String,
    vm_config: String,
}

/// A quote over at most 64 bytes, which are padded with zeros on the right.
pub(super) async fn quote(State(agent): State<Agent>, Parameters(request): Parameters<QuoteRequest>) -> Answer<Quote> {
    let given = hex::decode(&request.report_data).map_err(|error| Refusal::new(&error))?;
    let mut report_data = [0; 64];
    let Some(start) = report_data.get_mut(..given.len()) else {
        return Err(Refusal::new(&"report_data has more than 64 bytes"));
    };
    start.copy_from_slice(&given);
    Ok(Json(Quote {
        quote: hex::encode(agent.cvm.quote(report_data)),
        event_log: serde_json::to_string(agent.cvm.event_log()).map_err(|error| Refusal::new(&error))?,
        report_data: hex::encode(report_data),
        vm_config: vm_config(),
    }))
}

#[derive(Serialize)]
pub(super) struct Info {
    app_id: AppId,
    instance_id: InstanceId,
    app_cert: String,
    tcb_info: String,
    app_name: String,
    device_id: DeviceId,
    mr_aggregated: String,
    os_image_hash: OsImageHash,
    key_provider_info: String,
    compose_hash: ComposeHash,
    vm_config: String,
    cloud_vendor: &'static str,
    cloud_product: &'static str,
}

/// What runs in this CVM, in its own words.
pub(super) async fn info(State(agent): State<Agent>) -> Answer<Info> {
    let cvm = &agent.cvm;
    Ok(Json(Info {
        app_id: cvm.app_id(),
        instance_id: cvm.instance_id(),
        app_cert: cvm.app_certificate().map_err(|error| Refusal::new(&error))?,
        tcb_info: tcb_info(cvm).to_string(),
        app_name: app_name(cvm.compose()),
        device_id: unverified_device(),
        mr_aggregated: hex::encode(cvm.mr_aggregated()),
        os_image_hash: OS_IMAGE,
        key_provider_info: hex::encode(cvm.key_provider()),
        compose_hash: cvm.compose_hash(),
        vm_config: vm_config(),
        cloud_vendor: "simulated",
        cloud_product: "postern-simulator",
    }))
}

fn tcb_info(cvm: &Cvm) -> serde_json::Value {
    let measurements = cvm.measurements();
    let [rtmr0, rtmr1, rtmr2, rtmr3] = measurements.rtmr;
    serde_json::json!({
        "mrtd": measurements.mrtd, "rtmr0": rtmr0, "rtmr1": rtmr1, "rtmr2": rtmr2, "rtmr3": rtmr3,
        "mr_aggregated": hex::encode(cvm.mr_aggregated()),
        "os_image_hash": OS_IMAGE,
        "compose_hash": cvm.compose_hash(),
        "device_id": unverified_device(),
        "event_log": cvm.event_log(),
        "app_compose": String::from_utf8_lossy(cvm.compose()),
    })
}

/// dstack's agent reads its own device id from an attestation that nobody verified, where it is the hash of nothing.
fn unverified_device() -> DeviceId {
    DeviceId(Sha256::digest(b"").into())
}

/// The `name` in `app-compose.json`, if there is one.
fn app_name(compose: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_slice(compose).map(|named: Named| named.name).unwrap_or_default()
}

fn vm_config() -> String {
    serde_json::json!({ "os_image_hash": OS_IMAGE }).to_string()
}

#[derive(Serialize)]
pub(super) struct Version {
    version: &'static str,
    rev: &'static str,
}

/// Which agent answers.
pub(super) async fn version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION"), rev: "simulated" })
}
