//! Serves a router over TCP, with bounds on everything that a stranger can hold on to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::accept;
use crate::shutdown::Shutdown;
use crate::tasks::Tasks;

/// How long a request's head may take, and how long a connection may be idle between two.
pub(crate) const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// How long a handler may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// How long requests that are being answered may go on after the shutdown.
const DRAIN: Duration = Duration::from_secs(1);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// What all connections to a server, and those of one source, may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address.
    pub per_source: usize,
    /// How long one connection may last, whatever it does: a reader that is slow holds its answer for no longer.
    pub lifetime: Duration,
}

/// Who asks, as an extension of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The connections that there are, by source.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// One of them, given back when dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    source: IpAddr,
}

/// Serves `router` until `shutdown`; `name` is what its connections are called in logs. Whoever connects beyond the bounds is
/// closed at once: nobody should queue.
pub async fn serve(listener: TcpListener, name: &'static str, router: Router, bounds: Bounds, shutdown: Shutdown) {
    let router = router.layer(from_fn(within_deadline));
    let (connections, places) = (Tasks::new(), Places::default());
    loop {
        let accepted = tokio::select! {
            accepted = accept::accept(&listener) => accepted,
            () = shutdown.triggered() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, name, "a port for HTTP has ended");
                break;
            }
        };
        let Some(place) = places.take(peer.ip(), bounds) else { continue };
        let router = router.clone().layer(Extension(Peer(peer)));
        let shutdown = shutdown.clone();
        connections.spawn(name, async move {
            let _place = place;
            let serving = serve_connection(stream, router, shutdown);
            if tokio::time::timeout(bounds.lifetime, serving).await.is_err() {
                tracing::debug!(name, "a connection has lasted for long enough");
            }
        });
    }
    drop(listener);
    connections.close_and_wait(DRAIN).await;
}

async fn serve_connection(stream: TcpStream, router: Router, shutdown: Shutdown) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.triggered() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

async fn within_deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

impl Places {
    fn take(&self, source: IpAddr, bounds: Bounds) -> Option<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = places.get(&source).copied().unwrap_or_default();
        if places.values().sum::<usize>() >= bounds.connections || taken >= bounds.per_source {
            return None;
        }
        places.insert(source, taken + 1);
        Some(Place { places: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        match places.get_mut(&self.source) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => drop(places.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::tasks::Task;

    const BOUNDS: Bounds = Bounds { connections: 3, per_source: 2, lifetime: Duration::from_secs(60) };

    #[test]
    fn places_have_bounds_in_total_and_for_each_source_and_are_given_back() {
        let (places, [first, second, third]) =
            (Places::default(), [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last])));
        let take = |source| places.take(source, BOUNDS);
        let held = [take(first).unwrap(), take(first).unwrap()];
        assert!(take(first).is_none(), "one source has two");
        let other = take(second).unwrap();
        assert!(take(third).is_none(), "there are three in total");
        drop(other);
        assert!(take(third).is_some());
        drop(held);
        assert!(places.0.lock().unwrap().is_empty(), "nothing is remembered of who is gone");
    }

    async fn start(router: Router) -> (SocketAddr, Task<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, Task::spawn("http", serve(listener, "http", router, BOUNDS, Shutdown::new())))
    }

    #[tokio::test]
    async fn handlers_know_who_asks() {
        let router = Router::new().route("/", get(async |Extension(Peer(peer)): Extension<Peer>| peer.to_string()));
        let (address, _server) = start(router).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(&stream.local_addr().unwrap().to_string()), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_however_busy_it_is() {
        let (address, _server) = start(Router::new().route("/", get(async || "x"))).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let started = tokio::time::Instant::now();
        let mut answer = [0; 1024];
        while stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.is_ok() {
            if !matches!(stream.read(&mut answer).await, Ok(1..)) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!((59..=70).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    }
}
