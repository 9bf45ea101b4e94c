//! An instance at the gateway's door.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use postern_attest::PeerPolicy;
use postern_attest_io::Connector;
use postern_identity::AppId;
use postern_plumbing::http::{Connection, Request};
use postern_plumbing::tasks::Tasks;
use postern_wireguard::{DEFAULT_MTU, Datapath, Peer, PrivateKey, PublicKey, Tunnel, TunnelConfig};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};

use super::{DOMAIN, GATEWAY_APP, Gateway};
use crate::handshake::guest::{Guest, Platform};

/// The port of the sidecar that is none.
pub(crate) const PORT: u16 = 5433;
const PATIENCE: Duration = Duration::from_secs(60);

/// Who registers.
#[derive(Clone, Copy)]
pub(crate) struct Applicant<'a> {
    /// What it runs on.
    pub(crate) platform: &'a Platform,
    /// What it is an instance of.
    pub(crate) app: AppId,
    /// What it runs.
    pub(crate) compose: &'a [u8],
    /// Each number is an instance.
    pub(crate) number: u16,
    /// Where it comes from, if that matters.
    pub(crate) source: Option<IpAddr>,
}

/// A registered instance, whose tunnel stands.
pub(crate) struct Instance {
    _registration: Connection,
    /// Its end of the tunnel.
    pub(crate) tunnel: Tunnel,
}

impl Instance {
    /// Registers, and starts a tunnel that listens on an address.
    pub(crate) async fn join(
        gateway: &Gateway,
        applicant: Applicant<'_>,
        listen: SocketAddr,
        datapath: Datapath,
    ) -> anyhow::Result<Self> {
        let key = PrivateKey::generate();
        let (registration, answer) = register(gateway, applicant, key.public()).await?;
        let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).context("no such field");
        let address: IpAddr = text("/wg/client_ip")?.parse()?;
        let public_key: PublicKey = text("/wg/servers/0/pk")?.parse()?;
        let inner: IpAddr = text("/wg/servers/0/ip")?.parse()?;
        let config = TunnelConfig { private_key: key, listen, address, mtu: DEFAULT_MTU, in_batches: false };
        let tunnel = Tunnel::start(config, datapath, &Tasks::new()).await?;
        let allowed = vec![inner.into()];
        tunnel.set_peer(Peer { public_key, endpoint: Some(gateway.tunnel), allowed, keepalive: Some(1), mtu: None });
        Ok(Self { _registration: registration, tunnel })
    }
}

/// Registers an instance. It is registered for as long as the connection stands.
pub(crate) async fn register(
    gateway: &Gateway,
    applicant: Applicant<'_>,
    key: PublicKey,
) -> anyhow::Result<(Connection, Value)> {
    let Applicant { platform, app, compose, number, source } = applicant;
    let guest = Guest::run(platform, app, compose, &number.to_string())?;
    let attestor = platform.attestor()?;
    let connector = Connector::new(Some(guest.identity().await?), Arc::clone(&attestor), &["http/1.1"]);
    let stream = connect(source, gateway.registration).await?;
    let expected = PeerPolicy::app(GATEWAY_APP);
    let attested = connector.connect(stream, &format!("gateway.{DOMAIN}"), &expected, PATIENCE).await?;
    let mut connection = Connection::open(attested.stream).await?;
    let body = json!({ "client_public_key": key.to_string(), "postern": { "sidecar_port": PORT } }).to_string();
    let request = Request::post("gateway", "/prpc/RegisterCvm?json", body);
    let answer = connection.send(request, 1 << 16, PATIENCE).await?;
    ensure!(answer.is_success(), "not registered: {}", String::from_utf8_lossy(&answer.body));
    Ok((connection, serde_json::from_slice(&answer.body)?))
}

async fn connect(from: Option<IpAddr>, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}
