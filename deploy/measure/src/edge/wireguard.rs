//! Tunnels of others: a daemon at each end, told what to do in the language that all of them speak.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use alloy::hex;
use anyhow::{Context as _, ensure};
use postern_wireguard::{DEFAULT_MTU, PrivateKey, PublicKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::machine::Machine;
use super::network::{CVM, EDGE, Network};
use super::peers::Way;
use super::program::Program;

/// A tunnel between edge and CVM.
pub(super) struct Daemons {
    edge: Program,
    _cvm: Program,
    /// The CVM inside the tunnel.
    pub(super) inner: Ipv4Addr,
}

/// One end.
struct End<'a> {
    machine: &'a Machine,
    /// Of its interface.
    name: &'static str,
    inner: Ipv4Addr,
    key: PrivateKey,
    port: u16,
}

/// What one end knows of the other.
struct Other {
    key: PublicKey,
    inner: Ipv4Addr,
    endpoint: SocketAddr,
}

impl Daemons {
    /// Starts one of the two kinds.
    pub(super) async fn start(network: &Network, way: Way, program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let go = way == Way::WireguardGo;
        let (names, port) = if go { (["wgo0", "wgo1"], 51_901) } else { (["bt0", "bt1"], 51_902) };
        let third = if go { 91 } else { 92 };
        let end = |machine, name, last| {
            let inner = Ipv4Addr::new(10, third, 0, last);
            End { machine, name, inner, key: PrivateKey::generate(), port }
        };
        let [near, far] = [end(&network.edge, names[0], 1), end(&network.cvm, names[1], 2)];
        let edge = near.start(way, program, folder, &far.seen_at(CVM)).await?;
        let cvm = far.start(way, program, folder, &near.seen_at(EDGE)).await?;
        Ok(Self { edge, _cvm: cvm, inner: far.inner })
    }

    /// The edge's daemon.
    pub(super) fn id(&self) -> u32 {
        self.edge.id()
    }
}

impl End<'_> {
    fn seen_at(&self, address: Ipv4Addr) -> Other {
        let endpoint = SocketAddr::new(address.into(), self.port);
        Other { key: self.key.public(), inner: self.inner, endpoint }
    }

    async fn start(&self, way: Way, program: &Path, folder: &Path, other: &Other) -> anyhow::Result<Program> {
        let mut command = Command::new(program);
        command.arg("--foreground");
        if way == Way::Boringtun {
            // One thread for each processor, as it says itself it should be; by default there are four.
            let threads = std::thread::available_parallelism()?.to_string();
            command.args(["--disable-drop-privileges", "--threads", &threads]);
        }
        command.arg(self.name);
        let socket = PathBuf::from(format!("/run/wireguard/{}.sock", self.name));
        if let Some(folder) = socket.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut program = Program::start(self.machine, command, folder, self.name).await?;
        program.until(|| async { UnixStream::connect(&socket).await.is_ok() }).await?;
        self.configure(&socket, other).await.with_context(|| format!("{}'s settings", self.name))?;
        self.machine.ip(&format!("address add {}/24 dev {}", self.inner, self.name)).await?;
        self.machine.ip(&format!("link set {} mtu {DEFAULT_MTU} up", self.name)).await?;
        Ok(program)
    }

    /// Says who is who (the cross-platform interface of userspace implementations, `set=1`).
    async fn configure(&self, socket: &Path, other: &Other) -> anyhow::Result<()> {
        let mut text = String::new();
        writeln!(text, "set=1\nprivate_key={}", hex::encode(self.key.expose()))?;
        writeln!(text, "listen_port={}", self.port)?;
        writeln!(text, "public_key={}", hex::encode(other.key.as_bytes()))?;
        writeln!(text, "endpoint={}\nallowed_ip={}/32\n", other.endpoint, other.inner)?;
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; 1024];
        let count = stream.read(&mut answer).await?;
        let answer = String::from_utf8_lossy(answer.get(..count).unwrap_or_default()).into_owned();
        ensure!(answer.trim() == "errno=0", "it says {answer:?}");
        Ok(())
    }
}
