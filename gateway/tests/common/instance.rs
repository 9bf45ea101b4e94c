//! An instance at the other end of the tunnel, whose sidecar says back what it hears.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use postern_allowlist::BootInfo;
use postern_gateway_core::registration::{Claim, Link};
use postern_identity::{AppId, ComposeHash, DeviceId, InstanceId, OsImageHash};
use postern_plumbing::clock::unix_now;
use postern_plumbing::tasks::Task;
use postern_wireguard::{Peer, PublicKey, Tunnel, TunnelStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::chain::allowed;
use super::{House, PATIENCE, start_tunnel};
use gateway::members::Evidence;

pub(crate) const PORT: u16 = 5433;

pub(crate) struct Instance {
    pub(crate) boot: Arc<BootInfo>,
    pub(crate) slot: u32,
    pub(crate) tunnel: Tunnel,
    pub(crate) link: Link,
    heard: mpsc::UnboundedReceiver<Heard>,
    sidecar: Option<Task<()>>,
}

/// One connection, as the sidecar saw it.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The bytes of the PROXY header.
    pub(crate) header: Vec<u8>,
    /// The inner address that it came from.
    pub(crate) from: SocketAddr,
    /// The first bytes after the header.
    pub(crate) first: Vec<u8>,
}

pub(crate) fn boot(number: u8, app: u8) -> BootInfo {
    BootInfo {
        app_id: AppId([app; 20]),
        compose_hash: ComposeHash([number; 32]),
        instance_id: InstanceId([number; 20]),
        device_id: DeviceId([3; 32]),
        mr_aggregated: [4; 32],
        mr_system: [5; 32],
        os_image_hash: OsImageHash([6; 32]),
        tcb_status: "UpToDate".to_owned(),
        advisory_ids: vec![],
    }
}

impl Instance {
    pub(crate) async fn join(house: &House, number: u8, app: u8) -> Self {
        let boot = boot(number, app);
        house.chain.say(&boot, Ok(allowed(1)));
        Self::join_as(house, boot).await
    }

    /// An instance that the chain of the house allows already.
    pub(crate) async fn join_as(house: &House, boot: BootInfo) -> Self {
        static LINK: AtomicU64 = AtomicU64::new(0);
        let boot = Arc::new(boot);
        // Its address follows from its id; a tunnel needs it before it can start.
        let tunnel = start_tunnel(&address(house, &boot).to_string()).await;
        let link = Link(LINK.fetch_add(1, Ordering::Relaxed));
        let claim = claim(&boot, *tunnel.public_key().as_bytes());
        let joined = house.edge.members.register(claim, Arc::clone(&boot), (link, Arc::from([])), unix_now()).unwrap();
        assert_eq!(joined.assignment.address, tunnel.address());
        let gateway = &house.edge.tunnel;
        join_tunnel(&tunnel, gateway.public_key(), gateway.local_addr(), gateway.address());
        let (sidecar, heard) = sidecar(&tunnel);
        Self { boot, slot: joined.assignment.slot.number(), tunnel, link, heard, sidecar: Some(sidecar) }
    }

    /// Renews the membership, by this evidence.
    pub(crate) fn proven(&mut self, house: &House, evidence: Evidence) {
        let claim = claim(&self.boot, *self.tunnel.public_key().as_bytes());
        house.edge.members.register(claim, Arc::clone(&self.boot), (self.link, evidence), unix_now()).unwrap();
    }

    /// Closes the port; connections to it are refused from now on.
    pub(crate) fn stop_listening(&mut self) {
        self.sidecar = None;
    }

    pub(crate) async fn heard(&mut self) -> Heard {
        timeout(PATIENCE, self.heard.recv()).await.expect("nobody came").unwrap()
    }
}

/// Makes the gateway the other end of an instance's tunnel.
pub(crate) fn join_tunnel(tunnel: &Tunnel, public_key: PublicKey, endpoint: SocketAddr, address: std::net::IpAddr) {
    let allowed = vec![IpNet::from(address)];
    tunnel.set_peer(Peer { public_key, endpoint: Some(endpoint), allowed, keepalive: Some(5), mtu: None });
}

/// A sidecar that says back what it hears.
pub(crate) fn sidecar(tunnel: &Tunnel) -> (Task<()>, mpsc::UnboundedReceiver<Heard>) {
    let listener = tunnel.listen(PORT).unwrap();
    let (hearing, heard) = mpsc::unbounded_channel();
    let sidecar = Task::spawn("sidecar", async move {
        loop {
            let (stream, from) = listener.accept().await;
            Task::spawn("session", serve(stream, from, hearing.clone())).detach();
        }
    });
    (sidecar, heard)
}

fn claim(boot: &BootInfo, key: [u8; 32]) -> Claim {
    Claim {
        app: boot.app_id,
        instance: boot.instance_id,
        key,
        sidecar_port: PORT,
        ports: BTreeMap::new(),
        block: 1,
        fingerprint: [9; 32],
        evidence_until: u64::MAX,
    }
}

fn address(house: &House, boot: &BootInfo) -> std::net::IpAddr {
    let network = "10.74.0.0/16".parse().unwrap();
    let mut pool = postern_gateway_core::pool::AddressPool::new(network, house.edge.tunnel.address()).unwrap();
    pool.allocate(boot.instance_id).unwrap()
}

/// Reads the PROXY header and says back whatever follows.
async fn serve(mut stream: TunnelStream, from: SocketAddr, hearing: mpsc::UnboundedSender<Heard>) {
    let mut header = vec![0; 16];
    stream.read_exact(&mut header).await.unwrap();
    let mut rest = vec![0; u16::from_be_bytes([header[14], header[15]]).into()];
    stream.read_exact(&mut rest).await.unwrap();
    header.extend(rest);
    let mut first = vec![0; 4096];
    let count = stream.read(&mut first).await.unwrap_or(0);
    first.truncate(count);
    drop(hearing.send(Heard { header, from, first: first.clone() }));
    if stream.write_all(&first).await.is_err() {
        return;
    }
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    drop(stream.shutdown().await);
}
