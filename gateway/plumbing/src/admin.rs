//! The admin port: `/metrics`, `/healthz`, `/readyz`. Meant for loopback; it asks nobody who they are.

mod readiness;

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

pub use self::readiness::{Readiness, ReadinessCheck};
use crate::http::server::{self, Bounds};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// How many connections are served at once. All of them may be one operator's.
const MAX_CONNECTIONS: usize = 64;

/// A scraper keeps its connection.
const BOUNDS: Bounds =
    Bounds { connections: MAX_CONNECTIONS, per_source: MAX_CONNECTIONS, lifetime: Duration::from_secs(24 * 60 * 60) };

/// Serves the admin port until `shutdown`. `extra` is merged in. A program that drains should end the admin port after its
/// sessions, so that `/readyz` can say why it is not ready.
pub async fn serve(listener: TcpListener, metrics: Metrics, readiness: Readiness, extra: Router, shutdown: Shutdown) {
    server::serve(listener, "admin connection", router(metrics, readiness, extra), BOUNDS, shutdown).await;
}

fn router(metrics: Metrics, readiness: Readiness, extra: Router) -> Router {
    Router::new()
        .route("/metrics", get(async move || ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())))
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready).with_state(readiness))
        .merge(extra)
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let report = readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(report)).into_response()
}

#[cfg(test)]
mod tests;
