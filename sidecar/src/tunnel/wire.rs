//! The tunnel to one gateway, as its registration describes it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use postern_pgwire::cancel::Slot;
use postern_plumbing::tasks::{Task, Tasks};
use postern_wireguard::{
    Datapath, KeyError, ListenError, Peer, PrivateKey, PublicKey, Tunnel, TunnelConfig, TunnelError,
};
use thiserror::Error;

use super::message::Response;
use crate::serve::accept;
use crate::serve::server::Server;

/// Seconds between keepalives, as dstack's guests send them: our side is the one behind an address translator.
const KEEPALIVE: u16 = 25;

/// Our end of the tunnels.
#[derive(Clone, Debug)]
pub struct WireGuard {
    /// Our key.
    pub key: PrivateKey,
    /// The UDP address to send from; with several gateways its port must be 0.
    pub listen: SocketAddr,
    /// Bytes in an inner packet.
    pub mtu: u16,
    /// The port inside the tunnel on which sessions arrive.
    pub port: u16,
    /// How packets become connections.
    pub datapath: Datapath,
}

/// Why the tunnel could not be set up.
#[derive(Debug, Error)]
pub enum WireError {
    /// A key in the response is no WireGuard key.
    #[error("the gateway's key: {0}")]
    Key(#[from] KeyError),
    /// The slot in the response is above [`Slot::MAX`].
    #[error("the gateway assigned the impossible cancel slot {0}")]
    Slot(u32),
    /// The tunnel could not be started.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// Nothing can listen inside it.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A tunnel that is up, with a listener inside it.
#[derive(Debug)]
pub struct Wire {
    tunnel: Tunnel,
    slot: Slot,
    peers: BTreeSet<PublicKey>,
    _listening: Task<Infallible>,
}

/// Where the tunnel's connections go.
#[derive(Clone, Debug)]
pub struct Sink {
    /// What serves them.
    pub server: Arc<Server>,
    /// The sessions.
    pub sessions: Tasks,
    /// The tunnel's own work.
    pub maintenance: Tasks,
}

impl Wire {
    /// Starts the tunnel that a registration describes.
    ///
    /// # Errors
    /// See [`WireError`].
    pub async fn start(config: &WireGuard, response: &Response, sink: &Sink) -> Result<Self, WireError> {
        let slot = slot(response)?;
        let tunnel = TunnelConfig {
            private_key: config.key.clone(),
            listen: config.listen,
            address: response.wg.client_ip,
            mtu: config.mtu,
            // Postgres is beside it, and a query may keep every processor busy.
            in_batches: false,
        };
        let tunnel = Tunnel::start(tunnel, config.datapath, &sink.maintenance).await?;
        let listener = tunnel.listen(config.port)?;
        let Sink { server, sessions, .. } = sink.clone();
        let listening = Task::spawn("tunnel listener", accept::tunnel(server, listener, slot, sessions));
        let mut wire = Self { tunnel, slot, peers: BTreeSet::new(), _listening: listening };
        wire.set_peers(response)?;
        Ok(wire)
    }

    /// Whether this tunnel is the one that a registration describes.
    #[must_use]
    pub fn fits(&self, response: &Response) -> bool {
        self.tunnel.address() == response.wg.client_ip && slot(response).ok() == Some(self.slot)
    }

    /// Makes the gateways of a registration the tunnel's only peers, and says hello: a gateway that has restarted does not
    /// know the session that we believe to have with it.
    ///
    /// # Errors
    /// When a key is none.
    pub fn set_peers(&mut self, response: &Response) -> Result<(), WireError> {
        let mut peers = BTreeSet::new();
        for server in &response.wg.servers {
            let public_key: PublicKey = server.pk.parse()?;
            self.tunnel.set_peer(Peer {
                public_key,
                endpoint: Some(server.endpoint),
                allowed: vec![single(server.ip)],
                keepalive: Some(KEEPALIVE),
                mtu: None,
            });
            peers.insert(public_key);
        }
        for gone in self.peers.difference(&peers) {
            self.tunnel.remove_peer(gone);
        }
        self.peers = peers;
        Ok(())
    }

    /// Starts fresh sessions with all peers.
    pub fn greet(&self) {
        for peer in &self.peers {
            self.tunnel.handshake(peer);
        }
    }

    /// Ends the tunnel and every connection in it.
    pub fn stop(self) {
        self.tunnel.stop();
    }
}

fn slot(response: &Response) -> Result<Slot, WireError> {
    let number = response.postern.cancel_slot;
    Slot::new(number).ok_or(WireError::Slot(number))
}

fn single(address: IpAddr) -> IpNet {
    IpNet::from(address)
}
