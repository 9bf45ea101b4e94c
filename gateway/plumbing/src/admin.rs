//! The admin port: `/metrics`, `/healthz`, `/readyz`. Meant for loopback; it asks nobody who they are.

mod readiness;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub use self::readiness::{Readiness, ReadinessCheck};
use crate::accept;
use crate::shutdown::Shutdown;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// How long a request's head may take, and how long a connection may be idle between two.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// How long a handler may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// How many connections are served at once.
const MAX_CONNECTIONS: usize = 64;

/// How long requests that are being answered may go on after the shutdown.
const DRAIN: Duration = Duration::from_secs(1);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// Serves the admin port until `shutdown`. `extra` is merged in. A program that drains should end the admin port after its
/// sessions, so that `/readyz` can say why it is not ready.
pub async fn serve(listener: TcpListener, metrics: Metrics, readiness: Readiness, extra: Router, shutdown: Shutdown) {
    let router = router(metrics, readiness, extra);
    let connections = Tasks::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept::accept(&listener) => accepted,
            () = shutdown.triggered() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "the admin port has ended");
                break;
            }
        };
        // Above the limit a connection is closed at once: nobody should queue for a health check.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        connections.spawn("admin connection", async move {
            let _place = place;
            serve_connection(stream, router, shutdown).await;
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
        tracing::debug!(%error, "an admin connection broke");
    }
}

fn router(metrics: Metrics, readiness: Readiness, extra: Router) -> Router {
    Router::new()
        .route("/metrics", get(async move || ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready).with_state(readiness))
        .merge(extra)
        .layer(from_fn(within_deadline))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let report = readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(report)).into_response()
}

async fn within_deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[cfg(test)]
mod tests;
