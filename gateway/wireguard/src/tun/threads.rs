//! The threads of a tunnel: two for each queue, one for each direction. Each waits for one descriptor and reads it itself.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use futures_util::future::join_all;
use postern_packets::join::Joiner;
use postern_plumbing::tasks::Tasks;
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use super::{Tun, inbound};
use crate::error::TunnelError;
use crate::key::PrivateKey;
use crate::link::{Link, Udp};

/// The most queues, whatever the number of processors: beyond that, threads wait for each other's sessions.
const MOST_QUEUES: usize = 8;

/// How many queues there are: one for each processor that this process may use.
pub(super) fn queues() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_QUEUES)
}

/// Binds the sockets, makes a tunnel of them with `finish`, and starts to move packets. A task of `tasks` lives as long as
/// the threads do.
pub(super) async fn start(
    private: PrivateKey,
    listen: SocketAddr,
    mtu: u16,
    tasks: &Tasks,
    finish: impl FnOnce(Link, UnixStream) -> Tun,
) -> Result<Arc<Tun>, TunnelError> {
    let (stop, stopped) = UnixStream::pair().map_err(TunnelError::Thread)?;
    let failed = |source| TunnelError::Listen { address: listen, source };
    let sockets = Link::bind_patiently(listen, queues()).await.map_err(failed)?;
    let (mut runtimes, mut udps) = (Vec::new(), Vec::new());
    for socket in sockets {
        let runtime = Private::new()?;
        udps.push(runtime.inside(|| Udp::new(socket)).map_err(failed)?);
        runtimes.push(runtime);
    }
    let mut udps = udps.into_iter();
    let first = udps.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let tun = Arc::new(finish(Link::new(private, first, udps.collect()), stop));
    let threads: Result<Vec<_>, TunnelError> = runtimes
        .into_iter()
        .enumerate()
        .map(|(number, runtime)| Ok([receiving(&tun, number, runtime)?, sending(&tun, number, &stopped, mtu)?]))
        .collect();
    let threads = threads.inspect_err(|_| tun.stop())?;
    tasks.spawn("tunnel-threads", async move {
        // A thread that is gone has nothing to say.
        let _ended = join_all(threads.into_iter().flatten()).await;
    });
    Ok(tun)
}

/// The runtime of one thread. Unlike any other it may be dropped wherever one is.
pub(super) struct Private(Option<Runtime>);

impl Private {
    fn new() -> Result<Self, TunnelError> {
        let built = runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self(Some(built.map_err(TunnelError::Thread)?)))
    }

    /// Makes something that belongs to the runtime.
    fn inside<T>(&self, make: impl FnOnce() -> T) -> T {
        let _inside = self.0.as_ref().map(Runtime::enter);
        make()
    }

    pub(super) fn run(&self, work: impl Future<Output = ()>) {
        if let Some(runtime) = &self.0 {
            runtime.block_on(work);
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn receiving(tun: &Arc<Tun>, number: usize, runtime: Private) -> Result<oneshot::Receiver<()>, TunnelError> {
    let tun = Arc::clone(tun);
    thread(format!("tunnel-in-{number}"), move || runtime.run(receive(&tun, number)))
}

fn sending(
    tun: &Arc<Tun>,
    number: usize,
    stopped: &UnixStream,
    mtu: u16,
) -> Result<oneshot::Receiver<()>, TunnelError> {
    let (tun, stopped) = (Arc::clone(tun), stopped.try_clone().map_err(TunnelError::Thread)?);
    let runtime = Private::new()?;
    thread(format!("tunnel-out-{number}"), move || tun.keep_sending(number, &stopped, mtu, &runtime))
}

async fn receive(tun: &Tun, number: usize) {
    let mut joiner = Joiner::default();
    let (udp, queue) = (tun.link.udp(number), tun.device.queue(number));
    let tick = async {
        // One drives the timers for all.
        if number == 0 { tun.link.keep_ticking().await } else { std::future::pending().await }
    };
    tokio::select! {
        never = tun.link.keep_receiving(udp, |packets, _| inbound::deliver(&mut joiner, tun, queue, packets)) => match never {},
        never = tun.link.keep_draining(udp) => match never {},
        never = tick => match never {},
        () = tun.shutdown.triggered() => {}
    }
}

/// Runs a thread. What it returns ends when the thread does.
fn thread(name: String, work: impl FnOnce() + Send + 'static) -> Result<oneshot::Receiver<()>, TunnelError> {
    let (end, ended) = oneshot::channel();
    let run = move || {
        let _end: oneshot::Sender<()> = end;
        work();
    };
    std::thread::Builder::new().name(name).spawn(run).map_err(TunnelError::Thread)?;
    Ok(ended)
}
