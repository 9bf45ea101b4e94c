//! The gateway on the edge, and an instance on the CVM that the chain allows and that has registered.

use std::net::SocketAddr;
use std::sync::Arc;

use postern_devnet::Governance;
use postern_identity::AppId;
use postern_plumbing::tasks::Task;
use postern_simulator::OS_IMAGE;
use postern_wireguard::Datapath;

use super::network::{CVM, EDGE, EDGE_PUBLIC, Network};
use super::server::Server;
use crate::admission::MINING;
use crate::gateway::{Applicant, DOMAIN, Gateway, Instance, PORT, Setting};
use crate::handshake::guest::{COMPOSE, Platform};

/// A chain on the edge's machine that allows the instances.
pub(super) struct Ground {
    chain: Arc<Governance>,
    platform: Arc<Platform>,
    app: AppId,
}

/// A gateway with one instance.
pub(super) struct Postern {
    gateway: Arc<Gateway>,
    _ground: Arc<Ground>,
    _instance: Instance,
    _serving: Task<()>,
    /// The instance inside the tunnel.
    pub(super) inner: SocketAddr,
}

impl Ground {
    pub(super) async fn new(network: &Network) -> anyhow::Result<Self> {
        let platform = Arc::new(Platform::new()?);
        let chain = network.edge.run("chain", Governance::start(&MINING, OS_IMAGE.0)).await??;
        let chain = Arc::new(chain);
        let (node, allowed) = (Arc::clone(&chain), platform.compose_hash(COMPOSE));
        network.edge.run("chain", async move { node.add(allowed.0).await.map(drop) }).await??;
        let app = AppId(chain.app.into_array());
        Ok(Self { chain, platform, app })
    }

    /// The name by which clients ask for the instance.
    pub(super) fn name(&self) -> String {
        format!("{}s.{DOMAIN}", self.app)
    }
}

impl Postern {
    /// Starts a gateway, which takes so many connections, and has an instance register behind which the server is. There may
    /// be one of each datapath; the instance has an interface in any case.
    pub(super) async fn start(
        network: &Network,
        ground: Arc<Ground>,
        server: Server,
        connections: usize,
        datapath: Datapath,
    ) -> anyhow::Result<Self> {
        let number = if datapath == Datapath::Tun { 0 } else { 1 };
        let instance_at = SocketAddr::new(CVM.into(), 51_820 + number);
        let setting = Setting {
            clients: SocketAddr::new(EDGE_PUBLIC.into(), 5432 + number),
            registration: SocketAddr::new(EDGE.into(), 8432 + number),
            admin: SocketAddr::from(([127, 0, 0, 1], 9432 + number)),
            tunnel: SocketAddr::new(EDGE.into(), 51_820 + number),
            datapath,
            connections,
        };
        let (chain, platform) = (Arc::clone(&ground.chain), Arc::clone(&ground.platform));
        let gateway = async move { Gateway::start(&platform, &chain, setting).await };
        let gateway = Arc::new(network.edge.run("gateway", gateway).await??);
        let (door, platform, app) = (Arc::clone(&gateway), Arc::clone(&ground.platform), ground.app);
        let join = async move {
            let applicant = Applicant { platform: &platform, app, compose: COMPOSE, number: number + 1, source: None };
            let instance = Instance::join(&door, applicant, instance_at, Datapath::Tun).await?;
            let listener = instance.tunnel.listen(PORT)?;
            anyhow::Ok((instance, listener))
        };
        let (instance, listener) = network.cvm.run("instance", join).await??;
        let inner = listener.local_addr();
        let serving = network.cvm.start("server", server.serve_tunnel(listener));
        Ok(Self { gateway, _ground: ground, _instance: instance, _serving: serving, inner })
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.gateway.clients
    }

    /// The gateway's process.
    pub(super) fn id(&self) -> u32 {
        self.gateway.id()
    }
}
