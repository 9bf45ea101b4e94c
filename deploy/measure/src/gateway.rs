//! The gateway, as a process of its own, and an instance that registers with it.

mod instance;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use postern_devnet::Governance;
use postern_identity::AppId;
use postern_plumbing::http::{Request, send};
use postern_wireguard::Datapath;
use tempfile::TempDir;
use tokio::net::TcpStream;

pub(crate) use self::instance::{Applicant, Instance, PORT, register};
use crate::handshake::guest::{Guest, Platform};
use crate::process;

/// The app of the gateway itself.
const GATEWAY_APP: AppId = AppId([0x99; 20]);
/// Under which apps have their names.
pub(crate) const DOMAIN: &str = "postern.test";
/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a gateway listens, and what it is told beside that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// For clients.
    pub(crate) clients: SocketAddr,
    /// For instances that register.
    pub(crate) registration: SocketAddr,
    /// For those who ask whether it is ready.
    pub(crate) admin: SocketAddr,
    /// For its tunnel, and where instances reach it.
    pub(crate) tunnel: SocketAddr,
    /// How packets become connections.
    pub(crate) datapath: Datapath,
    /// How many connections it takes, in all and to one app.
    pub(crate) connections: usize,
}

impl Setting {
    /// On free ports of the loopback interface, without an interface of its own.
    pub(crate) fn on_loopback() -> anyhow::Result<Self> {
        let [clients, registration, admin] = ports()?;
        let tunnel = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Ok(Self { clients, registration, admin, tunnel, datapath: Datapath::Netstack, connections: 2_000 })
    }
}

/// A running gateway. It ends when this is dropped.
pub(crate) struct Gateway {
    process: Child,
    _guest: Guest,
    _folder: TempDir,
    /// Where clients connect.
    pub(crate) clients: SocketAddr,
    /// Where instances register.
    pub(crate) registration: SocketAddr,
    /// Where its tunnel arrives.
    pub(crate) tunnel: SocketAddr,
}

impl Gateway {
    pub(crate) async fn start(platform: &Platform, chain: &Governance, setting: Setting) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let guest = Guest::start(platform, GATEWAY_APP)?;
        fs::write(folder.path().join("root.pem"), platform.root_pem())?;
        fs::write(folder.path().join("collateral.json"), platform.collateral_json()?)?;
        let config = folder.path().join("gateway.toml");
        let text = text(folder.path(), chain, &guest, setting);
        fs::write(&config, text)?;
        let log = fs::File::create(folder.path().join("gateway.log"))?;
        let program = program()?;
        let process = Command::new(&program)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| program.display().to_string())?;
        let Setting { clients, registration, tunnel, .. } = setting;
        let mut gateway = Self { process, _guest: guest, _folder: folder, clients, registration, tunnel };
        gateway.ready(setting.admin).await?;
        Ok(gateway)
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<f64> {
        process::resident(self.process.id())
    }

    async fn ready(&mut self, admin: SocketAddr) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            if let Ok(stream) = TcpStream::connect(admin).await
                && let Ok(answer) = send(stream, Request::get("gateway", "/readyz"), 1 << 16, PATIENCE).await
                && answer.is_success()
            {
                return Ok(());
            }
            if started.elapsed() > PATIENCE || self.process.try_wait()?.is_some() {
                let log = fs::read_to_string(self._folder.path().join("gateway.log")).unwrap_or_default();
                bail!("the gateway did not become ready: {log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The gateway that was built with this program.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("gateway")).find(|path| path.is_file());
    found.context("there is no gateway beside this program: cargo build -p gateway")
}

/// Free TCP ports.
fn ports() -> anyhow::Result<[SocketAddr; 3]> {
    let listen = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = [listen()?, listen()?, listen()?];
    Ok([listeners[0].local_addr()?, listeners[1].local_addr()?, listeners[2].local_addr()?])
}

fn text(folder: &Path, chain: &Governance, guest: &Guest, setting: Setting) -> String {
    let Setting { clients, registration, admin, tunnel, datapath, connections } = setting;
    let (folder, agent) = (folder.display(), guest.socket().display());
    let (rpc, kms) = (chain.anvil.url(), chain.kms);
    format!(
        r#"
        [edge]
        domains = ["{DOMAIN}"]
        listen = ["{clients}"]
        [admin]
        listen = "{admin}"
        [registration]
        listen = "{registration}"
        [agent]
        endpoint = "unix:{agent}"
        [attestation]
        root = "{folder}/root.pem"
        collateral = "{folder}/collateral.json"
        [wireguard]
        datapath = "{datapath}"
        listen = "{tunnel}"
        endpoint = "{tunnel}"
        [chain]
        rpc_urls = ["{rpc}"]
        kms_contract = "{kms}"
        [limits]
        connections = {connections}
        connections_per_app = {connections}
        [audit]
        file = "{folder}/audit.jsonl"
        "#
    )
}
