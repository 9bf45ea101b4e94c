//! An instance at the gateway's door.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use postern_attest::PeerPolicy;
use postern_attest_io::Connector;
use postern_identity::AppId;
use postern_plumbing::http::{Connection, Request};
use postern_plumbing::tasks::{Task, Tasks};
use postern_wireguard::{DEFAULT_MTU, Datapath, Peer, PrivateKey, PublicKey, Tunnel, TunnelConfig, TunnelStream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::edge::{DOMAIN, Edge, GATEWAY_APP};
use crate::handshake::guest::{Guest, Platform};

/// The port of the sidecar that is none.
const PORT: u16 = 5433;
const PATIENCE: Duration = Duration::from_secs(60);

/// A registered instance, whose tunnel leads to somebody who says back what it hears.
pub(super) struct Instance {
    _registration: Connection,
    _tunnel: Tunnel,
    _serving: Task<()>,
}

impl Instance {
    pub(super) async fn join(platform: &Platform, edge: &Edge, app: AppId, compose: &[u8]) -> anyhow::Result<Self> {
        let key = PrivateKey::generate();
        let (registration, answer) = register(platform, edge, app, compose, 1, key.public()).await?;
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).context("no such field");
        let address: IpAddr = text("/wg/client_ip")?.parse()?;
        let gateway: PublicKey = text("/wg/servers/0/pk")?.parse()?;
        let inner: IpAddr = text("/wg/servers/0/ip")?.parse()?;
        let config = TunnelConfig { private_key: key, listen: "127.0.0.1:0".parse()?, address, mtu: DEFAULT_MTU };
        let tunnel = Tunnel::start(config, Datapath::Netstack, &Tasks::new()).await?;
        let allowed = vec![inner.into()];
        tunnel.set_peer(Peer { public_key: gateway, endpoint: Some(edge.tunnel), allowed, keepalive: Some(1) });
        let listener = tunnel.listen(PORT)?;
        let serving = Task::spawn("echo", async move {
            loop {
                let (stream, _) = listener.accept().await;
                // Whoever breaks off is seen by the client.
                Task::spawn("echo session", async move { drop(echo(stream).await) }).detach();
            }
        });
        Ok(Self { _registration: registration, _tunnel: tunnel, _serving: serving })
    }
}

/// Registers an instance of an app. Each number is an instance, and comes from an address of its own.
pub(super) async fn register(
    platform: &Platform,
    edge: &Edge,
    app: AppId,
    compose: &[u8],
    number: u16,
    key: PublicKey,
) -> anyhow::Result<(Connection, Value)> {
    let guest = Guest::run(platform, app, compose, &number.to_string())?;
    let attestor = platform.attestor()?;
    let connector = Connector::new(Some(guest.identity().await?), Arc::clone(&attestor), &["http/1.1"]);
    let socket = TcpSocket::new_v4()?;
    let [high, low] = number.to_be_bytes();
    socket.bind(SocketAddr::from(([127, 7, high, low], 0)))?;
    let stream = socket.connect(edge.registration).await?;
    let expected = PeerPolicy::app(GATEWAY_APP);
    let attested = connector.connect(stream, &format!("gateway.{DOMAIN}"), &expected, PATIENCE).await?;
    let mut connection = Connection::open(attested.stream).await?;
    let body = json!({ "client_public_key": key.to_string(), "postern": { "sidecar_port": PORT } }).to_string();
    let request = Request::post("gateway", "/prpc/RegisterCvm?json", body);
    let answer = connection.send(request, 1 << 16, PATIENCE).await?;
    ensure!(answer.is_success(), "not registered: {}", String::from_utf8_lossy(&answer.body));
    Ok((connection, serde_json::from_slice(&answer.body)?))
}

/// Reads the PROXY header (version 2: 16 bytes, of which the last two are the length of the rest) and says back what follows.
async fn echo(mut stream: TunnelStream) -> std::io::Result<()> {
    let mut header = [0; 16];
    stream.read_exact(&mut header).await?;
    let [.., high, low] = header;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([high, low]))];
    stream.read_exact(&mut rest).await?;
    let mut buffer = vec![0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            count => stream.write_all(buffer.get(..count).unwrap_or_default()).await?,
        }
    }
}
