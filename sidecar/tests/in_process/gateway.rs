//! A gateway that is played: registration by mutual RA-TLS, and its end of the tunnel.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern_attest::PeerPolicy;
use postern_attest_io::{Acceptor, ClientRule, Connector, IdentityKeeper};
use postern_identity::AppId;
use postern_plumbing::Io;
use postern_plumbing::tasks::{Task, Tasks};
use postern_simulator::Cvm;
use postern_wireguard::{ConnectError, Datapath, Peer, PrivateKey, Tunnel, TunnelConfig, TunnelStream};
use ppp::v2::{Builder, Command, Protocol, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsStream;

use crate::world::{SERVER_APP, agent, attestor, identity, tee};

pub(crate) const GATEWAY_APP: AppId = AppId([0x6a; 20]);
/// The slot that it assigns.
pub(crate) const SLOT: u32 = 4_242;
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
const DEADLINE: Duration = Duration::from_secs(20);

/// The gateway. It ends when it is dropped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    tunnel: Tunnel,
    /// How many registrations there were.
    pub(crate) registrations: watch::Receiver<usize>,
    sidecar: IpAddr,
    state: Arc<State>,
    _accepting: Task<()>,
    _agent: Option<Task<()>>,
}

struct State {
    acceptor: Acceptor,
    tunnel: Tunnel,
    sidecar: IpAddr,
    registrations: watch::Sender<usize>,
    requests: Mutex<Vec<serde_json::Value>>,
    /// How many requests more are refused, as if the chain did not allow the sidecar.
    refusing: AtomicUsize,
    /// The registration connections; dropping the sender closes them.
    held: watch::Sender<()>,
}

impl Gateway {
    /// A gateway that gives the sidecar this address inside its tunnel.
    pub(crate) async fn start(folder: &Path, listen: SocketAddr, sidecar: IpAddr) -> Self {
        let name = format!("gateway-{}.sock", rand::random::<u32>());
        let cvm = Cvm::new(tee(), GATEWAY_APP, b"{\"gateway\":true}".to_vec(), "gateway");
        let (socket, task) = agent(folder, &name, cvm);
        let mut gateway = Self::with_identity(identity(&socket).await, listen, sidecar).await;
        gateway._agent = Some(task);
        gateway
    }

    async fn with_identity(keeper: Arc<IdentityKeeper>, listen: SocketAddr, sidecar: IpAddr) -> Self {
        let config = TunnelConfig {
            private_key: PrivateKey::generate(),
            listen: "127.0.0.1:0".parse().unwrap(),
            address: INSIDE,
            mtu: 1_420,
            in_batches: false,
        };
        let tunnel = Tunnel::start(config, Datapath::Netstack, &Tasks::new()).await.unwrap();
        let (registrations, counted) = watch::channel(0);
        let state = Arc::new(State {
            acceptor: Acceptor::new(keeper, attestor(), &[], ClientRule::Required),
            tunnel: tunnel.clone(),
            sidecar,
            registrations,
            requests: Mutex::default(),
            refusing: AtomicUsize::new(0),
            held: watch::Sender::new(()),
        });
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepting, connections) = (Arc::clone(&state), Tasks::new());
        let accepting = Task::spawn("played gateway", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&accepting);
                connections.spawn("registration", async move { state.connection(stream).await });
            }
        });
        Self { address, tunnel, registrations: counted, sidecar, state, _accepting: accepting, _agent: None }
    }

    /// Waits until there were this many registrations.
    pub(crate) async fn registered(&mut self, times: usize) {
        let registered = self.registrations.wait_for(|count| *count >= times);
        tokio::time::timeout(DEADLINE, registered).await.expect("no registration").unwrap();
    }

    /// Refuses the next requests, so many.
    pub(crate) fn refuse(&self, count: usize) {
        self.state.refusing.store(count, Ordering::Relaxed);
    }

    /// Closes every registration connection.
    pub(crate) fn hang_up(&self) {
        self.state.held.send_replace(());
    }

    /// What was asked for.
    pub(crate) fn requests(&self) -> Vec<serde_json::Value> {
        self.state.requests.lock().unwrap().clone()
    }

    /// A connection to the sidecar through the tunnel, without an introduction.
    pub(crate) async fn connect(&self) -> TunnelStream {
        loop {
            match self.tunnel.connect((self.sidecar, 5433).into(), DEADLINE).await {
                Ok(stream) => return stream,
                // The sidecar has registered, and its first word through the tunnel is on its way.
                Err(ConnectError::NoEndpoint) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A connection to the sidecar through the tunnel, introduced as coming from `client`.
    pub(crate) async fn introduced(&self, client: &str) -> TunnelStream {
        let mut stream = self.connect().await;
        let addresses: (SocketAddr, SocketAddr) = (client.parse().unwrap(), "198.51.100.1:5432".parse().unwrap());
        let header = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses)
            .write_tlv(0xe0_u8, b"00ab")
            .and_then(|header| header.write_tlv(0xe1_u8, &[1]))
            .and_then(Builder::build)
            .unwrap();
        stream.write_all(&header).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }

    /// TLS from a client through the tunnel.
    pub(crate) async fn client(&self, identity: Arc<IdentityKeeper>) -> TlsStream<TunnelStream> {
        self.client_from("192.0.2.7:4711", identity).await
    }

    /// The same for a client with this address.
    pub(crate) async fn client_from(&self, client: &str, identity: Arc<IdentityKeeper>) -> TlsStream<TunnelStream> {
        let stream = self.introduced(client).await;
        let connector = Connector::new(Some(identity), attestor(), &[]);
        let expected = PeerPolicy::app(SERVER_APP);
        connector.connect(stream, "db.example", &expected, DEADLINE).await.unwrap().stream
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.hang_up();
        self.tunnel.stop();
    }
}

impl State {
    async fn connection<S: Io>(&self, stream: S) {
        let Ok(accepted) = self.acceptor.accept(stream, DEADLINE).await else { return };
        let Ok(Some(peer)) = accepted.verdict else { return };
        assert_eq!(peer.identity.app_id, SERVER_APP);
        let mut stream = accepted.stream;
        let mut hang_up = self.held.subscribe();
        loop {
            let request = tokio::select! {
                request = read_request(&mut stream) => request,
                _ = hang_up.changed() => return,
            };
            let Some(request) = request else { return };
            let refusing = self.refusing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            let (status, response) = match refusing {
                Ok(_) => ("403 Forbidden", serde_json::json!({"error": "the compose hash is not allowed on chain"})),
                Err(_) => ("200 OK", self.register(request)),
            };
            let response = response.to_string();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", response.len());
            stream.write_all((head + &response).as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            if refusing.is_ok() {
                continue;
            }
            self.registrations.send_modify(|count| *count += 1);
        }
    }

    fn register(&self, request: serde_json::Value) -> serde_json::Value {
        let key = request["client_public_key"].as_str().unwrap().parse().unwrap();
        self.requests.lock().unwrap().push(request);
        self.tunnel.set_peer(Peer {
            public_key: key,
            endpoint: None,
            allowed: vec![self.sidecar.into()],
            keepalive: None,
            mtu: None,
        });
        serde_json::json!({
            "wg": {
                "client_ip": self.sidecar,
                "servers": [{
                    "pk": self.tunnel.public_key().to_string(),
                    "ip": INSIDE,
                    "endpoint": self.tunnel.local_addr(),
                }],
            },
            "agent": {"external_port": 5432, "internal_port": 8090, "domain": "postern.test"},
            "gateways": [],
            "postern": {"cancel_slot": SLOT, "refresh_seconds": 60, "gateway_app_id": GATEWAY_APP.to_string()},
        })
    }
}

/// The JSON of one request; `None` at the end of the connection.
async fn read_request<S: Io>(stream: &mut S) -> Option<serde_json::Value> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    assert!(head.starts_with("post /prpc/registercvm?json http/1.1\r\n"), "{head}");
    let length = head.split_once("content-length: ")?.1.split_once("\r\n")?.0.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    serde_json::from_slice(&body).ok()
}
