//! The JSON of dstack's `RegisterCvm`, as far as a sidecar writes and reads it, and Postern's additions to it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// `RegisterCvmRequest`.
#[derive(Debug, Serialize)]
pub struct Request {
    /// Our WireGuard key, in base64.
    pub client_public_key: String,
    /// Which of our ports may be reached.
    pub port_policy: PortPolicy,
    /// What a sidecar adds.
    pub postern: Sidecar,
}

/// The ports that clients may reach.
#[derive(Debug, Serialize)]
pub struct PortPolicy {
    /// The listed ports.
    pub ports: Vec<Port>,
    /// Whether all others are closed.
    pub restrict_mode: bool,
}

/// One port.
#[derive(Debug, Serialize)]
pub struct Port {
    /// Its number inside the tunnel.
    pub port: u16,
    /// Whether connections begin with a PROXY header.
    pub pp: bool,
}

/// A sidecar's addition to the request.
#[derive(Debug, Serialize)]
pub struct Sidecar {
    /// The port for `<app-id>s` names.
    pub sidecar_port: u16,
}

impl Request {
    /// A registration that offers one port and nothing else.
    #[must_use]
    pub fn new(client_public_key: String, port: u16) -> Self {
        Self {
            client_public_key,
            port_policy: PortPolicy { ports: vec![Port { port, pp: true }], restrict_mode: true },
            postern: Sidecar { sidecar_port: port },
        }
    }
}

/// `RegisterCvmResponse`; fields that a sidecar does not need are skipped.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Response {
    /// Our end of the tunnel and the gateways at the other.
    pub wg: WireGuard,
    /// A gateway's addition to the response; dstack's own gateways have none.
    #[serde(default)]
    pub postern: Gateway,
}

/// The tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WireGuard {
    /// Our address inside the tunnel.
    pub client_ip: IpAddr,
    /// The gateways that may send through it.
    pub servers: Vec<Server>,
}

/// One gateway's end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Its WireGuard key, in base64.
    pub pk: String,
    /// Its address inside the tunnel.
    pub ip: IpAddr,
    /// Its UDP address.
    pub endpoint: SocketAddr,
}

/// What a Postern gateway adds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Gateway {
    /// The slot that our cancel keys must name.
    pub cancel_slot: u32,
    /// Seconds after which we must have registered again.
    pub refresh_seconds: u64,
}

impl Default for Gateway {
    /// dstack's guests register every three minutes.
    fn default() -> Self {
        Self { cancel_slot: 0, refresh_seconds: 180 }
    }
}

/// What a refusal says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The reason, in words.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::{Gateway, Request, Response};

    #[test]
    fn the_request_has_dstacks_fields_and_ours() {
        let json = serde_json::to_value(Request::new("a2V5".to_owned(), 5433)).unwrap();
        let expected = serde_json::json!({
            "client_public_key": "a2V5",
            "port_policy": {"ports": [{"port": 5433, "pp": true}], "restrict_mode": true},
            "postern": {"sidecar_port": 5433},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn responses_of_both_kinds_of_gateway_are_read() {
        let dstack = r#"{"wg":{"client_ip":"10.4.0.2","servers":[{"pk":"a","ip":"10.4.0.1","endpoint":"192.0.2.1:51820"}]},
            "agent":{"external_port":443},"gateways":[]}"#;
        let response: Response = serde_json::from_str(dstack).unwrap();
        assert_eq!(response.postern, Gateway { cancel_slot: 0, refresh_seconds: 180 });
        let ours = dstack
            .replace(r#""gateways":[]"#, r#""postern":{"cancel_slot":7,"refresh_seconds":60,"gateway_app_id":"00"}"#);
        let response: Response = serde_json::from_str(&ours).unwrap();
        assert_eq!(response.postern, Gateway { cancel_slot: 7, refresh_seconds: 60 });
        assert_eq!(response.wg.servers.len(), 1);
    }
}
