//! Accepting connections without dying of, or spinning on, the errors that `accept(2)` brings.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::backoff::Backoff;
use crate::clock;

/// Pauses while the machine is short of descriptors or memory.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// Seconds between two warnings about a shortage.
const WARN_EVERY: u64 = 10;

/// A dead peer is noticed after 60 s of silence and six unanswered probes, 10 s apart.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 6);

/// How long written bytes may stay unacknowledged before the connection is given up.
const UNACKNOWLEDGED: Duration = Duration::from_secs(120);

/// The listener itself is broken; it will never accept again.
#[derive(Debug, thiserror::Error)]
#[error("the listener is broken: {0}")]
pub struct Fatal(#[source] pub io::Error);

/// What an error of `accept(2)` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The connection that was about to be accepted is gone; the next one may be fine.
    Connection,
    /// The machine is short of something; trying at once would spin. Unknown errors count as such.
    Resource,
    /// The listener cannot work any more.
    Fatal,
}

/// Says what an error of `accept(2)` is about. The list follows `accept(2)`, which hands on pending network errors of the
/// new connection as its own.
#[must_use]
pub fn classify(error: &io::Error) -> Class {
    let Some(code) = error.raw_os_error() else {
        let transient = [io::ErrorKind::Interrupted, io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset];
        return if transient.contains(&error.kind()) { Class::Connection } else { Class::Resource };
    };
    match code {
        libc::ECONNABORTED
        | libc::ECONNRESET
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH
        | libc::EINTR
        | libc::ENETDOWN
        | libc::ENETUNREACH
        | libc::ENONET
        | libc::ENOPROTOOPT
        | libc::EOPNOTSUPP
        | libc::EPERM
        | libc::EPROTO
        | libc::ETIMEDOUT => Class::Connection,
        libc::EBADF | libc::EFAULT | libc::EINVAL | libc::ENOTSOCK => Class::Fatal,
        _ => Class::Resource,
    }
}

/// How many connections may wait at a listener until they are accepted. The system has a limit of its own.
const BACKLOG: i32 = 4096;

/// Finds out whether an address can be listened on, and by nobody else: an answer that [`listen`] does not give. For port 0
/// the answer names one that is free.
///
/// # Errors
/// What the system says; `AddrInUse` when somebody listens there.
pub fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Listens on an address for [`next`], together with other listeners of this user that were made here; the system spreads
/// the connections over them. What makes connections fit for interactive use is set on the listener, and Linux hands it on
/// to all that come of it, which saves six system calls for each.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    tune(&socket);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // So that a restart need not wait for connections of the last run.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// Accepts the next connection of a listener that was tuned, as those of [`listen`] are. Cancelling it loses no connection.
///
/// # Errors
/// Only when the listener itself is broken.
pub async fn next(listener: &TcpListener) -> Result<(TcpStream, SocketAddr), Fatal> {
    patiently(|| listener.accept()).await
}

/// Accepts the next connection, without Nagle's delay and with keepalive. Cancelling it loses no connection.
///
/// # Errors
/// Only when the listener itself is broken.
pub async fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr), Fatal> {
    let (stream, peer) = patiently(|| listener.accept()).await?;
    tune(&stream);
    Ok((stream, peer))
}

/// Tries to accept until it works or never will.
pub(crate) async fn patiently<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, Fatal>
where
    F: Future<Output = io::Result<T>>,
{
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    loop {
        let error = match attempt().await {
            Ok(accepted) => return Ok(accepted),
            Err(error) => error,
        };
        match classify(&error) {
            Class::Fatal => return Err(Fatal(error)),
            Class::Connection => {
                metrics::counter!("accept_errors_total", "class" => "connection").increment(1);
                tracing::debug!(%error, "a connection was gone before it was accepted");
            }
            Class::Resource => {
                metrics::counter!("accept_errors_total", "class" => "resource").increment(1);
                if due_for_warning(&LAST_WARNING, clock::unix_now()) {
                    tracing::warn!(%error, "cannot accept connections for now");
                }
                // At least half of the limit: full jitter could come out as no pause at all.
                tokio::time::sleep(backoff.next(0.5 + rand::random::<f64>() / 2.0)).await;
            }
        }
    }
}

/// Makes a connection fit for interactive use: no delay for small packets, and dead peers are noticed. What the system
/// does not allow is left out; the connection works without it.
pub fn tune(stream: &impl AsFd) {
    let (idle, interval, probes) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    let socket = SockRef::from(stream);
    let settings = [
        socket.set_tcp_nodelay(true),
        socket.set_tcp_keepalive(&keepalive),
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)),
    ];
    for error in settings.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a connection could not be tuned");
    }
}

/// When the whole process last warned of a shortage.
static LAST_WARNING: AtomicU64 = AtomicU64::new(0);

/// Whether a warning may be written now: one per period.
fn due_for_warning(last_warning: &AtomicU64, now: u64) -> bool {
    let last = last_warning.load(Ordering::Relaxed);
    // A clock that was set back makes a warning due as well.
    (now < last || now - last >= WARN_EVERY)
        && last_warning.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests;
