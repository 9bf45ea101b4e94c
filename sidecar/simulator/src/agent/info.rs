//! What runs in a CVM, in its own words.

use axum::Json;
use axum::extract::State;
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};
use serde::{Deserialize, Serialize};

use super::Agent;
use super::methods::Answer;
use super::parameters::Refusal;
use crate::app_info::unverified_device;
use crate::certificate::{Attestation, CertificateRequest};
use crate::{Cvm, OS_IMAGE, SimulatorError};

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

pub(super) async fn info(State(agent): State<Agent>) -> Answer<Info> {
    let cvm = &agent.cvm;
    Ok(Json(Info {
        app_id: cvm.app_id(),
        instance_id: cvm.instance_id(),
        app_cert: agent.shown_certificate().map_err(|error| Refusal::new(&error))?,
        tcb_info: format!("{:#}", tcb_info(cvm)),
        app_name: app_name(cvm.compose()),
        device_id: unverified_device(),
        mr_aggregated: hex::encode(cvm.mr_aggregated()),
        os_image_hash: OS_IMAGE,
        key_provider_info: String::from_utf8_lossy(&cvm.key_provider()).into_owned(),
        compose_hash: cvm.compose_hash(),
        vm_config: vm_config(),
        cloud_vendor: "simulated",
        cloud_product: "postern-simulator",
    }))
}

impl Agent {
    /// A certificate with evidence, whose key nobody has; the same for the life of the agent.
    fn shown_certificate(&self) -> Result<String, SimulatorError> {
        if let Some(shown) = self.shown.get() {
            return Ok(shown.clone());
        }
        let request = CertificateRequest {
            subject: "demo-cert".to_owned(),
            attestation: Attestation::Bound,
            client_auth: true,
            ..CertificateRequest::default()
        };
        let certificate = self.cvm.certificate(&request, (self.clock)())?;
        Ok(self.shown.get_or_init(|| certificate.chain.join("\n")).clone())
    }
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

/// The `name` in `app-compose.json`, if there is one.
fn app_name(compose: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    serde_json::from_slice(compose).map(|named: Named| named.name).unwrap_or_default()
}

/// The configuration of the machine, as its host states it.
pub(super) fn vm_config() -> String {
    serde_json::json!({ "os_image_hash": OS_IMAGE }).to_string()
}
