//! The configurations of a tenant's sidecars.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use postern_identity::AppId;

use crate::Admin;
use crate::chain::ChainClient;

/// What both modes are told: the socket of the guest agent, the section `[attestation]`, and the admin port.
pub(crate) fn common(agent: &Path, attestation: &str, admin: Admin) -> String {
    format!(
        r#"[log]
format = "json"

[admin]
listen = "{admin}"

[agent]
endpoint = "unix:{agent}"

{attestation}"#,
        admin = admin.0,
        agent = agent.display(),
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
    pub(crate) superuser: &'a str,
    pub(crate) database: &'a str,
    /// Each role, and the file with its secret.
    pub(crate) roles: &'a [(&'a str, PathBuf)],
    /// The application that may connect.
    pub(crate) client: AppId,
    /// Further keys about clients.
    pub(crate) clients: &'a str,
    /// The chain and its contract, if the sidecar is to ask them about clients.
    pub(crate) chain: Option<(ChainClient, &'a str)>,
    pub(crate) gateway: AppId,
    pub(crate) registration: SocketAddr,
}

impl Serve<'_> {
    pub(crate) fn to_toml(&self) -> String {
        let role = |(role, secret): &(&str, PathBuf)| {
            // The roles of TeeSQL have the privileges that their names say.
            let privileges = if role.starts_with("teesql_") { "" } else { "privileges = \"readwrite\"\n" };
            format!("\n[[roles]]\nname = \"{role}\"\nsecret_files = [\"{}\"]\n{privileges}", secret.display())
        };
        let text = format!(
            r#"
[postgres]
socket_dir = "{socket_folder}"
port = {postgres_port}
superuser = "{superuser}"
databases = ["{database}"]

[clients]
app_ids = ["{client}"]
{clients}
{chain}
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
            superuser = self.superuser,
            database = self.database,
            client = self.client,
            clients = self.clients,
            chain = self.chain(),
            port = self.registration.port(),
            registration = self.registration,
            gateway = self.gateway,
        );
        self.roles.iter().map(role).fold(text, |text, role| text + &role)
    }

    fn chain(&self) -> String {
        let section = |(chain, kms): (ChainClient, &str)| {
            format!("\n[chain]\nrpc_urls = [\"{}\"]\nkms_contract = \"{kms}\"\n", chain.url())
        };
        self.chain.map(section).unwrap_or_default()
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
