//! Ends of tunnels on the loopback, for tests.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use postern_plumbing::tasks::{Task, Tasks};
use postern_wireguard::{
    DEFAULT_MTU, Datapath, Peer, PrivateKey, TcpSettings, Tunnel, TunnelConfig, TunnelListener, TunnelStream,
};
use tokio::io::AsyncWriteExt as _;

/// Long enough for anything on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The port that servers in tests listen on.
pub(crate) const PORT: u16 = 5433;

/// An end under construction.
pub(crate) struct End {
    pub(crate) key: PrivateKey,
    pub(crate) listen: SocketAddr,
    pub(crate) address: IpAddr,
    pub(crate) mtu: u16,
    pub(crate) tcp: TcpSettings,
}

impl End {
    /// The end with the inner address 10.7.0.`host`.
    pub(crate) fn new(host: u8) -> Self {
        Self {
            key: PrivateKey::generate(),
            listen: "127.0.0.1:0".parse().unwrap(),
            address: IpAddr::from([10, 7, 0, host]),
            mtu: DEFAULT_MTU,
            tcp: TcpSettings::default(),
        }
    }

    pub(crate) async fn start(&self) -> Tunnel {
        let config = TunnelConfig {
            private_key: self.key.clone(),
            listen: self.listen,
            address: self.address,
            mtu: self.mtu,
            in_batches: false,
        };
        Tunnel::start_with(config, Datapath::Netstack, self.tcp, &Tasks::new()).await.unwrap()
    }
}

/// What `tunnel` is to others: its address only, at `endpoint`.
pub(crate) fn peer(tunnel: &Tunnel, endpoint: Option<SocketAddr>) -> Peer {
    let allowed = vec![tunnel.address().into()];
    Peer { public_key: tunnel.public_key(), endpoint, allowed, keepalive: None, mtu: None }
}

/// Makes two ends know each other; only the first knows where the other is.
pub(crate) fn introduce(client: &Tunnel, server: &Tunnel) {
    client.set_peer(peer(server, Some(server.local_addr())));
    server.set_peer(peer(client, None));
}

/// Two ends that know each other.
pub(crate) async fn pair() -> (Tunnel, Tunnel) {
    let (client, server) = (End::new(1).start().await, End::new(2).start().await);
    introduce(&client, &server);
    (client, server)
}

/// Where [`PORT`] of an end is.
pub(crate) fn at(server: &Tunnel) -> SocketAddr {
    SocketAddr::new(server.address(), PORT)
}

/// A connection and the other end of it.
pub(crate) async fn connection(
    client: &Tunnel,
    server: &Tunnel,
    listener: &TunnelListener,
) -> (TunnelStream, TunnelStream) {
    let (near, far) = tokio::join!(client.connect(at(server), LONG), listener.accept());
    let (near, (far, from)) = (near.unwrap(), far);
    assert_eq!(from, near.local_addr());
    assert_eq!((far.peer_key(), near.peer_key()), (client.public_key(), server.public_key()));
    (near, far)
}

/// Answers every connection to [`PORT`] with what it sends, as long as the handle lives.
pub(crate) fn echo(server: &Tunnel) -> Task<()> {
    let listener = server.listen(PORT).unwrap();
    Task::spawn("echo", async move {
        let connections = Tasks::new();
        loop {
            let (stream, _) = listener.accept().await;
            connections.spawn("echo-one", async move {
                let (mut read, mut write) = tokio::io::split(stream);
                if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                    // The client may be gone by now.
                    drop(write.shutdown().await);
                }
            });
        }
    })
}
