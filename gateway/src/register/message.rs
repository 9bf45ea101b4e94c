//! The JSON of registration: dstack's fields, and ours in an object of their own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use postern_identity::AppId;
use serde::{Deserialize, Serialize};

/// The port on which sidecars listen, unless they say otherwise.
const SIDECAR_PORT: u16 = 5433;

/// `RegisterCvmRequest`.
#[derive(Debug, Clone, Deserialize)]
pub struct RegisterCvm {
    /// The instance's WireGuard key, in base64.
    pub client_public_key: String,
    /// The ports it offers beside its sidecar's.
    pub port_policy: Option<PortPolicy>,
    /// What only a Postern sidecar says.
    #[serde(default)]
    pub postern: SidecarFields,
}

/// dstack's `PortPolicy`. Its `restrict_mode` makes no difference: a port that is not listed is closed.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct PortPolicy {
    /// The ports.
    #[serde(default)]
    pub ports: Vec<PortAttributes>,
}

/// One offered port.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct PortAttributes {
    /// Its number.
    pub port: u16,
    /// Whether a PROXY header goes in front of each connection.
    #[serde(default)]
    pub pp: bool,
}

/// What a sidecar says beside dstack's fields.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default)]
pub struct SidecarFields {
    /// The port on which it listens inside the tunnel.
    pub sidecar_port: u16,
}

impl Default for SidecarFields {
    fn default() -> Self {
        Self { sidecar_port: SIDECAR_PORT }
    }
}

impl RegisterCvm {
    /// The offered ports, each with whether a PROXY header goes in front.
    #[must_use]
    pub fn ports(&self) -> BTreeMap<u16, bool> {
        let policy = self.port_policy.iter().flat_map(|policy| &policy.ports);
        policy.map(|attributes| (attributes.port, attributes.pp)).collect()
    }
}

/// `RegisterCvmResponse`.
#[derive(Debug, Clone, Serialize)]
pub struct Registered {
    /// The tunnel.
    pub wg: WireGuard,
    /// Where clients find the app.
    pub agent: AgentFields,
    /// The gateways of the fleet.
    pub gateways: Vec<Gateway>,
    /// What only a Postern gateway says.
    pub postern: GatewayFields,
}

/// `WireGuardConfig`.
#[derive(Debug, Clone, Serialize)]
pub struct WireGuard {
    /// The instance's inner address.
    pub client_ip: IpAddr,
    /// The gateways.
    pub servers: Vec<WireGuardPeer>,
}

/// `WireGuardPeer`.
#[derive(Debug, Clone, Serialize)]
pub struct WireGuardPeer {
    /// The gateway's WireGuard key, in base64.
    pub pk: String,
    /// Its inner address.
    pub ip: IpAddr,
    /// Where its tunnel arrives.
    pub endpoint: SocketAddr,
}

/// `GuestAgentConfig`.
#[derive(Debug, Clone, Serialize)]
pub struct AgentFields {
    /// The port to which clients connect.
    pub external_port: u16,
    /// The port of dstack's guest agent inside the tunnel, which this gateway never asks.
    pub internal_port: u16,
    /// The base domain.
    pub domain: String,
    /// The prefix of TXT records for domains of one's own.
    pub app_address_ns_prefix: String,
}

/// `GatewayNodeInfo`.
#[derive(Debug, Clone, Serialize)]
pub struct Gateway {
    /// Its number in the fleet.
    pub id: u32,
    /// Its instance id, in hex.
    pub uuid: String,
    /// Where it takes registrations; empty when that was not configured.
    pub url: String,
    /// When it was last seen, in seconds since 1970.
    pub last_seen: u64,
    /// Its WireGuard key, in base64.
    pub wg_public_key: String,
    /// Its inner address.
    pub wg_ip: IpAddr,
    /// Where its tunnel arrives.
    pub wg_endpoint: SocketAddr,
}

/// What a gateway says beside dstack's fields.
#[derive(Debug, Clone, Serialize)]
pub struct GatewayFields {
    /// The number that the instance's cancel keys must carry in bits 12 to 30 of their process ids.
    pub cancel_slot: u32,
    /// How many seconds may pass until the next renewal.
    pub refresh_seconds: u64,
    /// The gateway's own app, as its quote has it.
    pub gateway_app_id: AppId,
}

/// The answer to `Info`.
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    /// The base domain.
    pub base_domain: String,
    /// The port to which clients connect.
    pub external_port: u16,
    /// The prefix of TXT records for domains of one's own.
    pub app_address_ns_prefix: String,
    /// The version of this program.
    pub version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_dstack_is_understood_and_so_is_one_of_ours() {
        let dstack = r#"{"client_public_key":"AAAA","port_policy":{"ports":[{"port":8443,"pp":true},{"port":80}],"restrict_mode":true}}"#;
        let request: RegisterCvm = serde_json::from_str(dstack).unwrap();
        assert_eq!(request.ports(), BTreeMap::from([(8443, true), (80, false)]));
        assert_eq!(request.postern.sidecar_port, 5433);
        let ours: RegisterCvm =
            serde_json::from_str(r#"{"client_public_key":"AAAA","postern":{"sidecar_port":6000}}"#).unwrap();
        assert_eq!((ours.postern.sidecar_port, ours.ports().len()), (6000, 0));
    }
}
