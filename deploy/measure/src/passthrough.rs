//! The gateway's way of a connection without its tunnel: the same accepting, opening, PROXY header and relay, but a plain TCP
//! connection behind it, to one place, and nobody who has to be admitted. It is there to be measured and for nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use postern_gateway_core::opening::{Opening, Step};
use postern_plumbing::accept;
use postern_plumbing::relay::{Progress, relay};
use postern_plumbing::tasks::Tasks;
use ppp::v2::{Builder, Command, Protocol, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How long an opening may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest ClientHello, in bytes.
const LONGEST_HELLO: usize = 16 * 1024;
/// How much is read of a client at a time until its opening is complete.
const READ: usize = 4 * 1024;

/// Where it listens, and where it leads.
#[derive(Clone, clap::Args)]
pub(crate) struct Road {
    /// Where clients connect
    #[arg(long)]
    listen: SocketAddr,

    /// The only name that leads anywhere
    #[arg(long)]
    name: String,

    /// Where it leads
    #[arg(long)]
    to: SocketAddr,
}

/// Serves until the process is ended.
pub(crate) fn run(road: &Road) -> anyhow::Result<Infallible> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = TcpListener::bind(road.listen).await?;
        let tasks = Tasks::new();
        loop {
            let (stream, client) = accept::accept(&listener).await?;
            let road = road.clone();
            tasks.spawn("client connection", async move {
                // Who breaks off is seen by the client.
                drop(carry(&road, stream, client).await);
            });
        }
    })
}

async fn carry(road: &Road, mut stream: TcpStream, client: SocketAddr) -> anyhow::Result<()> {
    let mut opening = Opening::new(LONGEST_HELLO);
    let name = timeout(PATIENCE, open(&mut stream, &mut opening)).await.context("no hello in time")??;
    ensure!(name == road.name, "no route");
    let mut upstream = timeout(PATIENCE, TcpStream::connect(road.to)).await.context("no server in time")??;
    accept::tune(&upstream);
    let addresses = (client, stream.local_addr()?);
    let mut first = Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses).build()?;
    first.extend_from_slice(&opening.into_received());
    upstream.write_all(&first).await?;
    relay(&mut stream, &mut upstream, &Progress::default()).await;
    Ok(())
}

/// Reads until the name is known that the client asks for.
async fn open(stream: &mut TcpStream, opening: &mut Opening) -> anyhow::Result<String> {
    let mut buffer = vec![0; READ];
    loop {
        let count = stream.read(&mut buffer).await?;
        ensure!(count > 0, "the client is gone");
        let step = opening.feed(buffer.get(..count).unwrap_or_default());
        if let Step::Hello(hello) = step {
            return Ok(hello.server_name.as_str().to_owned());
        }
        if let Step::Reply(byte) = step {
            stream.write_all(&[byte]).await?;
        } else {
            ensure!(step == Step::NeedMore, "not served");
        }
    }
}
