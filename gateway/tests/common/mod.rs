//! A gateway in this process: real doors and a real tunnel, with a chain that says what the test wants.

#![expect(dead_code, reason = "every test program uses a part of it")]

pub(crate) mod chain;
pub(crate) mod cvm;
pub(crate) mod hello;
pub(crate) mod instance;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gateway::audit::Audit;
use gateway::chain::{self as gateway_chain, Chain};
use gateway::edge::{Edge, Limits, Settings};
use gateway::listen;
use gateway::members::Members;
use gateway::sessions::Sessions;
use gateway::shards::{Post, Shared};
use postern_gateway_core::packets::PacketSizes;
use postern_gateway_core::pool::AddressPool;
use postern_gateway_core::registration::Register;
use postern_gateway_core::route::Domain;
use postern_plumbing::accept;
use postern_plumbing::clock::unix_now;
use postern_plumbing::shutdown::Shutdown;
use postern_plumbing::tasks::{Task, Tasks, maintenance};
use postern_wireguard::{DEFAULT_MTU, Datapath, PrivateKey, Tunnel, TunnelConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use self::chain::TestChain;
use self::instance::Instance;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct House {
    pub(crate) edge: Arc<Edge>,
    pub(crate) chain: Arc<TestChain>,
    pub(crate) clients: SocketAddr,
    /// One task per client connection.
    pub(crate) connections: Tasks,
    pub(crate) shutdown: Shutdown,
    _changes: Task<std::convert::Infallible>,
}

pub(crate) fn limits() -> Limits {
    Limits {
        opening: Duration::from_millis(600),
        connect: Duration::from_secs(5),
        cancel: Duration::from_secs(5),
        connections: 1_000,
        connections_per_app: 100,
        openings_per_network: 10_000,
        hello: 16 * 1024,
    }
}

impl House {
    pub(crate) async fn open(limits: Limits) -> Self {
        let chain = Arc::new(TestChain::default());
        let house = Self::on(limits, Arc::clone(&chain), Arc::clone(&chain) as Arc<dyn Chain>, Audit::log_only()).await;
        chain.listened_to().await;
        house
    }

    /// The same on another chain, with an audit trail.
    pub(crate) async fn on(limits: Limits, chain: Arc<TestChain>, followed: Arc<dyn Chain>, audit: Audit) -> Self {
        let tunnel = start_tunnel("10.74.0.1").await;
        let pool = AddressPool::new("10.74.0.0/16".parse().unwrap(), "10.74.0.1".parse().unwrap()).unwrap();
        let register = Register::new(pool, *tunnel.public_key().as_bytes(), PacketSizes::new(DEFAULT_MTU, []), 60);
        let sessions = Sessions::new(limits.connections_per_app);
        let members = Members::new(register, tunnel.clone(), sessions.clone());
        let domain = Domain::new(vec!["postern.test".parse().unwrap()]);
        // In 127.0.0.0/8, so that a test can come from elsewhere.
        let proxies = vec!["127.7.0.0/16".parse().unwrap()];
        let settings = Settings { domain, proxies, limits };
        let edge = Edge::new(settings, members.clone(), sessions, tunnel, Arc::clone(&followed), audit.clone());
        let edge = Arc::new(edge);
        let listener = TcpListener::from_std(accept::listen("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        let clients = listener.local_addr().unwrap();
        let (connections, shutdown) = (Tasks::new(), Shutdown::new());
        let shared = Shared { edge: Arc::clone(&edge), connections: connections.clone(), shutdown: shutdown.clone() };
        let serving = listen::serve(listener, Post::alone(), shared);
        Task::spawn("clients", async move { serving.await.unwrap() }).detach();
        let changes = maintenance("changes", move || {
            gateway_chain::follow(Arc::clone(&followed), members.clone(), audit.clone(), Arc::new(unix_now))
        });
        Self { edge, chain, clients, connections, shutdown, _changes: changes }
    }

    /// An instance of an app that is allowed and registered.
    pub(crate) async fn instance(&self, number: u8, app: u8) -> Instance {
        Instance::join(self, number, app).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.clients).await.unwrap()
    }

    /// Connects from an address of this machine: all of 127.0.0.0/8 are.
    pub(crate) async fn connect_from(&self, source: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        socket.connect(self.clients).await.unwrap()
    }

    /// Opens a session to an app and waits until the sidecar has answered.
    pub(crate) async fn session(&self, app: u8) -> TcpStream {
        session_at(self.clients, &hello::app_name(app)).await
    }

    /// Everything the gateway says to a client that sends these bytes and then waits.
    pub(crate) async fn answer_to(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }

    /// Waits until no client connection is left.
    pub(crate) async fn settle(&self) {
        let settled = async {
            while self.connections.count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let count = || format!("{} connections are left", self.connections.count());
        timeout(PATIENCE, settled).await.unwrap_or_else(|_| panic!("{}", count()));
        assert_eq!(self.edge.sessions.count(), 0);
        assert_eq!(self.edge.places.available_permits(), self.edge.limits.connections);
    }
}

/// Opens a session to an app at a gateway's door and waits until the sidecar has answered.
pub(crate) async fn session_at(door: SocketAddr, name: &str) -> TcpStream {
    let mut stream = TcpStream::connect(door).await.unwrap();
    let hello = hello::hello(name);
    stream.write_all(&hello).await.unwrap();
    let mut echo = vec![0; hello.len()];
    timeout(PATIENCE, stream.read_exact(&mut echo)).await.unwrap().unwrap();
    assert_eq!(echo, hello);
    stream
}

/// Reads until the end of the stream, be it in order or broken.
pub(crate) async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match timeout(PATIENCE, stream.read(&mut buffer)).await.expect("the gateway keeps silent") {
            Ok(0) | Err(_) => return read,
            Ok(count) => read.extend_from_slice(&buffer[..count]),
        }
    }
}

pub(crate) async fn start_tunnel(address: &str) -> Tunnel {
    start_tunnel_with(PrivateKey::generate(), address.parse().unwrap()).await
}

pub(crate) async fn start_tunnel_with(private_key: PrivateKey, address: IpAddr) -> Tunnel {
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = TunnelConfig { private_key, listen, address, mtu: DEFAULT_MTU, in_batches: true };
    Tunnel::start(config, Datapath::Netstack, &Tasks::new()).await.unwrap()
}

/// The fields of an ErrorResponse, as text.
pub(crate) fn error_response(wire: &[u8]) -> String {
    assert_eq!(wire[0], b'E', "{wire:?}");
    assert_eq!(usize::try_from(u32::from_be_bytes(wire[1..5].try_into().unwrap())).unwrap(), wire.len() - 1);
    String::from_utf8_lossy(&wire[5..]).replace('\0', " ")
}

/// A fatal alert.
pub(crate) fn alert(description: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, description]
}
