//! The configurations of a tenant's sidecars.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use postern_identity::AppId;

use crate::chain::ChainClient;
use crate::{Admin, Guest};

/// What both modes are told; `attestation` is that section.
pub(crate) fn common(guest: &Guest, attestation: &str, admin: Admin) -> String {
    format!(
        r#"[log]
format = "json"

[admin]
listen = "{admin}"

[agent]
endpoint = "unix:{agent}"

{attestation}"#,
        admin = admin.0,
        agent = guest.socket().display(),
    )
}

/// Where serve mode takes connections without a gateway.
pub(crate) fn listen(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("\n[listen]\naddresses = [{}]\n", addresses.join(", "))
}

/// What serve mode is told.
pub(crate) struct Serve<'a> {
    pub(crate) socket_folder: &'a Path,
    pub(crate) postgres_port: u16,
    /// Each role, and the file with its secret.
    pub(crate) roles: [(&'a str, PathBuf); 2],
    /// The application that may connect.
    pub(crate) client: AppId,
    /// Further keys about clients.
    pub(crate) clients: &'a str,
    pub(crate) chain: ChainClient,
    pub(crate) kms: &'a str,
    pub(crate) gateway: AppId,
    pub(crate) registration: SocketAddr,
}

impl Serve<'_> {
    pub(crate) fn to_toml(&self) -> String {
        let role = |(role, secret): &(&str, PathBuf)| {
            format!("\n[[roles]]\nname = \"{role}\"\nsecret_files = [\"{}\"]\n", secret.display())
        };
        let text = format!(
            r#"
[postgres]
socket_dir = "{socket_folder}"
port = {postgres_port}

[clients]
app_ids = ["{client}"]
{clients}
[chain]
rpc_urls = ["{chain}"]
kms_contract = "{kms}"

[[gateways]]
url = "https://gateway.postern.test:{port}"
address = "{registration}"
app_id = "{gateway}"

[wireguard]
datapath = "netstack"
listen = "127.0.0.1:0"
"#,
            socket_folder = self.socket_folder.display(),
            postgres_port = self.postgres_port,
            client = self.client,
            clients = self.clients,
            chain = self.chain.url(),
            kms = self.kms,
            port = self.registration.port(),
            registration = self.registration,
            gateway = self.gateway,
        );
        self.roles.iter().map(role).fold(text, |text, role| text + &role)
    }
}

/// What serve mode is told of the port that is for everybody.
pub(crate) fn http(listen: SocketAddr) -> String {
    format!("\n[http]\nlisten = \"{listen}\"\n")
}

/// What connect mode is told.
pub(crate) struct Connect<'a> {
    /// Where drivers connect.
    pub(crate) listen: SocketAddr,
    /// The database's name at the gateway, and the gateway's address.
    pub(crate) host: &'a str,
    pub(crate) gateway: SocketAddr,
    /// The app that the far side must prove to be.
    pub(crate) expected: AppId,
    /// Further keys about drivers.
    pub(crate) drivers: &'a str,
}

impl Connect<'_> {
    pub(crate) fn to_toml(&self) -> String {
        format!(
            r#"
[connect]
listen = "{listen}"
{drivers}
[connect.target]
host = "{host}"
port = {port}
address = "{gateway}"
app_ids = ["{expected}"]
"#,
            listen = self.listen,
            drivers = self.drivers,
            host = self.host,
            port = self.gateway.port(),
            gateway = self.gateway,
            expected = self.expected,
        )
    }
}
