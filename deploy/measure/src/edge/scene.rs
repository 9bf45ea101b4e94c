//! Everything that is compared, running at once. Who is not asked does next to nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use postern_plumbing::tasks::Task;
use postern_wireguard::Datapath;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Programs;
use super::client::Client;
use super::network::{CVM, EDGE_PUBLIC, Network};
use super::peers::{Peer, Proxy, Way};
use super::postern::{Ground, Postern};
use super::program::{Program, version};
use super::proxies::{self as roads, CONNECTIONS, Road, with_libraries};
use super::server::Server;
use super::usage::Edge;
use super::wireguard::Daemons;
use crate::authority::{Authority, provider};

/// Where the server is for those who have no tunnel of ours.
const PORT: u16 = 5434;
/// Where the first proxy listens, and the others behind it.
const FIRST_PORT: u16 = 7001;

/// What a client may connect to.
pub(super) struct Target {
    pub(super) peer: Peer,
    pub(super) address: SocketAddr,
    pub(super) edge: Edge,
}

/// The machines and what runs on them.
pub(super) struct Scene {
    // Dropped in this order: proxies before tunnels, and the network last.
    proxies: Vec<Program>,
    daemons: Vec<(Way, Daemons)>,
    /// Our gateways, each with its way.
    posterns: Vec<(Way, Postern)>,
    _serving: Task<()>,
    pub(super) targets: Vec<Target>,
    pub(super) client: Client,
    pub(super) server: Server,
    /// What the programs say they are, and who could not be had and why.
    pub(super) remarks: Vec<String>,
    pub(super) network: Network,
    folder: TempDir,
}

impl Scene {
    /// Starts everything that is needed for some peers.
    pub(super) async fn new(programs: &Programs, peers: &[Peer]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let network = Network::new(programs.ethtool.as_deref()).await.context("the network")?;
        let ours: BTreeSet<Way> = peers.iter().map(|peer| peer.way()).filter(|way| way.is_ours()).collect();
        let ground = if ours.is_empty() { None } else { Some(Ground::new(&network).await.context("the chain")?) };
        let name = ground.as_ref().map_or_else(|| "db.postern.test".to_owned(), Ground::name);
        let (acceptor, connector) = tls(&name)?;
        let server = Server::new(acceptor);
        let client = Client { connector, name: ServerName::try_from(name.clone())? };
        let listener = network.cvm.run("listener", TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))).await??;
        let serving = network.cvm.start("server", server.clone().serve(listener));
        let (ground, mut posterns) = (ground.map(Arc::new), Vec::new());
        for (way, ground) in ours.into_iter().zip(ground.iter().cycle()) {
            let connections = CONNECTIONS.max(programs.idle.unwrap_or_default());
            let datapath = if way == Way::Netstack { Datapath::Netstack } else { Datapath::Tun };
            let postern = Postern::start(&network, Arc::clone(ground), server.clone(), connections, datapath).await;
            posterns.push((way, postern.context("the gateway")?));
        }
        let mut scene = Self {
            proxies: Vec::new(),
            daemons: Vec::new(),
            posterns,
            _serving: serving,
            targets: Vec::new(),
            client,
            server,
            remarks: vec![format!("Programs: {}.", versions(programs).join("; "))],
            network,
            folder,
        };
        for peer in peers {
            match scene.add(programs, *peer, &name).await {
                Ok(target) => scene.targets.push(target),
                Err(error) => scene.remarks.push(format!("Left out: {peer}: {error:#}.")),
            }
        }
        Ok(scene)
    }

    async fn add(&mut self, programs: &Programs, peer: Peer, name: &str) -> anyhow::Result<Target> {
        let (to, tunnel) = self.way(programs, peer.way()).await?;
        if peer.proxy() == Proxy::Gateway {
            let postern = self.postern(peer.way())?;
            let edge = Edge::Gateway(postern.id());
            return Ok(Target { peer, address: postern.address(), edge });
        }
        let port = FIRST_PORT + u16::try_from(self.proxies.len())?;
        let listen = SocketAddr::new(EDGE_PUBLIC.into(), port);
        let (road, folder) = (Road { listen, name, to }, self.folder.path());
        let command = match peer.proxy() {
            Proxy::Haproxy => roads::haproxy(programs, &road, folder)?,
            Proxy::Nginx => roads::nginx(programs, &road, folder)?,
            Proxy::Gateway | Proxy::Passthrough => Some(roads::passthrough(&road)?),
        };
        let command = command.context("the program could not be had")?;
        let mut program = Program::start(&self.network.edge, command, folder, &format!("proxy-{port}")).await?;
        program.until_reached(&self.network.client, listen).await?;
        let proxy = program.id();
        self.proxies.push(program);
        let edge = match (peer.way(), tunnel) {
            (Way::Postern, Some(gateway)) => Edge::OverGateway { proxy, gateway },
            (_, tunnel) => Edge::Programs { proxy, tunnel },
        };
        Ok(Target { peer, address: listen, edge })
    }

    /// The gateway of a way that is ours.
    fn postern(&self, way: Way) -> anyhow::Result<&Postern> {
        let found = self.posterns.iter().find(|(known, _)| *known == way);
        Ok(&found.context("there is no gateway")?.1)
    }

    /// Where the server is at the end of a way, and the process that the way runs in; starts it if it is the first time.
    async fn way(&mut self, programs: &Programs, way: Way) -> anyhow::Result<(SocketAddr, Option<u32>)> {
        let program: &Option<PathBuf> = match way {
            Way::Plain => return Ok((SocketAddr::new(CVM.into(), PORT), None)),
            Way::Postern | Way::Netstack => {
                let postern = self.postern(way)?;
                return Ok((postern.inner, Some(postern.id())));
            }
            Way::WireguardGo => &programs.wireguard_go,
            Way::Boringtun => &programs.boringtun_cli,
        };
        if !self.daemons.iter().any(|(known, _)| *known == way) {
            let program = program.as_ref().context("the program could not be had")?;
            let daemons = Daemons::start(&self.network, way, program, self.folder.path()).await?;
            self.daemons.push((way, daemons));
        }
        let (_, daemons) = self.daemons.iter().find(|(known, _)| *known == way).context("no tunnel")?;
        Ok((SocketAddr::new(IpAddr::V4(daemons.inner), PORT), Some(daemons.id())))
    }
}

/// What the programs say of themselves.
fn versions(programs: &Programs) -> Vec<String> {
    let named = [
        (&programs.haproxy, "-v"),
        (&programs.nginx, "-v"),
        (&programs.wireguard_go, "--version"),
        (&programs.boringtun_cli, "--version"),
    ];
    let said = named.into_iter().filter_map(|(program, argument)| {
        let program = program.as_ref()?;
        let said = version(with_libraries(Command::new(program), programs).arg(argument));
        Some(said.unwrap_or_else(|error| format!("{}: {error:#}", program.display())))
    });
    said.collect()
}

/// The two ends of TLS: the server's certificate is P-256 under a CA of its own, and nobody has tickets.
fn tls(name: &str) -> anyhow::Result<(TlsAcceptor, TlsConnector)> {
    let (authority, provider) = (Authority::new()?, Arc::new(provider()));
    let (chain, key) = authority.leaf(name, ExtendedKeyUsagePurpose::ServerAuth)?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(authority.roots()?)
        .with_no_client_auth();
    client.resumption = Resumption::disabled();
    Ok((TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client))))
}
