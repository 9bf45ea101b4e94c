//! The gateway, as a process of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use postern_devnet::Governance;
use postern_identity::AppId;
use postern_plumbing::http::{Request, send};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::handshake::guest::{Guest, Platform};

/// The app of the gateway itself.
pub(super) const GATEWAY_APP: AppId = AppId([0x99; 20]);
/// Under which apps have their names.
pub(super) const DOMAIN: &str = "postern.test";
/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running gateway. It ends when this is dropped.
pub(super) struct Edge {
    process: Child,
    _guest: Guest,
    _folder: TempDir,
    /// Where clients connect.
    pub(super) clients: SocketAddr,
    /// Where instances register.
    pub(super) registration: SocketAddr,
    /// Where its tunnel arrives.
    pub(super) tunnel: SocketAddr,
}

impl Edge {
    pub(super) async fn start(platform: &Platform, chain: &Governance) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let guest = Guest::start(platform, GATEWAY_APP)?;
        let [clients, registration, admin] = ports()?;
        let tunnel = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        fs::write(folder.path().join("root.pem"), platform.root_pem())?;
        fs::write(folder.path().join("collateral.json"), platform.collateral_json()?)?;
        let config = folder.path().join("gateway.toml");
        let text = text(folder.path(), chain, &guest, [clients, registration, admin, tunnel]);
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
        let mut edge = Self { process, _guest: guest, _folder: folder, clients, registration, tunnel };
        edge.ready(admin).await?;
        Ok(edge)
    }

    /// Its resident memory, in bytes.
    pub(super) fn memory(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u32 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(f64::from(kilobytes) * 1024.0)
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

impl Drop for Edge {
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

fn text(folder: &Path, chain: &Governance, guest: &Guest, addresses: [SocketAddr; 4]) -> String {
    let [clients, registration, admin, tunnel] = addresses;
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
        datapath = "netstack"
        listen = "{tunnel}"
        endpoint = "{tunnel}"
        [chain]
        rpc_urls = ["{rpc}"]
        kms_contract = "{kms}"
        [audit]
        file = "{folder}/audit.jsonl"
        "#
    )
}
