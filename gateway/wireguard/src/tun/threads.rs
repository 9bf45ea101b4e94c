//! The threads of a tunnel: one for each queue of the interface and the socket of the same number.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use futures_util::future::join_all;
use postern_plumbing::schedule;
use postern_plumbing::tasks::Tasks;
use tokio::sync::oneshot;

use super::Tun;
use super::worker::Worker;
use crate::error::TunnelError;
use crate::key::PrivateKey;
use crate::link::{Link, Udp};

/// The most queues, whatever the number of processors. Each costs a thread and some buffers of 64 KiB.
const MOST_QUEUES: usize = 8;

/// How the threads work.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// The largest inner packet, in bytes.
    pub(super) mtu: u16,
    /// Whether they wait for a processor when they are woken.
    pub(super) in_batches: bool,
}

/// How many queues there are: one for each processor that this process may use.
pub(super) fn queues() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_QUEUES)
}

/// Binds the sockets, makes a tunnel of them with `finish`, and starts to move packets. A task of `tasks` lives as long as
/// the threads do.
pub(super) async fn start(
    private: PrivateKey,
    listen: SocketAddr,
    manner: Manner,
    tasks: &Tasks,
    finish: impl FnOnce(Link, UnixStream) -> Tun,
) -> Result<Arc<Tun>, TunnelError> {
    let (stop, stopped) = UnixStream::pair().map_err(TunnelError::Thread)?;
    let failed = |source| TunnelError::Listen { address: listen, source };
    let sockets = Link::bind_patiently(listen, queues()).await.map_err(failed)?;
    let udps: io::Result<Vec<Udp>> = sockets.into_iter().map(Udp::of_thread).collect();
    let mut udps = udps.map_err(failed)?.into_iter();
    let first = udps.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let tun = Arc::new(finish(Link::new(private, first, udps.collect()), stop));
    let threads: Result<Vec<_>, TunnelError> =
        (0..tun.queues()).map(|number| thread(&tun, number, &stopped, manner)).collect();
    let threads = threads.inspect_err(|_| tun.stop())?;
    tasks.spawn("tunnel-threads", async move {
        // A thread that is gone has nothing to say.
        let _ended = join_all(threads).await;
    });
    Ok(tun)
}

/// Runs the thread of a queue. What is returned ends when it does.
fn thread(
    tun: &Arc<Tun>,
    number: usize,
    stopped: &UnixStream,
    Manner { mtu, in_batches }: Manner,
) -> Result<oneshot::Receiver<()>, TunnelError> {
    let (tun, stopped) = (Arc::clone(tun), stopped.try_clone().map_err(TunnelError::Thread)?);
    let (end, ended) = oneshot::channel();
    let run = move || {
        let _end: oneshot::Sender<()> = end;
        // It is woken for every packet, by those who would go on making more if it let them.
        if let Some(error) = in_batches.then(schedule::batch).and_then(Result::err) {
            tracing::info!(%error, "a thread of the tunnel interrupts others when it is woken");
        }
        Worker::new(&tun, number, mtu).run(&stopped);
    };
    std::thread::Builder::new().name(format!("tunnel-{number}")).spawn(run).map_err(TunnelError::Thread)?;
    Ok(ended)
}
