//! The gateway's way of a connection without its tunnel: the same listeners, opening, PROXY header and relay, but a plain TCP
//! connection behind it, to one place, and nobody who has to be admitted. It is there to be measured and for nothing else.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use postern_gateway_core::opening::{Opening, Step};
use postern_plumbing::relay::{Pipes, Progress, relay_sockets};
use postern_plumbing::tasks::Tasks;
use postern_plumbing::{accept, dial};
use ppp::v2::{Builder, Command, Protocol as Carried, Version};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::time::timeout;

/// How long an opening may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest ClientHello, in bytes.
const LONGEST_HELLO: usize = 16 * 1024;
/// How much is read of a client at a time until its opening is complete.
const READ: usize = 4 * 1024;
/// How many pipes there may be, for both directions of every connection that moves bytes.
const PIPES: usize = 1_000;

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

/// Serves until the process is ended, with a thread for each processor.
pub(crate) fn run(road: &Road) -> anyhow::Result<Infallible> {
    let pipes = Pipes::new(PIPES);
    for _ in 1..std::thread::available_parallelism()?.get() {
        let (road, pipes, listener) = (road.clone(), pipes.clone(), accept::listen(road.listen)?);
        // Whoever connects notices if it ends.
        std::thread::spawn(move || drop(serve(&road, listener, &pipes)));
    }
    serve(road, accept::listen(road.listen)?, &pipes)
}

fn serve(road: &Road, listener: std::net::TcpListener, pipes: &Pipes) -> anyhow::Result<Infallible> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let tasks = Tasks::new();
        loop {
            let (stream, client) = accept::next(&listener).await?;
            let (road, pipes) = (road.clone(), pipes.clone());
            tasks.spawn("client connection", async move {
                // Who breaks off is seen by the client.
                drop(carry(&road, stream, client, &pipes).await);
            });
        }
    })
}

async fn carry(road: &Road, mut stream: TcpStream, client: SocketAddr, pipes: &Pipes) -> anyhow::Result<()> {
    let mut upstream = Box::pin(begin(road, &mut stream, client)).await?;
    relay_sockets(&mut stream, &mut upstream, &Progress::default(), pipes).await;
    Ok(())
}

/// Everything up to the first byte that is relayed.
async fn begin(road: &Road, stream: &mut TcpStream, client: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut opening = Opening::new(LONGEST_HELLO);
    let name = timeout(PATIENCE, open(stream, &mut opening)).await.context("no hello in time")??;
    ensure!(name == road.name, "no route");
    let mut upstream = timeout(PATIENCE, connect(road.to)).await.context("no server in time")??;
    let addresses = (client, road.listen);
    let mut header = Builder::with_addresses(Version::Two | Command::Proxy, Carried::Stream, addresses).build()?;
    header.extend_from_slice(&opening.into_received());
    upstream.write_all(&header).await?;
    Ok(upstream)
}

/// Connects as the gateway does through its tunnel, but for the interface that it is bound to.
async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    accept::tune(&socket);
    dial::connecting(socket)?.connect(to).await
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
