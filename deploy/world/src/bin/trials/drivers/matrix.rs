//! The drivers of `deploy/clients/drivers.toml`, and the ways to a database.

use std::net::SocketAddr;

use postern_world::{Tenant, World};
use serde::Deserialize;

const DRIVERS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/drivers.toml"));

/// A way from a driver to a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Plain, to a sidecar in connect mode.
    Connect,
    /// Through the gateway's port 5432, after SSLRequest.
    Gateway,
    /// The same, with TLS at once.
    GatewayDirect,
    /// Through the gateway's port 443, after SSLRequest.
    Https,
    /// The same, with TLS at once.
    HttpsDirect,
    /// Straight at the database's sidecar, after SSLRequest.
    Sidecar,
    /// The same, with TLS at once.
    SidecarDirect,
}

impl Way {
    /// All ways, in the order of the table.
    pub(crate) const ALL: [Self; 7] = [
        Self::Connect,
        Self::Gateway,
        Self::GatewayDirect,
        Self::Https,
        Self::HttpsDirect,
        Self::Sidecar,
        Self::SidecarDirect,
    ];

    /// The heading of its column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Connect => "`sidecar connect`",
            Self::Gateway => "gateway, 5432",
            Self::GatewayDirect => "5432, direct TLS",
            Self::Https => "gateway, 443",
            Self::HttpsDirect => "443, direct TLS",
            Self::Sidecar => "sidecar",
            Self::SidecarDirect => "sidecar, direct TLS",
        }
    }

    /// The port at which it begins.
    pub(crate) fn port(self, world: &World, tenant: &Tenant) -> u16 {
        let address: SocketAddr = match self {
            Self::Connect => tenant.application().address(),
            Self::Gateway | Self::GatewayDirect => world.address(),
            Self::Https | Self::HttpsDirect => world.gateway().https_address(),
            Self::Sidecar | Self::SidecarDirect => tenant.database().address(),
        };
        address.port()
    }
}

/// What runs a driver's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Runtime {
    Python,
    Node,
    Java,
    Rust,
}

/// A stock driver.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Driver {
    /// What it is called in the table and in README.md.
    pub(crate) name: String,
    /// What puts it through the trial.
    pub(crate) program: (Runtime, String),
    local: String,
    attested: String,
    direct: Option<String>,
    no_direct: Option<String>,
    no_cancel: Option<String>,
}

impl Driver {
    /// How it is told to go this way; the reason when it cannot.
    pub(crate) fn connection(&self, way: Way) -> Result<&str, &str> {
        match way {
            Way::Connect => Ok(&self.local),
            Way::Gateway | Way::Https | Way::Sidecar => Ok(&self.attested),
            Way::GatewayDirect | Way::HttpsDirect | Way::SidecarDirect => {
                self.direct.as_deref().ok_or_else(|| self.no_direct.as_deref().unwrap_or_default())
            }
        }
    }

    /// Why it does not cancel, if it does not.
    pub(crate) fn no_cancel(&self) -> Option<&str> {
        self.no_cancel.as_deref()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drivers {
    driver: Vec<Driver>,
}

/// All drivers.
pub(crate) fn drivers() -> Result<Vec<Driver>, String> {
    toml::from_str(DRIVERS).map(|drivers: Drivers| drivers.driver).map_err(postern_world::report::words)
}

/// Has libpq, and who reads its words behind `sslmode`, insist on channel binding, where it does TLS.
pub(crate) fn bound(template: &str) -> String {
    template.replace(" sslmode=require ssl", " sslmode=require channel_binding=require ssl")
}

/// Puts this world's values in place of production's.
pub(crate) fn fill(template: &str, port: u16, host: &str, secret: &str) -> String {
    // The port goes first: the name and the secret are hex digits, and may hold its own.
    let filled = template.replace("5432", &port.to_string());
    filled.replace("<app-id>s.<domain>", host).replace("<secret>", secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"));

    #[test]
    fn a_driver_has_a_connection_or_a_reason_on_each_way() {
        for driver in drivers().unwrap() {
            assert!(driver.direct.is_some() != driver.no_direct.is_some(), "{}", driver.name);
            for way in Way::ALL {
                assert!(!driver.connection(way).unwrap_or_else(|reason| reason).is_empty(), "{}", driver.name);
            }
        }
    }

    #[test]
    fn values_are_filled_in_even_where_they_look_like_one_another() {
        let filled = fill("host=<app-id>s.<domain> port=5432 password=<secret>", 1234, "5432s.test", "5432");
        assert_eq!(filled, "host=5432s.test port=1234 password=5432");
    }

    #[test]
    fn libpq_insists_on_channel_binding_wherever_it_does_tls() {
        for driver in drivers().unwrap() {
            let libpq = driver.name.starts_with("psql") || driver.name.starts_with("psycopg");
            for way in Way::ALL {
                let Ok(template) = driver.connection(way) else { continue };
                let direct = matches!(way, Way::GatewayDirect | Way::HttpsDirect | Way::SidecarDirect);
                let expected = libpq && way != Way::Connect || driver.name == "tokio-postgres" && direct;
                let insists = bound(template).contains(" channel_binding=require ");
                assert_eq!(insists, expected, "{} {way:?}", driver.name);
            }
        }
    }

    /// So what the matrix has tried is what readers are told.
    #[test]
    fn the_readme_shows_each_connection() {
        for driver in drivers().unwrap() {
            for connection in
                [Some(&driver.local), Some(&driver.attested), driver.direct.as_ref()].into_iter().flatten()
            {
                let row = format!("| {} | `{connection}` |", driver.name);
                assert!(README.lines().any(|line| line == row), "README.md lacks: {row}");
            }
        }
    }
}
