//! An instance behind the gateway's door.

use std::net::{IpAddr, Ipv4Addr};

use postern_identity::AppId;
use postern_plumbing::tasks::Task;
use postern_wireguard::{Datapath, TunnelStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::gateway::{Applicant, Gateway, Instance, PORT};
use crate::handshake::guest::{COMPOSE, Platform};

/// A registered instance, whose tunnel leads to somebody who says back what it hears.
pub(super) struct Echo {
    _instance: Instance,
    _serving: Task<()>,
}

impl Echo {
    pub(super) async fn join(gateway: &Gateway, applicant: Applicant<'_>) -> anyhow::Result<Self> {
        let instance = Instance::join(gateway, applicant, (Ipv4Addr::LOCALHOST, 0).into(), Datapath::Netstack).await?;
        let listener = instance.tunnel.listen(PORT)?;
        let serving = Task::spawn("echo", async move {
            loop {
                let (stream, _) = listener.accept().await;
                // Whoever breaks off is seen by the client.
                Task::spawn("echo session", async move { drop(echo(stream).await) }).detach();
            }
        });
        Ok(Self { _instance: instance, _serving: serving })
    }
}

/// An instance of an app, which comes from an address of its own.
pub(super) fn applicant(platform: &Platform, app: AppId, number: u16) -> Applicant<'_> {
    let [high, low] = number.to_be_bytes();
    let source = Some(IpAddr::from([127, 7, high, low]));
    Applicant { platform, app, compose: COMPOSE, number, source }
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
