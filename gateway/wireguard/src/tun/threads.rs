//! The two threads of a tunnel. Each waits for one descriptor and reads it itself.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use postern_plumbing::tasks::Tasks;
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use super::Tun;
use super::inbound::Joiner;
use crate::error::TunnelError;
use crate::key::PrivateKey;
use crate::link::Link;

/// Binds the socket, makes a tunnel of it with `finish`, and starts to move packets. A task of `tasks` lives as long as the
/// threads do.
pub(super) async fn start(
    private: PrivateKey,
    listen: SocketAddr,
    mtu: u16,
    tasks: &Tasks,
    finish: impl FnOnce(Link, UnixStream) -> Tun + Send + 'static,
) -> Result<Arc<Tun>, TunnelError> {
    let (stop, stopped) = UnixStream::pair().map_err(TunnelError::Thread)?;
    let (tell, told) = oneshot::channel();
    let received = thread("tunnel-in", move |runtime| {
        runtime.block_on(async move {
            // Here, since the socket belongs to the runtime in which it is bound.
            match Link::bind_patiently(private, listen).await {
                Ok(link) => {
                    let tun = Arc::new(finish(link, stop));
                    if tell.send(Ok(Arc::clone(&tun))).is_ok() {
                        receive(&tun).await;
                    }
                }
                // If nobody wants to know any more, there is nobody to tell.
                Err(source) => drop(tell.send(Err(TunnelError::Listen { address: listen, source }))),
            }
        });
    })?;
    let tun = told.await.map_err(|_| TunnelError::Thread(io::ErrorKind::BrokenPipe.into()))??;
    let sending = Arc::clone(&tun);
    let sent = thread("tunnel-out", move |runtime| sending.keep_sending(&stopped, mtu, &runtime));
    let sent = sent.inspect_err(|_| tun.stop())?;
    tasks.spawn("tunnel-threads", async move {
        // A thread that is gone has nothing to say.
        let _ended = tokio::join!(received, sent);
    });
    Ok(tun)
}

async fn receive(tun: &Tun) {
    let mut joiner = Joiner::new();
    tokio::select! {
        never = tun.link.keep_receiving(|inbound, _| joiner.deliver(tun, inbound)) => match never {},
        never = tun.link.keep_draining() => match never {},
        never = tun.link.keep_ticking() => match never {},
        () = tun.shutdown.triggered() => {}
    }
}

/// Runs a thread with a runtime of its own. What it returns ends when the thread does.
fn thread(
    name: &'static str,
    work: impl FnOnce(Runtime) + Send + 'static,
) -> Result<oneshot::Receiver<()>, TunnelError> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(TunnelError::Thread)?;
    let (end, ended) = oneshot::channel();
    let run = move || {
        let _end: oneshot::Sender<()> = end;
        work(runtime);
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(TunnelError::Thread)?;
    Ok(ended)
}
